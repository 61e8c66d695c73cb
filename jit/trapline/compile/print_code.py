"""Machine code as text: disassembly with labels, the opcode of each stop point, the kind of each trap site.

        # 3 i32.lt_s
        cmp eax, 2
        jge L1
      L1:
        hlt                                             ; trap: unreachable, opcode 12

There are no addresses: jumps inside the function go to labels, so that one more byte somewhere changes one line. Behind
the code come its jump tables, as the labels they lead to, and its constants.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Final, Protocol

from trapline.asm.disassemble import Instruction, disassemble
from trapline.wasm.print_body import opcode_text

__all__ = ["Code", "print_code"]

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


class Code(Protocol):
    """What is read of an emitted function: trapline.compile.x86_64.emit.Emitted."""

    @property
    def code(self) -> bytes: ...
    @property
    def stops(self) -> Sequence[tuple[int, int]]: ...
    @property
    def traps(self) -> Sequence[TrapSite]: ...
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


def _table_targets(code: bytes, table: int, entries: int) -> list[int]:
    return [table + distance for (distance,) in struct.iter_unpack("<i", code[table : table + 4 * entries])]


def _print_data(emitted: Code, tables: list[tuple[int, list[int]]], labels: dict[int, str]) -> list[str]:
    """Jump tables and what lies behind them."""
    lines = [f"    table: {' '.join([labels[way] for way in ways])}" for _, ways in tables]
    constants = max([emitted.data_start, *(table + 4 * len(ways) for table, ways in tables)])
    rows = range(constants, len(emitted.code), 16)
    return lines + [f"    data: {emitted.code[at : at + 16].hex(' ', 8)}" for at in rows]


def print_code(
    emitted: Code, opcodes: list[int], immediates: list[object], *, arch: str = "x86_64", offsets: bool = False
) -> str:
    """The code of a function as text. `offsets` puts that of each instruction, in hex, at the start of its line."""
    code = emitted.code
    instructions = disassemble(code[: emitted.data_start], 0, arch=arch)
    tables = [(table, _table_targets(code, table, entries)) for table, entries in emitted.jump_tables]
    jumps = {target for found in instructions if (target := _jump_target(found, len(code))) is not None}
    targets = sorted(jumps.union(*[ways for _, ways in tables]))
    labels = {target: f"L{number}" for number, target in enumerate(targets)}
    stops: dict[int, list[int]] = {}
    for offset, pos in emitted.stops:
        stops.setdefault(offset, []).append(pos)
    sites: dict[int, list[str]] = {}
    for row in emitted.traps:
        sites.setdefault(row.offset, []).append(f"{row.kind}, opcode {row.pos}")
    margin = " " * 6 if offsets else ""
    lines = [f"{len(code)} bytes"]
    for instruction in instructions:
        at = instruction.address
        if at in labels:
            lines.append(f"{margin}{labels[at]}:")
        for pos in stops.get(at, ()):
            text = opcode_text(opcodes[pos], immediates[pos]) if pos < len(opcodes) else "end"
            lines.append(f"{margin}  # {pos} {text}")
        target = _jump_target(instruction, len(code))
        shown = instruction.text if target is None else f"{instruction.mnemonic} {labels[target]}"
        line = f"{at:5x} " if offsets else ""
        line += f"    {shown}"
        if at in sites:
            line = f"{line:<{_COMMENT_COLUMN}}; {'; '.join(sites[at])}"
        lines.append(line)
    return "\n".join(lines + _print_data(emitted, tables, labels))
