"""Every reason for which the machine can stop native code, on every way out of it: what the event says, and mending.

Each cause is a small function whose faulting instruction stands at the label `fault`. Around it the function keeps
marks in registers that the event must show; once mended it returns a result that depends on them.
"""

import ctypes
import mmap
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from trapline import (
    CHECK_ADDRESS,
    CodeImage,
    Event,
    Fiber,
    FiberError,
    FiberState,
    StopReason,
    Trap,
    TrapCode,
    assemble,
)

NOT_CANONICAL = 0x8000_0000_0000_0000
MARK = 0x1122_3344_5566_7788
PATHS = ("inject", "direct", "unwind")
MEMORY = (ctypes.c_uint64 * 16)()
"""Memory that the code may read and write."""
MAPPED = ctypes.addressof(MEMORY)


@dataclass(frozen=True)
class Cause:
    """One way to stop. `body` follows `mov rbx, MARK; movq xmm7, rbx` and ends in rax before `xor rax, rbx; ret`.

    `argument` goes to rsi. `mend` changes the state so that `resume` then gives `result`; a text is the label where
    to resume instead; None skips the instruction. `reported` is the pc of the event where it is not `fault`.
    """

    name: str
    body: str
    trap: TrapCode
    result: int
    argument: int = 0
    mend: Callable[[Event], None] | str | None = None
    text: str | None = None
    address: int | None = None
    access: str | None = None
    reported: int | None = None


def give(**values: int) -> Callable[[Event], None]:
    def mend(event: Event) -> None:
        for name, value in values.items():
            event.registers[name] = value

    return mend


def repair_x87(event: Event) -> None:
    event.registers.fcw = 0x37F
    event.registers.fsw = 0


