"""What is said of a trap: reason, place, calls, values, memory."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.programs import FUNCTIONS, compiled
from trapline import Engine, Instance, Module, Store, TrapEvent, WasmTrap
from trapline.cli import main
from trapline.cli.style import Style
from trapline.cli.trap_report import Sources, trap_report
from trapline.debug.lines import SourceLine
from trapline.wasm.module import Module as WasmModule
from trapline.wasm.text import parse_text

pytest.importorskip("wasmtime", reason="the text format needs wasmtime")
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")


def report_on(
    text: str, name: str, *args: object, colours: bool = False, sources: type[Sources] = Sources
) -> str:
    """The report on a call that traps."""
    store = Store(Engine())
    found: list[str] = []

    def handler(event: TrapEvent) -> None:
        found.append(trap_report(event, sources(), Style(colours)))

    store.set_trap_handler(handler)
    instance = Instance(store, Module(store.engine, parse_text(text), name="functions.wat"))
    with pytest.raises(WasmTrap):
        instance.exports[name](*args)
    assert len(found) == 1
    return found[0]


def test_a_bad_address(golden: Callable[[str | Path, str], None]) -> None:
    """The opcode, the calls, the values of the locals, the end of the memory."""
    golden("expected/memory.txt", report_on(FUNCTIONS, "outer", 16) + "\n")


def test_a_division(golden: Callable[[str | Path, str], None]) -> None:
    golden("expected/division.txt", report_on(FUNCTIONS, "divide", -7, 0) + "\n")


def test_endless_recursion() -> None:
    """Thousands of calls are one line."""
    lines = report_on(FUNCTIONS, "down", 0).splitlines()
    assert lines[0] == "trap: call stack exhausted"
    backtrace = lines[lines.index("Backtrace, innermost first:") + 1 :]
    assert [line.split()[:2] for line in backtrace[:2]] == [["0", "down"], ["1", "down"]]
    assert backtrace[2].strip().startswith("and ")
    assert backtrace[2].strip().endswith(" more calls from there")
    assert len(backtrace) == 3


def test_long_backtraces_are_cut() -> None:
    functions = [
        f'(func $f{number} (export "f{number}") (call $f{number + 1}))' for number in range(40)
    ]
    lines = report_on(f"(module {' '.join(functions)} (func $f40 unreachable))", "f0").splitlines()
    backtrace = lines[lines.index("Backtrace, innermost first:") + 1 :]
    assert [line.split()[1] for line in backtrace[:2]] == ["f40", "f39"]
    assert backtrace[16].strip() == "... 21 more lines ..."
    assert backtrace[-1].split()[:2] == ["40", "f0"]


def test_many_locals_are_cut() -> None:
    """Those with names come first."""
    text = f"(module (func (export \"f\") {'(local i32) ' * 40} (local $named i64) unreachable))"
    lines = report_on(text, "f").splitlines()
    assert sum(line.startswith("  local ") for line in lines) == 15
    assert any(line.split() == ["named", "i64", "0"] for line in lines)
    assert "  ... 25 more ..." in lines


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "(i64.store16 offset=4 (i32.const -1) (i64.const 1))",
            "out of bounds memory access: write of 2 bytes at 0x100000003, memory ends at 0x10000 (1 page)",
        ),
        (
            "(drop (i32.load8_u offset=65536 (i32.const 0)))",
            "out of bounds memory access: read of 1 byte at 0x10000, memory ends at 0x10000 (1 page)",
        ),
        ("(memory.fill (i32.const 65530) (i32.const 1) (i32.const 7))", "out of bounds memory access"),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", "invalid conversion to integer"),
        ("(call_indirect (i32.const 9))", "undefined element"),
        ("(call_indirect (i32.const 0))", "uninitialized element"),
    ],
)
def test_reasons(body: str, reason: str) -> None:
    text = f'(module (memory 1) (table 1 funcref) (func (export "f") {body}))'
    assert report_on(text, "f").splitlines()[0].startswith(f"trap: {reason}")


def test_colours_are_only_added() -> None:
    plain = report_on(FUNCTIONS, "outer", 16)
    coloured = report_on(FUNCTIONS, "outer", 16, colours=True)
    assert "\x1b[1;31m" in coloured
    for code in ("1;31", "1;33", "1;36", "32", "1", "2", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == plain


def test_a_program_with_lines(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The source line with a mark under its column, and lines for the callers."""
    source = Path(__file__).with_name("sum.c")
    monkeypatch.chdir(source.parents[1])
    program = str(compiled(source, "-O1"))
    assert main(["run", "-C", "cache=n", program]) == 0
    assert main(["run", "-C", "cache=n", program, "a", "b"]) == 7
    capfd.readouterr()
    assert main(["run", "-C", "cache=n", program, "a"]) == 134
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("trap: out of bounds memory access: read of 8 bytes at 0x7ffffff0, memory ends at 0x")
    number = next(at for at, line in enumerate(source.read_text().splitlines(), 1) if "numbers->first[i]" in line)
    assert lines[1] == f"   --> cli/sum.c:{number}:18"
    at = lines.index(f"  {number} |         total += numbers->first[i];")
    assert lines[at + 1] == "     |                  ^"
    assert any(line.split()[1:2] == ["main"] and "sum.c:" in line for line in lines)
    assert lines[-1]
    assert main(["run", "-C", "cache=n", "-D", "report=short", program, "a"]) == 134
    short = capfd.readouterr().err.splitlines()
    assert short[0].startswith("trap: out of bounds memory access")
    assert all(line.startswith("  at ") for line in short[1:])


class OuterOnly(Sources):
    """Knows the source of `outer` only: this file."""

    def find(self, module: WasmModule, pc: int) -> SourceLine | None:
        index = module.function_at(pc)
        is_outer = index is not None and module.function_name(index) == "outer"
        return SourceLine(__file__, 3, 5) if is_outer else None


def test_the_innermost_call_whose_source_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trap in a library is shown in the program's own line; one without any sources by its opcodes."""
    monkeypatch.chdir(Path(__file__).parent)
    lines = report_on(FUNCTIONS, "outer", 16, sources=OuterOnly).splitlines()
    assert lines[1] == "   --> test_trap_report.py:3:5 in outer"
    assert lines[5] == "   3 | from __future__ import annotations"
    assert lines[6] == "     |     ^"
    assert report_on(FUNCTIONS, "divide", 1, 0, sources=OuterOnly).splitlines()[1] == "   --> functions.wat, byte 0xb8"
