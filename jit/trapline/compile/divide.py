"""Division and remainder by a constant, as multiplications and shifts.

Requires: an opcode of integer division and the bits of its divisor. Leaves: pure operations of Wasm for the result,
made through a builder; such a division cannot trap. Not done: 64-bit divisors that are no powers of two, for which Wasm
has no upper half of a product to take.

Source: T. Granlund, P. L. Montgomery, "Division by Invariant Integers using Multiplication", PLDI 1994, theorems 4.2
and 5.1: with 2^p <= M d <= 2^p + 2^(p - n), x div d is M x div 2^p for 0 <= x < 2^n.
"""

from __future__ import annotations

from typing import Final, Protocol

from trapline.wasm.types import I32, I64

__all__ = ["DIVISIONS", "divide"]

DIVISIONS: Final = frozenset([*range(0x6D, 0x71), *range(0x7F, 0x83)])
"""div_s div_u rem_s rem_u of i32, then of i64."""

_WRAP, _EXTEND_S, _EXTEND_U = 0xA7, 0xAC, 0xAD
_ADD, _SUB, _MUL, _AND, _SHL, _SHR_S, _SHR_U = 0x6A, 0x6B, 0x6C, 0x71, 0x74, 0x75, 0x76
_TO_64: Final = 0x7C - 0x6A
"""From the opcode of an operation on i32 to that on i64."""


class Builder(Protocol):
    """Makes pure operations; values are numbers."""

    def constant(self, type_: int, bits: int) -> int: ...
    def pure(self, code: int, args: tuple[int, ...], type_: int) -> int: ...


def divide(builder: Builder, code: int, value: int, divisor: int) -> int | None:
    """The value of a division, or None where the machine's own must do: by zero, and what is said above."""
    wide = code >= 0x7F
    bits = 64 if wide else 32
    kind = code - (0x7F if wide else 0x6D)
    if kind in (0, 2) and divisor >> (bits - 1):
        divisor -= 1 << bits
    if divisor == 0 or (kind == 0 and divisor == -1):
        return None
    made = _Division(builder, wide)
    if kind == 0:
        return made.signed(value, divisor)
    if kind == 1:
        return made.unsigned(value, divisor)
    return made.remainder(value, divisor, kind == 2)


class _Division:
    def __init__(self, builder: Builder, wide: bool) -> None:
        self._builder = builder
        self._wide = wide
        self._bits = 64 if wide else 32
        self._type = I64 if wide else I32

    def _do(self, code: int, a: int, b: int) -> int:
        return self._builder.pure(code + (_TO_64 if self._wide else 0), (a, b), self._type)

    def _by(self, code: int, a: int, number: int) -> int:
        constant = self._builder.constant(self._type, number & ((1 << self._bits) - 1))
        return self._do(code, a, constant)

    def _by_wide(self, code: int, a: int, number: int) -> int:
        """An operation on i64 with a constant."""
        builder = self._builder
        return builder.pure(code + _TO_64, (a, builder.constant(I64, number)), I64)

    def remainder(self, value: int, divisor: int, is_signed: bool) -> int | None:
        """What is left: it has the sign of the value, whatever the divisor's."""
        size = abs(divisor)
        if size & (size - 1) == 0:
            if not is_signed:
                return self._by(_AND, value, size - 1)
            if size == 1:
                return self._builder.constant(self._type, 0)
            raised = self._raised(value, size)
            return self._do(_SUB, value, self._by(_AND, raised, -size))
        quotient = self.signed(value, size) if is_signed else self.unsigned(value, size)
        return None if quotient is None else self._do(_SUB, value, self._by(_MUL, quotient, size))

    def unsigned(self, value: int, divisor: int) -> int | None:
        """div_u."""
        if divisor & (divisor - 1) == 0:
            return self._by(_SHR_U, value, divisor.bit_length() - 1)
        if self._wide:
            return None
        build = self._builder
        power, factor = _factor(divisor, 32)
        if factor < 1 << 32:
            wide = build.pure(_EXTEND_U, (value,), I64)
            return build.pure(_WRAP, (self._by_wide(_SHR_U, self._by_wide(_MUL, wide, factor), power),), I32)
        shift = (divisor & -divisor).bit_length() - 1
        if shift:
            value = self._by(_SHR_U, value, shift)
            power, factor = _factor(divisor >> shift, 32 - shift)
            wide = build.pure(_EXTEND_U, (value,), I64)
            return build.pure(_WRAP, (self._by_wide(_SHR_U, self._by_wide(_MUL, wide, factor), power),), I32)
        # A factor of 33 bits: its top bit stands for the value itself, whose half keeps the sum within 32 bits.
        wide = build.pure(_EXTEND_U, (value,), I64)
        upper = build.pure(_WRAP, (self._by_wide(_SHR_U, self._by_wide(_MUL, wide, factor - (1 << 32)), 32),), I32)
        half = self._by(_SHR_U, self._do(_SUB, value, upper), 1)
        return self._by(_SHR_U, self._do(_ADD, half, upper), power - 33)

    def _raised(self, value: int, size: int) -> int:
        """The value, a negative one greater by the power of two `size` less one, so that a shift rounds to zero."""
        bits = size.bit_length() - 1
        sign = self._by(_SHR_S, value, self._bits - 1)
        return self._do(_ADD, value, self._by(_SHR_U, sign, self._bits - bits))

    def signed(self, value: int, divisor: int) -> int | None:
        """div_s, rounding to zero."""
        size = abs(divisor)
        if size == 1:
            return value
        if size & (size - 1) == 0:
            quotient = self._by(_SHR_S, self._raised(value, size), size.bit_length() - 1)
        elif self._wide:
            return None
        else:
            build = self._builder
            power, factor = _factor(size, 31)
            wide = build.pure(_EXTEND_S, (value,), I64)
            below = build.pure(_WRAP, (self._by_wide(_SHR_S, self._by_wide(_MUL, wide, factor), power),), I32)
            quotient = self._do(_SUB, below, self._by(_SHR_S, value, 31))
        return quotient if divisor > 0 else self._do(_SUB, self._builder.constant(self._type, 0), quotient)


def _factor(divisor: int, bits: int) -> tuple[int, int]:
    """(p, M) for values of so many bits: M = 2^p / d rounded up, with the least p that is good enough."""
    power = bits
    while True:
        factor = -(-(1 << power) // divisor)
        if factor * divisor - (1 << power) <= 1 << (power - bits):
            return power, factor
        power += 1