CAUSES = [
    Cause("int3", "mov eax, 3\nfault: int3", TrapCode.BREAKPOINT_INSTRUCTION, 3, mend=give(), text="int3"),
    Cause("hlt", "mov eax, 4\nfault: hlt", TrapCode.TRAP_INSTRUCTION, 4, text="hlt"),
    Cause("ud2", "mov eax, 5\nfault: ud2", TrapCode.ILLEGAL_INSTRUCTION, 5, text="ud2"),
    Cause("cli", "mov eax, 6\nfault: cli", TrapCode.PRIVILEGED_INSTRUCTION, 6, text="cli"),
    Cause(
        "divide-by-zero",
        "mov eax, 100\nxor edx, edx\nfault: div esi",
        TrapCode.DIVISION,
        14,
        mend=give(esi=7),
        text="div esi",
    ),
    Cause(
        "divide-overflow",
        "mov eax, 0x80000000\ncdq\nfault: idiv esi",
        TrapCode.DIVISION,
        0x8000_0000,
        argument=0xFFFF_FFFF,
        mend=give(esi=1),
        text="idiv esi",
    ),
    Cause(
        "load",
        "fault: mov rax, qword ptr [rsi + 8]",
        TrapCode.MEMORY_READ,
        99,
        argument=0x10,
        mend=give(rsi=MAPPED),
        text="mov rax, qword ptr [rsi + 8]",
        address=0x18,
        access="read",
    ),
    Cause(
        "store",
        "mov rax, rsi\nfault: mov qword ptr [rsi], rbx",
        TrapCode.MEMORY_WRITE,
        0x20,
        argument=0x20,
        mend=give(rsi=MAPPED),
        text="mov qword ptr [rsi], rbx",
        address=0x20,
        access="write",
    ),
    Cause(
        "store-into-code",
        "mov eax, 7\nlea rsi, [rip + fault]\nfault: mov byte ptr [rsi], 0",
        TrapCode.MEMORY_WRITE,
        7,
        mend=give(rsi=MAPPED),
        text="mov byte ptr [rsi], 0",
        access="write",
    ),
    Cause(
        "jump-to-unmapped",
        "fault: jmp rsi\nafter: mov eax, 8",
        TrapCode.INSTRUCTION_FETCH,
        8,
        argument=0x40,
        mend="after",
        address=0x40,
        access="execute",
        reported=0x40,
    ),
    Cause(
        "jump-to-data",
        "fault: jmp rsi\nafter: mov eax, 9",
        TrapCode.INSTRUCTION_FETCH,
        9,
        argument=MAPPED,
        mend="after",
        address=MAPPED,
        access="execute",
        reported=MAPPED,
    ),
    Cause(
        "call-of-unmapped",
        "fault: call rsi\nafter: add rsp, 8\nmov eax, 10",
        TrapCode.INSTRUCTION_FETCH,
        10,
        argument=0x50,
        mend="after",
        address=0x50,
        access="execute",
        reported=0x50,
    ),
    Cause(
        "load-not-canonical",
        "fault: mov rax, qword ptr [rsi + 8]",
        TrapCode.PRIVILEGED_INSTRUCTION,
        99,
        argument=NOT_CANONICAL,
        mend=give(rsi=MAPPED),
        text="mov rax, qword ptr [rsi + 8]",
    ),
    Cause(
        "stack-segment-not-canonical",
        "push rbp\nmov rbp, rsi\nfault: mov rax, qword ptr [rbp + 8]\npop rbp",
        TrapCode.MEMORY_ACCESS,
        99,
        argument=NOT_CANONICAL,
        mend=give(rbp=MAPPED),
        text="mov rax, qword ptr [rbp + 8]",
        access="access",
    ),
    Cause(
        "jump-not-canonical",
        "fault: jmp rsi\nafter: mov eax, 11",
        TrapCode.PRIVILEGED_INSTRUCTION,
        11,
        argument=NOT_CANONICAL,
        mend="after",
        text="jmp rsi",
    ),
    Cause(
        "simd-exception",
        """
        push 0x1d80
        ldmxcsr dword ptr [rsp]
        pop rax
        mov eax, 1
        cvtsi2sd xmm0, rax
        xorps xmm1, xmm1
        fault: divsd xmm0, xmm1
        movq rax, xmm0
        """,
        TrapCode.FLOATING_POINT,
        0x7FF0_0000_0000_0000,
        mend=give(mxcsr=0x1F80),
        text="divsd xmm0, xmm1",
    ),
    Cause(
        "x87-exception",
        """
        push 0x37b
        fldcw word ptr [rsp]
        pop rax
        fld1
        fldz
        fdivp st(1), st(0)
        fault: wait
        mov eax, 12
        fninit
        """,
        TrapCode.FLOATING_POINT,
        12,
        mend=repair_x87,
        text="wait",
    ),
    Cause(
        "trap-flag",
        """
        mov eax, 13
        pushfq
        or dword ptr [rsp], 0x100
        popfq
        nop
        fault: nop
        """,
        TrapCode.SINGLE_STEP,
        13,
        mend=give(tf=0),
        text="nop",
    ),
]


def build(body: str) -> CodeImage:
    return CodeImage(
        assemble(
            f"""
            start:
                movabs rbx, {MARK:#x}
                movq xmm7, rbx
                mov r15, rdi
            {body}
                xor rax, rbx
                ret
            """
        ),
        name="cause",
    )


@pytest.fixture(autouse=True)
def memory() -> None:
    for index in range(len(MEMORY)):
        MEMORY[index] = 98 + index


