"""Pure operations on bits, exactly as compiled code computes them: what an expression of a state evaluates to.

Requires: operands as bit patterns of their types. Leaves: the bit pattern that the machine would have left, NaNs
included: what the core specification leaves open there is settled by a NanRule. Raises: KeyError for an operation that
is not pure.

Integers are those of constant folding. Floating point is computed in double precision, to whose basic operations
single precision may be rounded a second time without harm (53 >= 2 * 24 + 2), but for NaNs, which are bits here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from trapline.compile.fold import fold_binary, fold_unary

__all__ = ["NanRule", "recompute"]


class NanRule(NamedTuple):
    """What a machine's arithmetic makes of NaNs.

    `negative_default`: the NaN of an invalid operation has its sign set. `signalling_first`: of two operands that are
    NaNs a signalling one wins; else the first one does.
    """

    negative_default: bool
    signalling_first: bool


class _Format(NamedTuple):
    """An interchange format: IEEE 754-2019, 3.4."""

    code: str
    bits: int
    infinity: int
    quiet: int

    @property
    def sign(self) -> int:
        return 1 << (self.bits - 1)

    def is_nan(self, bits: int) -> bool:
        return bits & (self.sign - 1) > self.infinity

    def value(self, bits: int) -> float:
        """Of bits that are no NaN."""
        found = struct.unpack("<" + self.code, bits.to_bytes(self.bits // 8, "little"))[0]
        assert isinstance(found, float)
        return found

    def round(self, value: float) -> int:
        """The bits of a number that is no NaN, rounded to nearest, ties to even."""
        try:
            return int.from_bytes(struct.pack("<" + self.code, value), "little")
        except OverflowError:
            return self.infinity | (self.sign if value < 0 else 0)

    def default_nan(self, rule: NanRule) -> int:
        return self.infinity | self.quiet | (self.sign if rule.negative_default else 0)

    def nan_of(self, operands: tuple[int, ...], rule: NanRule) -> int | None:
        """The NaN that comes out for these operands; None if none of them is one."""
        found = [bits for bits in operands if self.is_nan(bits)]
        if not found:
            return None
        if rule.signalling_first:
            found.sort(key=lambda bits: bool(bits & self.quiet))
        return found[0] | self.quiet


_F32: Final = _Format("f", 32, 0x7F80_0000, 0x0040_0000)
_F64: Final = _Format("d", 64, 0x7FF0_0000_0000_0000, 0x0008_0000_0000_0000)
_FIRST_32, _FIRST_64 = 0x8B, 0x99
"""abs; behind it neg ceil floor trunc nearest sqrt add sub mul div min max copysign."""


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    if not a or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _nearest(a: float) -> float:
    return math.copysign(float(round(a)), a)


_ARITHMETIC: Final[tuple[Callable[[float, float], float], ...]] = (
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    _divide,
)
_ROUNDING: Final[tuple[Callable[[float], float], ...]] = (
    lambda a: math.copysign(float(math.ceil(a)), a),
    lambda a: math.copysign(float(math.floor(a)), a),
    lambda a: math.copysign(float(math.trunc(a)), a),
    _nearest,
)


def _floating(form: _Format, which: int, args: tuple[int, ...], rule: NanRule) -> int:
    """The `which`-th operation of a format, in the order of the opcodes."""
    a = args[0]
    if which == 0:
        return a & ~form.sign
    if which == 1:
        return a ^ form.sign
    if which == 13:
        return a & ~form.sign | args[1] & form.sign
    nan = form.nan_of(args, rule)
    if nan is not None:
        return nan
    value = form.value(a)
    if which <= 5:
        return a if math.isinf(value) else form.round(_ROUNDING[which - 2](value))
    if which == 6:
        if value < 0:
            return form.default_nan(rule)
        return form.round(math.sqrt(value))
    other = form.value(args[1])
    if which >= 11:
        if value == other:
            return a | args[1] if which == 11 else a & args[1]
        return a if (value < other) == (which == 11) else args[1]
    result = _ARITHMETIC[which - 7](value, other)
    return form.default_nan(rule) if math.isnan(result) else form.round(result)


def _compare(form: _Format, which: int, a: int, b: int) -> int:
    """eq ne lt gt le ge."""
    if form.is_nan(a) or form.is_nan(b):
        return int(which == 1)
    x, y = form.value(a), form.value(b)
    return int((x == y, x != y, x < y, x > y, x <= y, x >= y)[which])


def _signed(bits: int, width: int) -> int:
    return bits - (1 << width) if bits >> (width - 1) else bits


def _from_integer(form: _Format, number: int) -> int:
    """Rounded once, however large the integer is."""
    extra = abs(number).bit_length() - 53
    if form is _F64 or extra <= 0:
        return form.round(float(number))
    kept = abs(number) >> extra
    sticky = kept | bool(abs(number) & ((1 << extra) - 1))  # 53 bits, far more than the 24 that will stay
    return form.round(math.copysign(math.ldexp(float(sticky), extra), number))


def _saturate(form: _Format, bits: int, is_signed: bool, width: int) -> int:
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if is_signed else (0, (1 << width) - 1)
    if form.is_nan(bits):
        return 0
    value = form.value(bits)
    number = (high if value > 0 else low) if math.isinf(value) else math.trunc(value)
    return max(low, min(high, number)) & ((1 << width) - 1)


def _demote(bits: int) -> int:
    if _F64.is_nan(bits):
        return (bits >> 63) << 31 | _F32.infinity | _F32.quiet | bits >> 29 & 0x3F_FFFF
    return _F32.round(_F64.value(bits))


def _promote(bits: int) -> int:
    if _F32.is_nan(bits):
        return (bits >> 31) << 63 | _F64.infinity | _F64.quiet | (bits & 0x3F_FFFF) << 29
    return _F64.round(_F32.value(bits))


def recompute(op: int, args: tuple[int, ...], rule: NanRule) -> int:
    """The result of a pure opcode.

    >>> hex(recompute(0x92, (0x3F800000, 0x40000000), NanRule(True, False)))
    '0x40400000'
    """
    if op == 0x1B:
        return args[0] if args[2] else args[1]
    if op == 0xD1:
        return int(not args[0])
    if 0x5B <= op <= 0x60:
        return _compare(_F32, op - 0x5B, *args)
    if 0x61 <= op <= 0x66:
        return _compare(_F64, op - 0x61, *args)
    if _FIRST_32 <= op < _FIRST_64:
        return _floating(_F32, op - _FIRST_32, args, rule)
    if _FIRST_64 <= op <= 0xA6:
        return _floating(_F64, op - _FIRST_64, args, rule)
    if op == 0xB6:
        return _demote(args[0])
    if op == 0xBB:
        return _promote(args[0])
    if 0xB2 <= op <= 0xBA:
        kind = (op - 0xB2) if op < 0xB6 else op - 0xB7  # i32_s i32_u i64_s i64_u
        number = args[0] if kind & 1 else _signed(args[0], 64 if kind & 2 else 32)
        return _from_integer(_F32 if op < 0xB6 else _F64, number)
    if 0xFC00 <= op <= 0xFC07:
        which = op - 0xFC00
        return _saturate(_F64 if which & 2 else _F32, args[0], not which & 1, 64 if which & 4 else 32)
    found = fold_unary(op, args[0]) if len(args) == 1 else fold_binary(op, args[0], args[1], False)
    if found is None:
        raise KeyError(op)
    return found
