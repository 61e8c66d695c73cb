"""Constant folding and algebraic identities on integer operations, one instruction at a time.

Requires: operands' ops and constants as lowering knows them. Leaves: the constant's bits or an operand to use in
place of the result. Floating point is never folded: its NaNs and rounding are the machine's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["COMMUTATIVE", "fold_binary", "fold_unary"]

Binary = Callable[[int, int], int]
Unary = Callable[[int], int]

M32: Final = 0xFFFF_FFFF
M64: Final = 0xFFFF_FFFF_FFFF_FFFF


def _s32(a: int) -> int:
    return a - (1 << 32) if a & 0x8000_0000 else a


def _s64(a: int) -> int:
    return a - (1 << 64) if a >> 63 else a


def _rotl(a: int, n: int, bits: int, mask: int) -> int:
    n %= bits
    return (a << n | a >> (bits - n)) & mask


def _ctz(a: int, bits: int) -> int:
    return (a & -a).bit_length() - 1 if a else bits


def _family(bits: int) -> dict[int, Binary]:
    """The operations of one width, by opcode. Core specification 4.3.2."""
    mask = (1 << bits) - 1
    signed = _s32 if bits == 32 else _s64
    compare, arithmetic = (0x46, 0x6A) if bits == 32 else (0x51, 0x7C)
    return {
        compare: lambda a, b: int(a == b),
        compare + 1: lambda a, b: int(a != b),
        compare + 2: lambda a, b: int(signed(a) < signed(b)),
        compare + 3: lambda a, b: int(a < b),
        compare + 4: lambda a, b: int(signed(a) > signed(b)),
        compare + 5: lambda a, b: int(a > b),
        compare + 6: lambda a, b: int(signed(a) <= signed(b)),
        compare + 7: lambda a, b: int(a <= b),
        compare + 8: lambda a, b: int(signed(a) >= signed(b)),
        compare + 9: lambda a, b: int(a >= b),
        arithmetic: lambda a, b: a + b & mask,
        arithmetic + 1: lambda a, b: a - b & mask,
        arithmetic + 2: lambda a, b: a * b & mask,
        arithmetic + 7: lambda a, b: a & b,
        arithmetic + 8: lambda a, b: a | b,
        arithmetic + 9: lambda a, b: a ^ b,
        arithmetic + 10: lambda a, b: a << b % bits & mask,
        arithmetic + 11: lambda a, b: signed(a) >> b % bits & mask,
        arithmetic + 12: lambda a, b: a >> b % bits,
        arithmetic + 13: lambda a, b: _rotl(a, b, bits, mask),
        arithmetic + 14: lambda a, b: _rotl(a, bits - b % bits, bits, mask),
    }


_BINARY: Final = {**_family(32), **_family(64)}
_UNARY: Final[dict[int, Unary]] = {
    0x45: lambda a: int(a == 0),
    0x50: lambda a: int(a == 0),
    0x67: lambda a: 32 - a.bit_length(),
    0x68: lambda a: _ctz(a, 32),
    0x69: lambda a: a.bit_count(),
    0x79: lambda a: 64 - a.bit_length(),
    0x7A: lambda a: _ctz(a, 64),
    0x7B: lambda a: a.bit_count(),
    0xA7: lambda a: a & M32,
    0xAC: lambda a: _s32(a) & M64,
    0xAD: lambda a: a,
    0xBC: lambda a: a,
    0xBD: lambda a: a,
    0xBE: lambda a: a,
    0xBF: lambda a: a,
    0xC0: lambda a: (((a & 0xFF) ^ 0x80) - 0x80) & M32,
    0xC1: lambda a: (((a & 0xFFFF) ^ 0x8000) - 0x8000) & M32,
    0xC2: lambda a: (((a & 0xFF) ^ 0x80) - 0x80) & M64,
    0xC3: lambda a: (((a & 0xFFFF) ^ 0x8000) - 0x8000) & M64,
    0xC4: lambda a: _s32(a & M32) & M64,
}

COMMUTATIVE: Final = frozenset(
    [0x46, 0x47, 0x51, 0x52, 0x6A, 0x6C, 0x71, 0x72, 0x73, 0x7C, 0x7E, 0x83, 0x84, 0x85]
)
"""Integer operations whose operands may change places; a constant goes second."""

_ZERO_IS_IDENTITY: Final = frozenset(
    [0x6A, 0x6B, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x7C, 0x7D, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A]
)
_ONE_IS_IDENTITY: Final = frozenset([0x6C, 0x7E])
_ZERO_ABSORBS: Final = frozenset([0x6C, 0x71, 0x7E, 0x83])
_SAME_IS_ZERO: Final = frozenset([0x6B, 0x73, 0x7D, 0x85])
_SAME_IS_ITSELF: Final = frozenset([0x71, 0x72, 0x83, 0x84])

FIRST: Final = -1
"""The result is the first operand."""


def fold_unary(op: int, a: int) -> int | None:
    """The bits of the result for constant bits, or None."""
    function = _UNARY.get(op)
    return None if function is None else function(a)


def fold_binary(op: int, a: int | None, b: int | None, same: bool) -> int | None:
    """The bits of the result, `FIRST`, or None; `a`, `b`: constant bits or None; `same`: they are one value."""
    if b is not None:
        if a is not None:
            function = _BINARY.get(op)
            return None if function is None else function(a, b)
        if b == 0:
            if op in _ZERO_IS_IDENTITY:
                return FIRST
            if op in _ZERO_ABSORBS:
                return 0
        elif b == 1 and op in _ONE_IS_IDENTITY:
            return FIRST
    if same:
        if op in _SAME_IS_ZERO:
            return 0
        if op in _SAME_IS_ITSELF:
            return FIRST
    return None
