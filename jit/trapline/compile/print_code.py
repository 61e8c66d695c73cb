"""Machine code as text: disassembly with labels, the opcode of each stop point, the kind of each trap site.

    b1:
      # 0..3 if [i32]
        cmp eax, 2
        jge L1
    L1:
        hlt                                             ; unreachable, opcode 12

A line `# 0..3 if` is the stop point of opcodes 0 to 3, of which only the last has code: it is named. There are no
addresses: jumps inside the function go to labels, so that one more byte somewhere changes one line. Behind the code
come its jump tables, as the labels they lead to, and its constants.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from trapline.asm.disassemble import Instruction, disassemble
from trapline.wasm.print_body import opcode_text

__all__ = ["Code", "Line", "code_lines", "print_code"]

_COMMENT_COLUMN: Final = 56
_JUMP: Final = re.compile(r"(?:j\w+|call|b|bl|b\.\w+) (0x[0-9a-f]+|\d+)")


class TrapSite(Protocol):
    """trapline.compile.x86_64.emit.TrapRow."""

    @property
    def offset(self) -> int: ...
    @property
    def pos(self) -> int: ...
    @property
    def kind(self) -> str: ...


class Text(Protocol):
    """What is read of a body: trapline.wasm.body.Body."""

    opcodes: list[int]
    immediates: list[object]


class Code(Protocol):
    """What is read of an emitted function: trapline.compile.x86_64.emit.Emitted."""

    @property
    def code(self) -> bytes: ...
    @property
    def traps(self) -> Sequence[TrapSite]: ...
    @property
    def block_offsets(self) -> Sequence[int]: ...
    @property
    def type_fixups(self) -> Sequence[tuple[int, int]]: ...
    @property
    def data_start(self) -> int: ...
    @property
    def jump_tables(self) -> Sequence[tuple[int, int]]: ...


def _jump_target(instruction: Instruction, stop: int) -> int | None:
    """Where a direct jump or call within [0, stop) goes."""
    found = _JUMP.fullmatch(instruction.text)
    if found is None:
        return None
    target = int(found[1], 0)
    return target if target < stop else None


def _tables(emitted: Code) -> list[tuple[int, list[int]]]:
    """(offset of a jump table, the offsets it leads to)."""
    code = emitted.code
    return [
        (table, [table + distance for (distance,) in struct.iter_unpack("<i", code[table : table + 4 * entries])])
        for table, entries in emitted.jump_tables
    ]


def _print_data(emitted: Code, labels: dict[int, str]) -> list[str]:
    """Jump tables and what lies behind them."""
    tables = _tables(emitted)
    lines = [f"    table: {' '.join([labels[way] for way in ways])}" for _, ways in tables]
    constants = max([emitted.data_start, *(table + 4 * len(ways) for table, ways in tables)])
    rows = range(constants, len(emitted.code), 16)
    return lines + [f"    data: {emitted.code[at : at + 16].hex(' ', 8)}" for at in rows]


def _labels(emitted: Code, instructions: list[Instruction]) -> dict[int, str]:
    """Names of offsets: blocks by their numbers in SSA form, then whatever else is jumped to."""
    labels: dict[int, str] = {}
    for number, offset in enumerate(emitted.block_offsets):
        if number:
            labels.setdefault(offset, f"b{number}")
    stop = emitted.data_start
    targets = {target for found in instructions if (target := _jump_target(found, stop)) is not None}
    targets.update(*[ways for _, ways in _tables(emitted)])
    for number, target in enumerate(sorted(targets - labels.keys())):
        labels[target] = f"L{number}"
    return labels


def _comments(emitted: Code) -> dict[int, list[str]]:
    """What is said of instructions, by the offset of a byte in them."""
    comments: dict[int, list[str]] = {}
    for row in emitted.traps:
        text = f"back from opcode {row.pos}" if row.kind == "call" else f"{row.kind}, opcode {row.pos}"
        comments.setdefault(row.offset, []).append(text)
    for offset, type_index in emitted.type_fixups:
        comments.setdefault(offset, []).append(f"number of type {type_index}")
    return comments


def _stop_lines(stops: Sequence[tuple[int, int]], body: Text) -> dict[int, list[str]]:
    """The stop points at each offset, a line for opcodes in a row."""
    runs: dict[int, list[list[int]]] = {}
    for offset, opcode in stops:
        of_offset = runs.setdefault(offset, [])
        if of_offset and of_offset[-1][-1] == opcode - 1:
            of_offset[-1].append(opcode)
        else:
            of_offset.append([opcode])
    lines: dict[int, list[str]] = {}
    for offset, found in runs.items():
        for run in found:
            numbers = f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0])
            lines.setdefault(offset, []).append(
                f"  # {numbers} {opcode_text(body.opcodes[run[-1]], body.immediates[run[-1]])}"
            )
    return lines


class Line(NamedTuple):
    """An instruction as text: its offset, the label in front of it, itself, and what is said of it."""

    offset: int
    label: str | None
    text: str
    comment: str


def _instructions(emitted: Code, arch: str) -> list[Instruction]:
    return disassemble(emitted.code[: emitted.data_start], 0, arch=arch)


def code_lines(emitted: Code, *, arch: str = "x86_64") -> Iterator[Line]:
    """Every instruction of a function; the data behind them are left out."""
    instructions = _instructions(emitted, arch)
    labels = _labels(emitted, instructions)
    comments = _comments(emitted)
    for instruction in instructions:
        at = instruction.address
        target = _jump_target(instruction, emitted.data_start)
        shown = instruction.text if target is None else f"{instruction.mnemonic} {labels[target]}"
        said = [text for byte in range(at, at + instruction.size_bytes) for text in comments.get(byte, ())]
        yield Line(at, labels.get(at), shown, "; ".join(said))


def print_code(
    emitted: Code, stops: Sequence[tuple[int, int]], body: Text, *, arch: str = "x86_64", offsets: bool = False
) -> str:
    """The code of a function as text.

    `stops`: (offset, opcode index) of each stop point, sorted. `offsets` puts that of each instruction, in hex, at the
    start of its line.
    """
    code, data_start = emitted.code, emitted.data_start
    stop_lines = _stop_lines(stops, body)
    margin = " " * 6 if offsets else ""
    lines = [f"{len(code)} bytes" + (f", of them {len(code) - data_start} of data" if data_start < len(code) else "")]
    for at, label, text, comment in code_lines(emitted, arch=arch):
        if label is not None:
            lines.append(f"{margin}{label}:")
        lines += [f"{margin}{line}" for line in stop_lines.get(at, ())]
        line = f"{at:5x} " if offsets else ""
        line += f"    {text}"
        lines.append(f"{line:<{_COMMENT_COLUMN}}; {comment}" if comment else line)
    return "\n".join(lines + _print_data(emitted, _labels(emitted, _instructions(emitted, arch))))
