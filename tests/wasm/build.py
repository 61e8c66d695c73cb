"""Modules written byte by byte, for what no assembler writes."""

from __future__ import annotations


def leb(value: int) -> bytes:
    """An unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def section(section_id: int, contents: bytes) -> bytes:
    return bytes([section_id]) + leb(len(contents)) + contents


def vector(*items: bytes) -> bytes:
    return leb(len(items)) + b"".join(items)


def name(text: str) -> bytes:
    encoded = text.encode()
    return leb(len(encoded)) + encoded


def custom(text: str, contents: bytes) -> bytes:
    return section(0, name(text) + contents)


def module(*sections: bytes) -> bytes:
    return b"\0asm\1\0\0\0" + b"".join(sections)


def function_type(params: bytes = b"", results: bytes = b"") -> bytes:
    return b"\x60" + vector(*(bytes([byte]) for byte in params)) + vector(*(bytes([byte]) for byte in results))


def one_function(code: bytes, *, type_: bytes = b"\x60\0\0", locals_: bytes = b"\0", more: bytes = b"") -> bytes:
    """A module with one type and one function of it, whose code ends in `end`. `more`: sections before the code."""
    body = locals_ + code
    return module(section(1, vector(type_)), section(3, b"\1\0"), more, section(10, vector(leb(len(body)) + body)))
