"""The types of a native function's parameters and result, written as `i32(i32, f64)`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from trapline.errors import FiberError

__all__ = ["Signature"]

CODES: Final = {
    "i32": "i",
    "u32": "u",
    "i64": "l",
    "u64": "L",
    "ptr": "L",
    "f32": "f",
    "f64": "d",
    "void": "v",
}
"""Type name -> type code. Must match the codes of native/core_module.c."""

_FORM = re.compile(r"\s*(\w+)\s*(?:\(\s*(.*?)\s*\))?\s*", re.DOTALL)


class Signature(NamedTuple):
    """A parsed signature: `parameters` are type codes, or None where each argument's Python type decides."""

    parameters: bytes | None
    result: str

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Parse ``result(parameter, ...)``; ``result`` alone leaves the parameters to the arguments' Python types.

        Types are i32, u32, i64, u64, ptr, f32, f64, and void for no result. Raises FiberError.

        >>> Signature.parse("i32(i32, f64)")
        Signature(parameters=b'id', result='i')
        """
        form = _FORM.fullmatch(text) if isinstance(text, str) else None
        if form is None:
            raise FiberError(f"signature: found {text!r}, expected result(parameter, ...) such as i32(i32, f64)")
        result, inside = form.groups()
        if inside is None:
            return cls(None, cls._code(text, result, CODES))
        names = [name.strip() for name in inside.split(",")] if inside else []
        values = {name: code for name, code in CODES.items() if name != "void"}
        codes = "".join(cls._code(text, name, values) for name in names)
        return cls(codes.encode(), cls._code(text, result, CODES))

    @staticmethod
    def _code(text: str, name: str, allowed: dict[str, str]) -> str:
        if name not in allowed:
            raise FiberError(f"signature {text!r}: found type {name!r}, expected one of {', '.join(allowed)}")
        return allowed[name]
