"""Python values as the 64-bit words that compiled code keeps them in, and back."""

from __future__ import annotations

import math
import reprlib
import struct
from typing import TYPE_CHECKING, Any, Final

from trapline.errors import CallError
from trapline.wasm.types import EXTERNREF, F32, F64, FUNCREF, I32, I64, ValueType, value_type_name

if TYPE_CHECKING:
    from trapline.runtime.store import Store

__all__ = ["from_bits", "shown", "to_bits"]

_F32: Final = struct.Struct("<f")
_F64: Final = struct.Struct("<d")
_RANGES: Final = {I32: (-(1 << 31), (1 << 32) - 1), I64: (-(1 << 63), (1 << 64) - 1)}


def shown(value: object) -> str:
    """The value in words, also where it has none or thousands of digits."""
    try:
        return reprlib.repr(value)
    except Exception:
        return f"an object of type {type(value).__name__}"


def to_bits(store: Store, type_: ValueType, value: Any, what: str) -> int:
    """A value as a word; integers signed or unsigned. Raises CallError, which begins with `what`."""
    if type_ in _RANGES:
        least, most = _RANGES[type_]
        if isinstance(value, int) and least <= value <= most:
            return value & (0xFFFF_FFFF if type_ == I32 else 0xFFFF_FFFF_FFFF_FFFF)
        raise CallError(
            f"{what}: found {shown(value)}, expected an integer of {least} .. {most} ({value_type_name(type_)})"
        )
    if type_ in (F32, F64):
        try:
            number = float(value) if isinstance(value, int | float) else None
        except OverflowError:  # an integer beyond the largest f64
            number = None
        if number is None:
            raise CallError(f"{what}: found {shown(value)}, expected a number ({value_type_name(type_)})")
        try:
            packed = (_F32 if type_ == F32 else _F64).pack(number)
        except OverflowError:  # beyond the largest f32: rounds to infinity, as a demotion does
            packed = _F32.pack(math.copysign(math.inf, number))
        return int.from_bytes(packed, "little")
    if type_ == FUNCREF:
        return store.function_word(value, what)
    if type_ == EXTERNREF:
        return store.external_word(value)
    raise CallError(f"{what}: values of type {value_type_name(type_)} cannot be passed from Python")


def from_bits(store: Store, type_: ValueType, word: int) -> Any:
    """The value that a word stands for; integers signed."""
    if type_ == I32:
        word &= 0xFFFF_FFFF
        return word - (1 << 32) if word >> 31 else word
    if type_ == I64:
        return word - (1 << 64) if word >> 63 else word
    if type_ == F32:
        return _F32.unpack((word & 0xFFFF_FFFF).to_bytes(4, "little"))[0]
    if type_ == F64:
        return _F64.unpack(word.to_bytes(8, "little"))[0]
    if type_ == FUNCREF:
        return store.function_of(word)
    return store.external_of(word)
