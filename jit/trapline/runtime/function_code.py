"""A compiled function as it is kept and stored: machine code, trap rows, where numbers of types go.

Rows are kept packed, since few functions ever trap: six 32-bit numbers each (offset, opcode index, number of the kind,
place, block, step), little-endian, by offset.
"""

from __future__ import annotations

import bisect
import struct
from typing import Final

from trapline.compile.frame_table import CALL
from trapline.compile.x86_64.emit import Emitted, TrapRow

__all__ = ["FunctionCode"]

ROW: Final = struct.Struct("<6i")
FIXUP: Final = struct.Struct("<2I")
HEAD: Final = struct.Struct("<4I")

KINDS: Final = (
    CALL,
    "stack",
    "memory",
    "memory bounds",
    "table bounds",
    "division",
    "truncation 32",
    "truncation 64",
    "unreachable",
    "undefined element",
    "uninitialized element",
    "indirect call type mismatch",
)
"""Kinds of trap rows by number; a new one goes to the end, since artifacts hold the numbers."""
_NUMBER_OF: Final = {kind: number for number, kind in enumerate(KINDS)}


class FunctionCode:
    """`code` is not placed yet: `fixups` are packed pairs (offset of 4 bytes, index of the type whose number goes
    there); the last `data_bytes` are no instructions."""

    __slots__ = ("_offsets", "_packed_rows", "_rows", "code", "data_bytes", "fixups")

    def __init__(self, code: bytes, data_bytes: int, fixups: bytes, rows: bytes) -> None:
        self.code = code
        self.data_bytes = data_bytes
        self.fixups = fixups
        self._packed_rows = rows
        self._rows: list[TrapRow] | None = None
        self._offsets: list[int] = []

    @classmethod
    def of(cls, emitted: Emitted) -> FunctionCode:
        """What emission left of a function."""
        rows = [
            ROW.pack(row.offset, row.pos, _NUMBER_OF[row.kind], row.place, row.block, row.step)
            for row in sorted(emitted.traps, key=lambda row: row.offset)
        ]
        fixups = [FIXUP.pack(*fixup) for fixup in emitted.type_fixups]
        return cls(emitted.code, len(emitted.code) - emitted.data_start, b"".join(fixups), b"".join(rows))

    def row(self, offset: int, waits: bool) -> TrapRow | None:
        """The row at an offset: that of a call where a frame `waits` there, else that of what may trap there.

        Of several the last, which is the innermost operation's.
        """
        if self._rows is None:
            unpacked = ROW.iter_unpack(self._packed_rows)
            self._rows = [TrapRow(at, pos, KINDS[kind], *rest) for at, pos, kind, *rest in unpacked]
            self._offsets = [row.offset for row in self._rows]
        rows = self._rows
        at = bisect.bisect_right(self._offsets, offset) - 1
        while at >= 0 and rows[at].offset == offset:
            if (rows[at].kind == CALL) is waits:
                return rows[at]
            at -= 1
        return None

    def encode(self) -> bytes:
        """Sizes of the four parts, then the code, the fixups and the rows."""
        head = HEAD.pack(len(self.code), self.data_bytes, len(self.fixups), len(self._packed_rows))
        return head + self.code + self.fixups + self._packed_rows

    @classmethod
    def decode(cls, data: bytes, at: int) -> tuple[FunctionCode, int]:
        """A function from what `encode` gave, at an offset of `data`; and the offset behind it."""
        code_bytes, data_bytes, fixup_bytes, row_bytes = HEAD.unpack_from(data, at)
        at += HEAD.size
        code_stop = at + code_bytes
        fixup_stop = code_stop + fixup_bytes
        stop = fixup_stop + row_bytes
        return cls(data[at:code_stop], data_bytes, data[code_stop:fixup_stop], data[fixup_stop:stop]), stop