def check_event(event: Event, fiber: Fiber, cause: Cause, code: CodeImage) -> None:
    fault = code.address_of("fault")
    assert event.reason is StopReason.TRAP
    assert event.trap is cause.trap, event
    assert event.pc == (fault if cause.reported is None else cause.reported), event
    assert event.access == cause.access
    if cause.name == "store-into-code":
        assert event.address == fault
    else:
        assert event.address == cause.address
    if cause.text is not None:
        assert event.instruction is not None
        assert event.instruction.text == cause.text
        assert event.where == "fault"
        assert event.code is code
    assert event.registers.rbx == MARK
    assert event.registers.r15 == 0xABCD
    assert event.registers.xmm7 & (1 << 64) - 1 == MARK
    assert fiber.last_event().pc == event.pc
    assert cause.trap.value in str(event)
    assert f"{event.pc:#x}" in event.report()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_cause(cause: Cause, path: str) -> None:
    code = build(cause.body)
    fiber = Fiber(code["start"], (0xABCD, cause.argument), path=path, signature="u64")
    event = fiber.resume()
    assert event is not None
    check_event(event, fiber, cause, code)
    if path == "unwind":
        assert fiber.state is FiberState.UNWOUND
        with pytest.raises(FiberError, match="unwound"):
            fiber.resume()
        with pytest.raises(FiberError, match="unwound"):
            event.registers.rax = 1
        return
    assert fiber.state is FiberState.SUSPENDED
    if cause.mend is None:
        ended = fiber.skip()
    elif isinstance(cause.mend, str):
        ended = fiber.resume_at(cause.mend)
    else:
        cause.mend(event)
        ended = fiber.resume()
    assert ended is None, ended
    assert not event.valid
    assert fiber.result == cause.result ^ MARK


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_in_a_plain_call(cause: Cause, path: str) -> None:
    code = build(cause.body)
    with pytest.raises(Trap) as caught:
        code.function("start", "u64", path=path)(0xABCD, cause.argument)
    trap = caught.value
    assert trap.code is cause.trap
    assert trap.pc == (code.address_of("fault") if cause.reported is None else cause.reported)
    assert trap.registers["rbx"] == MARK
    assert trap.registers["r15"] == 0xABCD


def test_each_cause_once_after_the_other_in_one_handler() -> None:
    """A handler of a function may mend one trap after the other."""
    code = CodeImage(
        assemble(
            """
            start: mov eax, 100
                   xor edx, edx
                   div esi
                   add rax, qword ptr [rdi]
                   hlt
                   int3
                   ret
            """
        )
    )
    seen: list[str] = []

    def handler(event: object) -> None:
        assert isinstance(event, Event)
        assert event.trap is not None
        seen.append(event.trap.name)
        if event.trap is TrapCode.DIVISION:
            event.registers.esi = 10
        elif event.trap is TrapCode.MEMORY_READ:
            event.registers.rdi = MAPPED
        elif event.trap is TrapCode.TRAP_INSTRUCTION:
            event.skip()

    assert code.function("start", "u64", handler=handler)(8, 0) == 108
    assert seen == ["DIVISION", "MEMORY_READ", "TRAP_INSTRUCTION", "BREAKPOINT_INSTRUCTION"]


# ---- memory with nothing behind it ----


@pytest.fixture
def short_file() -> Iterator[tuple[int, mmap.mmap, object]]:
    """Two pages mapped of a file that has one: the address, the mapping, the file."""
    with tempfile.TemporaryFile() as file:
        file.truncate(2 * mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), 2 * mmap.PAGESIZE) as mapping:
            file.truncate(mmap.PAGESIZE)
            view = ctypes.c_char.from_buffer(mapping)
            yield ctypes.addressof(view), mapping, file
            del view


@pytest.mark.parametrize("path", PATHS)
def test_beyond_the_end_of_a_file(short_file: tuple[int, mmap.mmap, object], path: str) -> None:
    address, _, file = short_file
    code = build("fault: mov rax, qword ptr [rsi + 16]")
    fiber = Fiber(code["start"], (0xABCD, address + mmap.PAGESIZE), path=path, signature="u64")
    event = fiber.resume()
    assert event is not None
    assert event.trap is TrapCode.BUS
    assert event.address == address + mmap.PAGESIZE + 16
    assert event.access == "access"
    assert event.pc == code.address_of("fault")
    if path != "unwind":
        file.truncate(2 * mmap.PAGESIZE)  # type: ignore[attr-defined]
        assert fiber.resume() is None
        assert fiber.result == MARK


# ---- jumps ----


@pytest.mark.parametrize("path", PATHS)
def test_jump_into_the_own_stack(path: str) -> None:
    code = build("lea rsi, [rsp - 64]\nfault: jmp rsi\nafter: mov eax, 1")
    fiber = Fiber(code["start"], (0xABCD,), path=path, signature="u64")
    event = fiber.resume()
    assert event is not None
    assert event.trap is TrapCode.INSTRUCTION_FETCH
    assert event.pc == event.address == event.registers.rsp - 64
    assert event.access == "execute"
    assert event.code is None
    assert event.where == f"{event.pc:#x}"
    with pytest.raises(FiberError, match="outside code"):
        event.skip() if path != "unwind" else fiber.target(event.pc)
    if path != "unwind":
        assert fiber.resume_at("after") is None
        assert fiber.result == 1 ^ MARK


