"""Opcodes on memories, tables and segments: which of them call a C function, which one, and what it answers.

`HELPERS[opcode]` is a row (number of the function in the table of them, trap kind or ""). A function with a trap kind
answers 0, or 1 for the trap; memory.grow and table.grow answer the size before or 0xFFFFFFFF. Opcodes that are no key
here and yet a LIBCALL are inline code.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

__all__ = ["HELPERS", "INLINE", "Helper", "HelperCall", "helper_immediate", "may_fail"]

MEMORY_BOUNDS: Final = "memory bounds"
TABLE_BOUNDS: Final = "table bounds"
"""Kinds of trap."""


class Helper(enum.IntEnum):
    """Numbers of the C functions. Must match tl_helpers in native/."""

    MEMORY_GROW = 0  # (delta) -> pages before
    MEMORY_FILL = 1  # (start, value, bytes)
    MEMORY_COPY = 2  # (destination, source, bytes)
    MEMORY_INIT = 3  # (destination, source, bytes; segment)
    DATA_DROP = 4  # (; segment)
    TABLE_GROW = 5  # (reference, delta; table) -> count before
    TABLE_FILL = 6  # (start, reference, count; table)
    TABLE_COPY = 7  # (destination, source, count; destination table | source table << 32)
    TABLE_INIT = 8  # (destination, source, count; table | segment << 32)
    ELEMENT_DROP = 9  # (; segment)
    F32_CEIL = 10  # these eight: for a machine that cannot round by itself
    F32_FLOOR = 11
    F32_TRUNC = 12
    F32_NEAREST = 13
    F64_CEIL = 14
    F64_FLOOR = 15
    F64_TRUNC = 16
    F64_NEAREST = 17


class HelperCall(NamedTuple):
    """What an opcode calls, and the kind of trap if the answer is not 0; "" where every answer is a result."""

    helper: Helper
    trap: str


HELPERS: Final[dict[int, HelperCall]] = {
    0x40: HelperCall(Helper.MEMORY_GROW, ""),
    0xFC08: HelperCall(Helper.MEMORY_INIT, MEMORY_BOUNDS),
    0xFC09: HelperCall(Helper.DATA_DROP, ""),
    0xFC0A: HelperCall(Helper.MEMORY_COPY, MEMORY_BOUNDS),
    0xFC0B: HelperCall(Helper.MEMORY_FILL, MEMORY_BOUNDS),
    0xFC0C: HelperCall(Helper.TABLE_INIT, TABLE_BOUNDS),
    0xFC0D: HelperCall(Helper.ELEMENT_DROP, ""),
    0xFC0E: HelperCall(Helper.TABLE_COPY, TABLE_BOUNDS),
    0xFC0F: HelperCall(Helper.TABLE_GROW, ""),
    0xFC11: HelperCall(Helper.TABLE_FILL, TABLE_BOUNDS),
}
INLINE: Final = frozenset([0x25, 0x26, 0x3F, 0xFC10])
"""table.get table.set memory.size table.size."""


def helper_immediate(code: int, imm: object) -> int:
    """The number that the C function gets besides the operands, from the opcode's immediate; -1 for none."""
    if code in (0xFC09, 0xFC0D, 0xFC0F, 0xFC11):
        assert isinstance(imm, int)
        return imm
    if code in (0xFC08, 0xFC0C, 0xFC0E):
        assert isinstance(imm, tuple)
        first, second = imm
        if code == 0xFC08:
            return int(first)
        return int(second | first << 32 if code == 0xFC0C else first | second << 32)
    return -1


def may_fail(imm: object) -> bool:
    """Whether a LIBCALL with this `imm` calls a C function that may answer with a trap."""
    assert isinstance(imm, tuple)
    called = HELPERS.get(imm[0])
    return called is not None and called.trap != ""
