"""Values of WebAssembly functions on the command line: arguments as words, results as lines, as wasmtime has them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from trapline.errors import TraplineError
from trapline.wasm.types import F32, F64, FUNCREF, I32, I64, FuncType, value_type_name

__all__ = ["parse_arguments", "result_text"]

_BITS: Final = {I32: 32, I64: 64}


def parse_arguments(name: str, type_: FuncType, words: Sequence[str]) -> list[Any]:
    """A value for each parameter. Raises TraplineError, which says what the function takes.

    >>> parse_arguments("f", FuncType.of(["i32", "f64"]), ["0x10", "-1.5"])
    [16, -1.5]
    """
    if len(words) != len(type_.params):
        takes = ", ".join(map(value_type_name, type_.params)) or "none"
        raise TraplineError(f"{name}: found {len(words)} arguments, expected {len(type_.params)}: {takes}")
    return [
        _argument(f"{name}: argument {number}", type_code, word)
        for number, (type_code, word) in enumerate(zip(type_.params, words, strict=True), 1)
    ]


def _argument(what: str, type_: int, word: str) -> Any:
    wanted = f"{what}: found {word!r}, expected "
    if type_ in _BITS:
        bits = _BITS[type_]
        try:
            number = int(word, 0)
        except ValueError:
            raise TraplineError(f"{wanted}an integer ({value_type_name(type_)})") from None
        if not -(1 << bits - 1) <= number < 1 << bits:
            raise TraplineError(f"{wanted}an integer of {bits} bits ({value_type_name(type_)})")
        return number
    if type_ in (F32, F64):
        try:
            return float.fromhex(word) if word.lower().lstrip("+-").startswith("0x") else float(word)
        except (ValueError, OverflowError):
            raise TraplineError(f"{wanted}a number ({value_type_name(type_)})") from None
    if word == "null":
        return None
    raise TraplineError(f"{wanted}null, the only {value_type_name(type_)} that can be written")


def result_text(type_: int, value: Any) -> str:
    """A result as a line.

    >>> result_text(0x7F, -1), result_text(0x7C, 3.0), result_text(0x7D, 0.10000000149011612), result_text(0x7C, 1e21)
    ('-1', '3', '0.1', '1000000000000000000000')
    """
    if type_ in (F32, F64):
        return _float(value, type_ == F32)
    if type_ in (I32, I64):
        return str(value)
    if value is None:
        return "null"
    return "<funcref>" if type_ == FUNCREF else "<externref>"


def _float(value: float, is_32: bool) -> str:
    """The shortest decimals that are read back as the same float, without an exponent."""
    if value != value or value in (float("inf"), float("-inf")):
        return "NaN" if value != value else str(value)
    digits = repr(value)
    if is_32:
        bits = struct.pack("<f", value)
        digits = next(
            text for precision in range(1, 10) if _packs_to(text := f"{value:.{precision}g}", bits)
        )
    from decimal import Decimal  # only functions that return floats need it

    text = format(Decimal(digits), "f")
    return text.removesuffix(".0")


def _packs_to(text: str, bits: bytes) -> bool:
    try:
        return struct.pack("<f", float(text)) == bits
    except OverflowError:
        return False