@pytest.mark.parametrize("path", PATHS)
def test_jump_behind_the_published_code(path: str) -> None:
    """Capacity that nothing is published in yet is not executable."""
    code = CodeImage(assemble("start: jmp rdi\nafter: mov eax, 2\nret"), capacity_bytes=1 << 16)
    fiber = Fiber(code["start"], (code.base + 0x8000,), path=path)
    event = fiber.resume()
    assert event is not None
    assert event.trap is TrapCode.INSTRUCTION_FETCH
    assert event.pc == event.address == code.base + 0x8000
    assert event.instruction is None or event.instruction.is_bad
    if path != "unwind":
        assert fiber.resume_at("after") is None
        assert fiber.result == 2


# ---- stack overflow ----

OVERFLOWS = {
    "push": "start: fault: push rdi\ninc rax\ncmp rax, rsi\njb start\nlea rsp, [rsp + 8*rax]\nret",
    "call": "start: xor eax, eax\nmov rdi, rsi\nagain: inc rax\ndec rdi\njz back\nfault: call again\nback: ret",
    "sub": """
    start: mov rcx, rsp
           sub rsp, rdi
    fault: mov qword ptr [rsp], rdi
           mov rax, qword ptr [rsp]
           mov rsp, rcx
           ret
    """,
    "xmm": """
    start: mov rcx, rsp
           sub rsp, rdi
           and rsp, -16
           cvtsi2sd xmm0, rdi
    fault: movaps xmmword ptr [rsp], xmm0
           cvttsd2si rax, qword ptr [rsp]
           mov rsp, rcx
           ret
    """,
}
BIG = 3 << 20


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", OVERFLOWS)
def test_stack_overflow(form: str, path: str) -> None:
    code = CodeImage(assemble(OVERFLOWS[form]))
    arguments = (BIG,) if form in ("sub", "xmm") else (5, BIG // 8)
    fiber = Fiber(code["start"], arguments, path=path)
    mapping, reserved, low, high = fiber.stack_bounds
    event = fiber.resume()
    assert event is not None
    assert event.trap is TrapCode.STACK_OVERFLOW, event
    assert event.pc == code.address_of("fault")
    assert event.access == "write"
    assert event.address is not None
    assert mapping <= event.address < low
    assert event.registers.rdi in (*arguments, arguments[-1] - event.registers.rax)
    if path == "unwind":
        return
    grown = fiber.grow_stack(BIG + (64 << 10))
    assert grown == high - fiber.stack_bounds[2]
    assert fiber.stack_bounds[2] >= reserved
    assert fiber.resume() is None
    assert fiber.result == arguments[-1]


def test_stack_overflow_again_and_again() -> None:
    """The stack grows by single pages, one overflow each, as far as it is reserved; then no further."""
    code = CodeImage(assemble(OVERFLOWS["push"]))
    fiber = Fiber(code["start"], (5, 1 << 40), stack_bytes=4096, max_stack_bytes=64 << 10)
    for expected in range(2, 17):
        event = fiber.resume()
        assert event is not None
        assert event.trap is TrapCode.STACK_OVERFLOW
        assert fiber.grow_stack(4096) == 4096 * expected
    event = fiber.resume()
    assert event is not None
    assert event.trap is TrapCode.STACK_OVERFLOW
    with pytest.raises(FiberError, match="no more room"):
        fiber.grow_stack(1)
    event.registers.rsi = 0
    fiber.registers.rsp += 8  # room for the push
    assert fiber.state is FiberState.SUSPENDED


# ---- check ----

CHECKS = """
    start:  movabs rbx, {mark:#x}
            push rdi
            stc
            call qword ptr [rip + check]
    after:  sbb rax, rax
            pop rdi
            sub rdi, rax
            lea rax, [rdi + rsi]
            ret
    check:  .quad {check}
"""


@pytest.mark.parametrize("path", PATHS)
def test_check(path: str) -> None:
    """The explicit way out keeps the flags, and can be resumed on every path."""
    code = CodeImage(assemble(CHECKS.format(mark=MARK, check=CHECK_ADDRESS)))
    fiber = Fiber(code["start"], (40, 1), path=path)
    event = fiber.resume()
    assert event is not None
    assert event.reason is StopReason.CHECK
    assert (event.trap, event.fault, event.address, event.access) == (None, None, None, None)
    assert event.pc == code.address_of("after")
    assert event.registers.rbx == MARK
    assert event.registers.cf == 1
    event.registers.rsi = 2
    with pytest.raises(FiberError, match="nothing to skip"):
        event.skip()
    assert fiber.resume() is None
    assert fiber.result == 43


# ---- what no processor takes ----


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("name", "bad", "good"), [("rip", NOT_CANONICAL, None), ("mxcsr", 0xFFFF_FFFF, 0x1F80)], ids=["rip", "mxcsr"]
)
@pytest.mark.parametrize("started", [False, True])
def test_registers_that_cannot_be_loaded(path: str, name: str, bad: int, good: int | None, started: bool) -> None:
    """A value that the processor refuses stops the fiber where it was, and can be put right."""
    code = CodeImage(assemble("start: mov eax, 5\nint3\nafter: ret"))
    fiber = Fiber(code["start"], (), path="inject" if started else path)
    if started:
        assert fiber.resume() is not None
    where = code.address_of("after" if started else "start")
    fiber.registers[name] = bad
    event = fiber.resume()
    assert event is not None
    assert event.trap is TrapCode.PRIVILEGED_INSTRUCTION
    assert event.pc == (bad if name == "rip" else where)
    if fiber.state is FiberState.UNWOUND:
        assert path == "unwind"
        return
    fiber.registers[name] = where if good is None else good
    if not started:
        event = fiber.resume()
        assert event is not None
        assert event.trap is TrapCode.BREAKPOINT_INSTRUCTION
    assert fiber.resume() is None
    assert fiber.result == 5


