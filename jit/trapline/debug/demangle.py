"""Names as programmers wrote them: the nested names of C++ and of Rust's older scheme.

Linkers write most names demangled into the name section; this is for those that do not. Only plain nested names are
read (Itanium C++ ABI, 5.1.2 and 5.1.3, source names; Rust's legacy mangling, which is the same with a hash and
escapes); templates, operators, substitutions and Rust's v0 scheme stay as they are.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["demangle"]

_NESTED: Final = re.compile(r"_ZNK?((?:\d+\D.*?)+)(?:([CD])[1-5])?E(.*)", re.DOTALL)
_HASH: Final = re.compile(r"h[0-9a-f]{16}")
_ESCAPES: Final = dict(SP="@", BP="*", RF="&", LT="<", GT=">", LP="(", RP=")", C=",")  # noqa: C408
_ESCAPE: Final = re.compile(r"\$(\w+)\$|\.\.")


def demangle(name: str) -> str:
    """A name as its program wrote it, or the name itself.

    >>> demangle("_ZN4core9panicking5panic17h0123456789abcdefE"), demangle("_ZN5Shape4areaEv"), demangle("_Z3addii")
    ('core::panicking::panic', 'Shape::area', 'add')
    >>> demangle("_ZN5ShapeD2Ev"), demangle("main"), demangle("_ZNSt6vectorIiE4sizeEv")
    ('Shape::~Shape', 'main', '_ZNSt6vectorIiE4sizeEv')
    """
    if not name.startswith("_Z"):
        return name
    if name[2:3].isdigit():
        parts, rest = _source_names(name[2:], 1)
        return parts[0] if parts and "I" not in rest[:1] else name
    found = _NESTED.fullmatch(name)
    if found is None:
        return name
    parts, rest = _source_names(name[3:].removeprefix("K"), 1 << 10)
    if not parts or not (rest.startswith("E") or re.match(r"[CD][1-5]E", rest)):
        return name
    if rest[0] in "CD":
        parts.append(("~" if rest[0] == "D" else "") + parts[-1])
    elif _HASH.fullmatch(parts[-1]) and len(parts) > 1:
        parts = [_ESCAPE.sub(_unescaped, part.removeprefix("_") if "$" in part else part) for part in parts[:-1]]
    return "::".join(parts)


def _unescaped(found: re.Match[str]) -> str:
    word = found[1]
    if word is None:
        return "::"
    if word in _ESCAPES:
        return _ESCAPES[word]
    try:
        return chr(int(word.removeprefix("u"), 16))
    except (ValueError, OverflowError):
        return found[0]


def _source_names(text: str, most: int) -> tuple[list[str], str]:
    """The names with their lengths in front that a text begins with, and the rest of it."""
    parts: list[str] = []
    while len(parts) < most and (found := re.match(r"\d{1,6}", text)):
        stop = found.end() + int(found[0])
        if stop > len(text) or stop == found.end():
            break
        parts.append(text[found.end() : stop])
        text = text[stop:]
    return parts, text
