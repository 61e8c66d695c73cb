"""Numeric instructions on raw bits, from the specification's chapters "Numerics" and "Binary format".

Every value is its bit pattern as a non-negative int: i32 and f32 below 2**32, i64 and f64 below 2**64. Where the
specification leaves the sign or payload of a NaN open, the result is the positive canonical NaN (its deterministic
profile). A function raises Trap before anything has changed.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.reference.traps import Trap, TrapKind

__all__ = ["NUMERIC", "Numeric", "Opcode", "sign_extend"]

Opcode = int | tuple[int, int]  # one byte, or a prefix byte with the number after it
Function = Callable[..., int]


class Numeric(NamedTuple):
    """What a numeric instruction takes and gives, and the function on bits that does it."""

    name: str
    params: tuple[str, ...]
    result: str
    function: Function


def signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> (width - 1) else value


def sign_extend(from_bits: int, to_bits: int) -> Function:
    """The function that takes the low `from_bits` of a value as signed, and gives it in `to_bits`."""
    half, low, mask = 1 << (from_bits - 1), (1 << from_bits) - 1, (1 << to_bits) - 1
    return lambda value: (((value & low) ^ half) - half) & mask


# Integers: a table of functions for one width, under the specification's names.


def integer_functions(width: int) -> dict[str, Function]:
    mask = (1 << width) - 1
    lowest = 1 << (width - 1)
    count = width - 1  # shift counts are taken modulo the width, a power of two

    def of_signs(value: int) -> int:
        return value - mask - 1 if value & lowest else value

    def div_s(a: int, b: int) -> int:
        if b == 0:
            raise Trap(TrapKind.DIVIDE_BY_ZERO)
        if a == lowest and b == mask:
            raise Trap(TrapKind.INTEGER_OVERFLOW)
        x, y = of_signs(a), of_signs(b)
        quotient = abs(x) // abs(y)
        return (quotient if (x < 0) == (y < 0) else -quotient) & mask

    def div_u(a: int, b: int) -> int:
        if b == 0:
            raise Trap(TrapKind.DIVIDE_BY_ZERO)
        return a // b

    def rem_s(a: int, b: int) -> int:
        if b == 0:
            raise Trap(TrapKind.DIVIDE_BY_ZERO)
        x = of_signs(a)
        rest = abs(x) % abs(of_signs(b))
        return (-rest if x < 0 else rest) & mask

    def rem_u(a: int, b: int) -> int:
        if b == 0:
            raise Trap(TrapKind.DIVIDE_BY_ZERO)
        return a % b

    def rotl(a: int, b: int) -> int:
        n = b & count
        return (a << n | a >> (width - n)) & mask

    def rotr(a: int, b: int) -> int:
        n = b & count
        return (a >> n | a << (width - n)) & mask

    return {
        "eqz": lambda a: int(a == 0),
        "eq": lambda a, b: int(a == b),
        "ne": lambda a, b: int(a != b),
        "lt_s": lambda a, b: int(a ^ lowest < b ^ lowest),
        "lt_u": lambda a, b: int(a < b),
        "gt_s": lambda a, b: int(a ^ lowest > b ^ lowest),
        "gt_u": lambda a, b: int(a > b),
        "le_s": lambda a, b: int(a ^ lowest <= b ^ lowest),
        "le_u": lambda a, b: int(a <= b),
        "ge_s": lambda a, b: int(a ^ lowest >= b ^ lowest),
        "ge_u": lambda a, b: int(a >= b),
        "clz": lambda a: width - a.bit_length(),
        "ctz": lambda a: (a & -a).bit_length() - 1 if a else width,
        "popcnt": lambda a: a.bit_count(),
        "add": lambda a, b: (a + b) & mask,
        "sub": lambda a, b: (a - b) & mask,
        "mul": lambda a, b: (a * b) & mask,
        "div_s": div_s,
        "div_u": div_u,
        "rem_s": rem_s,
        "rem_u": rem_u,
        "and": operator.and_,
        "or": operator.or_,
        "xor": operator.xor,
        "shl": lambda a, b: (a << (b & count)) & mask,
        "shr_s": lambda a, b: (of_signs(a) >> (b & count)) & mask,
        "shr_u": lambda a, b: a >> (b & count),
        "rotl": rotl,
        "rotr": rotr,
    }


# Floating point: bits to a Python float and back. An f32 is held as the f64 of the same value; each of + - * / and
# the square root, done in f64 and then rounded to f32, is the correctly rounded f32 result, subnormals included.

CANONICAL_NAN = {32: 0x7FC0_0000, 64: 0x7FF8_0000_0000_0000}
INFINITY = {32: 0x7F80_0000, 64: 0x7FF0_0000_0000_0000}
_f32, _u32 = struct.Struct("<f"), struct.Struct("<I")
_f64, _u64 = struct.Struct("<d"), struct.Struct("<Q")


def f32_value(bits: int) -> float:
    value: float = _f32.unpack(_u32.pack(bits))[0]
    return value


def f64_value(bits: int) -> float:
    value: float = _f64.unpack(_u64.pack(bits))[0]
    return value


def f32_bits(value: float) -> int:
    if value != value:
        return CANONICAL_NAN[32]
    try:
        bits: int = _u32.unpack(_f32.pack(value))[0]
    except OverflowError:  # rounds to an infinity
        return INFINITY[32] | (0x8000_0000 if value < 0 else 0)
    return bits


def f64_bits(value: float) -> int:
    if value != value:
        return CANONICAL_NAN[64]
    bits: int = _u64.unpack(_f64.pack(value))[0]
    return bits


VALUE: dict[int, Callable[[int], float]] = {32: f32_value, 64: f64_value}
BITS: dict[int, Callable[[float], int]] = {32: f32_bits, 64: f64_bits}


def divide(x: float, y: float) -> float:
    if y == 0:
        return math.nan if x == 0 or x != x else math.copysign(math.inf, x) * math.copysign(1.0, y)
    return x / y


def square_root(x: float) -> float:
    return math.sqrt(x) if x >= 0 else math.nan


def to_integral(round_to_int: Callable[[float], int]) -> Callable[[float], float]:
    """A rounding to an integral value: it keeps the sign, so that -0.5 may become -0."""

    def apply(x: float) -> float:
        # From 2**52 on every f64 is integral, and the infinities and NaN fail the comparison too.
        return math.copysign(float(round_to_int(x)), x) if abs(x) < 2.0**52 else x

    return apply


def float_functions(width: int) -> dict[str, Function]:
    value, bits = VALUE[width], BITS[width]
    sign = 1 << (width - 1)
    magnitude = sign - 1
    nan, infinity = CANONICAL_NAN[width], INFINITY[width]

    def unary(function: Callable[[float], float]) -> Function:
        return lambda a: bits(function(value(a)))

    def binary(function: Callable[[float, float], float]) -> Function:
        return lambda a, b: bits(function(value(a), value(b)))

    def compare(function: Callable[[float, float], bool]) -> Function:
        return lambda a, b: int(function(value(a), value(b)))

    def least(a: int, b: int) -> int:
        if a & magnitude > infinity or b & magnitude > infinity:
            return nan
        if (a | b) & magnitude == 0:
            return a | b
        return a if value(a) < value(b) else b

    def greatest(a: int, b: int) -> int:
        if a & magnitude > infinity or b & magnitude > infinity:
            return nan
        if (a | b) & magnitude == 0:
            return a & b
        return a if value(a) > value(b) else b

    return {
        "eq": compare(operator.eq),
        "ne": compare(operator.ne),
        "lt": compare(operator.lt),
        "gt": compare(operator.gt),
        "le": compare(operator.le),
        "ge": compare(operator.ge),
        "abs": lambda a: a & magnitude,
        "neg": lambda a: a ^ sign,
        "ceil": unary(to_integral(math.ceil)),
        "floor": unary(to_integral(math.floor)),
        "trunc": unary(to_integral(math.trunc)),
        "nearest": unary(to_integral(round)),  # Python rounds halves to even, as the specification asks
        "sqrt": unary(square_root),
        "add": binary(operator.add),
        "sub": binary(operator.sub),
        "mul": binary(operator.mul),
        "div": binary(divide),
        "min": least,
        "max": greatest,
        "copysign": lambda a, b: a & magnitude | b & sign,
    }


# Conversions


def truncation(from_bits: int, to_bits: int, is_signed: bool, saturating: bool) -> Function:
    value = VALUE[from_bits]
    mask = (1 << to_bits) - 1
    lowest, highest = (-(1 << (to_bits - 1)), mask >> 1) if is_signed else (0, mask)

    def trapping(a: int) -> int:
        x = value(a)
        if x != x:
            raise Trap(TrapKind.INVALID_CONVERSION)
        if math.isinf(x) or not lowest <= math.trunc(x) <= highest:
            raise Trap(TrapKind.INTEGER_OVERFLOW)
        return math.trunc(x) & mask

    def saturated(a: int) -> int:
        x = value(a)
        if x != x:
            return 0
        if math.isinf(x):
            return (highest if x > 0 else lowest) & mask
        return min(max(math.trunc(x), lowest), highest) & mask

    return saturated if saturating else trapping


def conversion(from_bits: int, to_bits: int, is_signed: bool) -> Function:
    bits = BITS[to_bits]

    def convert(a: int) -> int:
        number = signed(a, from_bits) if is_signed else a
        excess = abs(number).bit_length() - 48
        if to_bits == 32 and excess > 0:
            # f64 could not hold the number: the bits that f32 drops anyway become one sticky bit, so that the
            # only rounding is the one to f32.
            magnitude = abs(number)
            sticky = int(magnitude & ((1 << excess) - 1) != 0)
            magnitude = (magnitude >> excess | sticky) << excess
            number = -magnitude if number < 0 else magnitude
        return bits(float(number))

    return convert


# The table: instructions stand in the order of their opcodes.

INTEGER_TESTS = "eqz eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u".split()
FLOAT_TESTS = "eq ne lt gt le ge".split()
INTEGER_ARITHMETIC = "clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr".split()
FLOAT_ARITHMETIC = "abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign".split()
UNARY = frozenset("eqz clz ctz popcnt abs neg ceil floor trunc nearest sqrt".split())

# (first opcode, type, names, whether the result is an i32 truth value)
RUNS: tuple[tuple[int, str, list[str], bool], ...] = (
    (0x45, "i32", INTEGER_TESTS, True),
    (0x50, "i64", INTEGER_TESTS, True),
    (0x5B, "f32", FLOAT_TESTS, True),
    (0x61, "f64", FLOAT_TESTS, True),
    (0x67, "i32", INTEGER_ARITHMETIC, False),
    (0x79, "i64", INTEGER_ARITHMETIC, False),
    (0x8B, "f32", FLOAT_ARITHMETIC, False),
    (0x99, "f64", FLOAT_ARITHMETIC, False),
)

# (opcode, name, parameter, result)
CONVERSIONS: tuple[tuple[Opcode, str, str, str], ...] = (
    (0xA7, "wrap", "i64", "i32"),
    (0xA8, "trunc_s", "f32", "i32"),
    (0xA9, "trunc_u", "f32", "i32"),
    (0xAA, "trunc_s", "f64", "i32"),
    (0xAB, "trunc_u", "f64", "i32"),
    (0xAC, "extend_s", "i32", "i64"),
    (0xAD, "extend_u", "i32", "i64"),
    (0xAE, "trunc_s", "f32", "i64"),
    (0xAF, "trunc_u", "f32", "i64"),
    (0xB0, "trunc_s", "f64", "i64"),
    (0xB1, "trunc_u", "f64", "i64"),
    (0xB2, "convert_s", "i32", "f32"),
    (0xB3, "convert_u", "i32", "f32"),
    (0xB4, "convert_s", "i64", "f32"),
    (0xB5, "convert_u", "i64", "f32"),
    (0xB6, "demote", "f64", "f32"),
    (0xB7, "convert_s", "i32", "f64"),
    (0xB8, "convert_u", "i32", "f64"),
    (0xB9, "convert_s", "i64", "f64"),
    (0xBA, "convert_u", "i64", "f64"),
    (0xBB, "promote", "f32", "f64"),
    (0xBC, "reinterpret", "f32", "i32"),
    (0xBD, "reinterpret", "f64", "i64"),
    (0xBE, "reinterpret", "i32", "f32"),
    (0xBF, "reinterpret", "i64", "f64"),
    # sign extension
    (0xC0, "extend8_s", "i32", "i32"),
    (0xC1, "extend16_s", "i32", "i32"),
    (0xC2, "extend8_s", "i64", "i64"),
    (0xC3, "extend16_s", "i64", "i64"),
    (0xC4, "extend32_s", "i64", "i64"),
    # saturating conversions
    ((0xFC, 0), "trunc_sat_s", "f32", "i32"),
    ((0xFC, 1), "trunc_sat_u", "f32", "i32"),
    ((0xFC, 2), "trunc_sat_s", "f64", "i32"),
    ((0xFC, 3), "trunc_sat_u", "f64", "i32"),
    ((0xFC, 4), "trunc_sat_s", "f32", "i64"),
    ((0xFC, 5), "trunc_sat_u", "f32", "i64"),
    ((0xFC, 6), "trunc_sat_s", "f64", "i64"),
    ((0xFC, 7), "trunc_sat_u", "f64", "i64"),
)


def conversion_function(name: str, param: str, result: str) -> Function:
    from_bits, to_bits = int(param[1:]), int(result[1:])
    if name.startswith("trunc"):
        return truncation(from_bits, to_bits, name.endswith("_s"), "sat" in name)
    if name.startswith("convert"):
        return conversion(from_bits, to_bits, name.endswith("_s"))
    if name == "demote":
        return lambda a: f32_bits(f64_value(a))
    if name == "promote":
        return lambda a: f64_bits(f32_value(a))
    if name == "wrap":
        return lambda a: a & 0xFFFF_FFFF
    if name in ("reinterpret", "extend_u"):
        return lambda a: a
    return sign_extend(int(name[6:-2] or from_bits), to_bits)  # extend_s, extend8_s and so on


def rows() -> Iterator[tuple[Opcode, Numeric]]:
    for first, kind, names, is_test in RUNS:
        width = int(kind[1:])
        functions = integer_functions(width) if kind[0] == "i" else float_functions(width)
        for opcode, name in enumerate(names, first):
            params = (kind,) if name in UNARY else (kind, kind)
            yield opcode, Numeric(f"{kind}.{name}", params, "i32" if is_test else kind, functions[name])
    for key, name, param, result in CONVERSIONS:
        full_name = f"{result}.{name}" if param == result else f"{result}.{name}({param})"
        yield key, Numeric(full_name, (param,), result, conversion_function(name, param, result))


NUMERIC: dict[Opcode, Numeric] = dict(rows())