def test_an_event_stays_as_it_was() -> None:
    """What an event says does not change with the registers that are written through it."""
    code = build("fault: hlt\nafter: int3")
    fiber = Fiber(code["start"], (0xABCD,))
    event = fiber.resume()
    assert event is not None
    pc, trap, text = event.pc, event.trap, str(event)
    event.jump("after")
    event.registers.rax = 1
    assert (event.pc, event.trap, str(event)) == (pc, trap, text)
    event = fiber.resume()
    assert event is not None
    assert event.pc == code.address_of("after")
    event.jump("start")
    assert event.pc == code.address_of("after")
    event.skip()
    event.skip()
    assert fiber.resume() is None
    assert fiber.result == 1 ^ MARK


@pytest.mark.parametrize("tail", ["90", "b807", "48b8"])
@pytest.mark.parametrize("path", PATHS)
def test_running_off_the_end(path: str, tail: str, run_python: Callable[..., Any]) -> None:
    """Behind the last page of a full image is nothing, even where executable pages with a gap before them abound."""
    run = run_python(
        f"""
        import ctypes, mmap
        from trapline import *
        libc, page, tail = ctypes.CDLL(None), mmap.PAGESIZE, bytes.fromhex({tail!r})
        libc.mmap.restype, libc.munmap.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_size_t)
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
        spots = [libc.mmap(None, 3 * page, mmap.PROT_READ | mmap.PROT_EXEC, 0x22, -1, 0) for _ in range(50)]
        for spot in spots:
            libc.munmap(spot + page, page)
        code = bytes([0x90]) * (page - len(tail)) + tail
        images = [CodeImage(code, capacity_bytes=page) for _ in range(50)]
        for image in images:
            fiber = Fiber(image.base + page - 16, (), path={path!r})
            event = fiber.resume()
            assert event.trap is TrapCode.INSTRUCTION_FETCH, event
            assert event.address == image.base + page
            assert event.pc == image.base + page - (0 if tail == bytes([0x90]) else len(tail))
        """,
        core=False,
    )
    assert run.returncode == 0, run
