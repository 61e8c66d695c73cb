"""`trapline objdump`: WebAssembly opcodes, the native code made of them, and where values are, side by side.

    0x5f  local.get 0      |                          | p rax, n [0]
    0x61  i32.const 4      |                          | stack rax
    0x63  i32.add          |     lea ecx, [rax + 4]   | stack rax, 4

Left the opcode with its byte in the module. In the middle the instructions that belong to it: those from its stop
point to the next one. Right the state before the opcode: the locals that have moved since the line above, then the
operands, each a register, `[k]` for a slot of the frame, `arg k` for a word of arguments, a constant, or what it would
be computed from. There are no addresses of this process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

from trapline.cli.module_file import DEBUG, FILE, FUNCTION, find_function, is_full, read_module, shown_name
from trapline.cli.options import Command, Parsed
from trapline.errors import TraplineError

if TYPE_CHECKING:
    from trapline.cli.style import Style
    from trapline.compile.frame_table import FrameTable
    from trapline.compile.print_code import Line
    from trapline.compile.x86_64.target import Target
    from trapline.wasm.body import Body
    from trapline.wasm.module import Module

__all__ = ["COMMAND"]

_OPCODES: Final = 34
_NATIVE: Final = 46
"""Columns; what is longer pushes the next column."""
_OPCODE: Final = re.compile(r", opcode \d+")
"""What a comment says of the opcode, which stands beside it here."""
_BLOCK, _LOOP, _IF, _ELSE, _END = 0x02, 0x03, 0x04, 0x05, 0x0B


class _Row(NamedTuple):
    """One opcode at one stop point: its text, and the state before it as far as it is news."""

    text: str
    state: str


def _opcode_lines(body: Body) -> list[str]:
    """Each opcode with its byte in the module, indented by block."""
    from trapline.wasm.print_body import opcode_text

    width = len(f"{body.offsets[-1]:#x}")
    depth, lines = 0, []
    for code, immediate, offset in zip(body.opcodes, body.immediates, body.offsets, strict=True):
        if code in (_ELSE, _END):
            depth = max(depth - 1, 0)
        lines.append(f"{offset:#{width}x}  {'  ' * min(depth, 8)}{opcode_text(code, immediate)}")
        if code in (_BLOCK, _LOOP, _IF, _ELSE):
            depth += 1
    return lines


class _States:
    """The states of a function as texts, of which only news are told."""

    def __init__(self, table: FrameTable, names: dict[int, str]) -> None:
        self._table = table
        self._names = names
        self._before: list[str] = []

    def text(self, offset: int, opcode: int) -> str:
        from trapline.compile.print_table import entry_text
        from trapline.compile.x86_64.place_text import place_text

        state = self._table.state(offset, opcode)
        locals_ = [entry_text(entry, place_text) for entry in state.locals]
        news = [
            f"{self._names.get(at, f'${at}')} {place}"
            for at, place in enumerate(locals_)
            if self._before[at : at + 1] != [place]
        ]
        self._before = locals_
        operands = [entry_text(entry, place_text) for entry in state.operands]
        return "; ".join([*filter(None, [", ".join(news)]), *([f"stack {', '.join(operands)}"] if operands else [])])


def _function_lines(module: Module, index: int, full: bool, target: Target, style: Style) -> Iterator[str]:
    from trapline.compile.pipeline import compile_defined
    from trapline.compile.print_code import code_lines
    from trapline.compile.tabulate import tabulate
    from trapline.compile.x86_64.shapes import X86_64
    from trapline.wasm.body import decode_body
    from trapline.wasm.types import type_list

    defined = index - module.imported_functions
    compiled = compile_defined(module, defined, full, target)
    body = decode_body(module, defined)
    machine = X86_64(target.features.sse41)
    table = tabulate(compiled.func, compiled.allocation, compiled.emitted, body, machine, full)
    emitted = compiled.emitted
    declared = body.locals[body.param_count :]
    locals_ = f", locals {type_list(declared)}" if declared else ""
    yield style.name(f"{shown_name(module, index)}: {body.type}{locals_}")
    data_bytes = len(emitted.code) - emitted.data_start
    yield style.dim(
        f"bytes {body.start:#x} to {body.stop:#x} of the module; {emitted.data_start} bytes of code"
        + (f" and {data_bytes} of data" if data_bytes else "")
        + f", a frame of {emitted.frame_bytes}"
    )
    opcodes = _opcode_lines(body)
    states = _States(table, module.names.locals.get(index, {}))
    stops: dict[int, list[int]] = {}
    for offset, opcode in table.stops:
        stops.setdefault(offset, []).append(opcode)
    group: list[Line] = []
    rows: list[_Row] = []
    for line in code_lines(emitted):
        if line.offset in stops:
            yield from _side_by_side(rows, group, style)
            rows = [_Row(opcodes[opcode], states.text(line.offset, opcode)) for opcode in stops[line.offset]]
            group = []
        group.append(line)
    yield from _side_by_side(rows, group, style)
    left_out = len(opcodes) - len({opcode for found in stops.values() for opcode in found})
    if left_out:
        yield style.dim(f"{left_out} unreachable opcode{'s' * (left_out != 1)} without code")


def _side_by_side(rows: list[_Row], group: list[Line], style: Style) -> Iterator[str]:
    """The opcodes of one stop point beside the instructions behind it, which belong to the last of them."""
    if group and group[0].label is not None:
        yield _line(_Row("", ""), f"{group[0].label}:", style)
    native = [f"    {line.text}" + (f"  ; {_OPCODE.sub('', line.comment)}" if line.comment else "") for line in group]
    for row, code in zip_longest(rows, [""] * (len(rows) - 1) + native):
        yield _line(row or _Row("", ""), code or "", style)


def _line(row: _Row, code: str, style: Style) -> str:
    line = f"{style.bold(row.text)}{' ' * max(_OPCODES - len(row.text), 0)} {style.dim('|')} {code}"
    if row.state:
        line += f"{' ' * max(_NATIVE - len(code), 0)} {style.dim('|')} {style.place(row.state)}"
    return line.rstrip()


def _run(parsed: Parsed) -> int:
    import sys

    from trapline.cli.style import Style
    from trapline.compile.instance import InstanceLayout
    from trapline.compile.x86_64.target import Target

    file = parsed.text("file") or ""
    module = read_module(file)
    first = module.imported_functions
    wanted = parsed.text("function")
    indices = range(first, first + len(module.code)) if wanted is None else [find_function(module, wanted)]
    target, style = Target(InstanceLayout(module)), Style.of(sys.stdout)
    for number, index in enumerate(indices):
        if number:
            print()
        try:
            print("\n".join(_function_lines(module, index, is_full(parsed), target, style)))
        except TraplineError as error:
            raise TraplineError(f"{file}: {error}") from None
    return 0


COMMAND: Final = Command(
    "objdump",
    "opcodes, native code and the places of values side by side",
    _run,
    positionals=(FILE,),
    options=(FUNCTION, DEBUG),
    description=(
        "Print each function of a module: its opcodes with their bytes in the module, the instructions that belong to "
        "them, and where every local and operand is before each opcode: a register, [k] for a slot of the frame, arg k "
        "for a word of arguments, a constant, or (operation ...) for what would be computed. Nothing is run."
    ),
    examples=(
        ("trapline objdump -f fib fib.wasm", "one function"),
        ("trapline objdump -D live app.wasm | less", "all of them, with less kept for debuggers"),
    ),
)
