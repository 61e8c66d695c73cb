"""The errors themselves: one base class, messages with function, pc, what was found and what was expected."""

from __future__ import annotations

import inspect
import pickle
import platform

import pytest

import trapline
from tests.conftest import RunPython
from trapline import CodeImage, Fiber, Trap, TrapCode, TraplineError, assemble, errors

x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="the machine code here is x86-64")


def test_one_base_class() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert len(kinds) > 4
    for kind in kinds:
        assert issubclass(kind, TraplineError), kind
        assert not issubclass(kind, OSError | ValueError | TypeError), kind


def test_public_names() -> None:
    """Every error that the package can raise on purpose can be named without a submodule."""
    assert sorted(trapline.__all__) == sorted(set(trapline.__all__))
    for name in trapline.__all__:
        assert hasattr(trapline, name)
    for name in ("AssemblyError", "CodeError", "FiberError", "NativeError", "Trap", "TraplineError"):
        assert getattr(trapline, name) is getattr(errors, name)


STOPS = {
    "int3": ("breakpoint instruction", None),
    "hlt": ("trap instruction", None),
    "ud2": ("illegal instruction", None),
    "xor ecx, ecx\ndiv ecx": ("integer division by zero or overflow", None),
    "mov eax, [0x10]": ("memory fault on a read", 0x10),
    "mov dword ptr [0x20], 1": ("memory fault on a write", 0x20),
    "xor eax, eax\njmp rax": ("jump to memory that is not executable code", 0),
    "mov rax, 0x8000000000000000\njmp rax": ("privileged instruction or general protection fault", None),
    "mov rax, 0x8000000000000000\nmov eax, [rax]": ("privileged instruction or general protection fault", None),
    "mov rax, 0x4141414141414141\npush rax\nret": ("privileged instruction or general protection fault", None),
    "in al, dx": ("privileged instruction or general protection fault", None),
    "l: push rax\njmp l": ("stack overflow", None),
    "xor esp, esp\npush rax": ("memory fault on a write", 2**64 - 8),
}


@x86_64_only
@pytest.mark.parametrize("path", ["inject", "direct", "unwind"])
@pytest.mark.parametrize("text", STOPS)
def test_traps(text: str, path: str) -> None:
    """Each kind of trap, by each path: code, function, pc, address, registers, and all of it in the message."""
    reason, address = STOPS[text]
    code = CodeImage(assemble(f"start: mov edi, 0x1234\n{text}\nret"), name="code")
    with pytest.raises(Trap) as caught:
        code.function("start", path=path)()
    trap = caught.value
    assert trap.code is TrapCode(reason)
    assert trap.registers["rdi"] == 0x1234
    assert f"pc {trap.pc:#x}" in str(trap)
    assert str(trap).startswith("start: ")
    assert reason in str(trap)
    if address is not None:
        assert trap.address == address
        assert f"{address:#x}" in str(trap)
    if trap.pc in code:
        assert trap.function.startswith(("start+", "l"))
        assert trap.function in str(trap)
    again = pickle.loads(pickle.dumps(trap))
    assert (str(again), vars(again).keys()) == (str(trap), vars(trap).keys())
    assert (again.code, again.pc, again.registers) == (trap.code, trap.pc, trap.registers)


@x86_64_only
@pytest.mark.parametrize("text", STOPS)
def test_reports(text: str) -> None:
    """An event of each kind prints, reports, disassembles and shows its stack without an error."""
    code = CodeImage(assemble(f"start: mov edi, 0x1234\n{text}\nret"), name="code")
    event = Fiber(code["start"]).resume()
    assert event is not None
    assert str(event)
    assert repr(event)
    assert hex(event.pc)[2:] in event.report()
    assert event.stack() is not None
    assert event.access in (None, "read", "write", "execute", "access")
    for before, after in ((0, 0), (0, 1), (100, 100), (1, 0)):
        event.disassembly(before, after)


@x86_64_only
def test_resuming_where_nothing_can_run() -> None:
    """A pc that no processor takes, or without code behind it: again an event, as often as it is tried."""
    code = CodeImage(assemble("int3\nmov eax, 7\nret"), name="code")
    for pc in (0, 1, 1 << 47, 1 << 63, 2**64 - 1, 0xFFFF_8000_0000_0000):
        fiber = Fiber(code.base)
        fiber.resume()
        fiber.pc = pc
        for _ in range(3):
            event = fiber.resume()
            assert event is not None
            assert event.reason is trapline.StopReason.TRAP
            assert event.pc == pc
            assert event.report()
        fiber.pc = code.base + 1
        assert fiber.resume() is None
        assert fiber.result == 7


@x86_64_only
def test_no_stop_no_trap() -> None:
    """A call that stops without a trap is a Trap without a code."""
    text = "start: mov rax, check\ncall rax\nret"
    code = CodeImage(assemble(text, symbols={"check": trapline.CHECK_ADDRESS}))
    with pytest.raises(Trap, match=r"start: check at start") as caught:
        code["start"]()
    assert caught.value.code is None
    copy = code.copy(breakpoints=4)
    copy.add_breakpoint("start")
    with pytest.raises(Trap, match=r"start: breakpoint at start") as caught:
        copy["start"]()
    assert caught.value.code is None
    assert caught.value.pc == copy.base


def test_closed_stdout_and_no_streams(run_python: RunPython) -> None:
    """Errors are made without printing anything: nothing is written, whatever the streams are."""
    script = """
        import os, sys, trapline
        os.close(1); os.close(2)
        sys.stdout = sys.stderr = None
        code = trapline.CodeImage(trapline.native.HOST.trap_code * 2)
        try:
            code[0]()
        except trapline.Trap as trap:
            assert str(trap)
            os._exit(17)
    """
    run = run_python(script)
    assert (run.returncode, run.stdout, run.stderr) == (17, "", ""), run
