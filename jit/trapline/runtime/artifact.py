"""Compiled modules as bytes: what `Module.serialize` gives and the cache keeps.

    magic, u32 number of this format
    SHA-256 of everything that follows
    u32 size, the key as JSON: what the code was made by and for, the module's name
    u64 size, the module in the binary format as it was given
    u32 count; each function: u32 defined index, and what function_code.py makes of it

A function that is not there is compiled when it is called. All numbers are little-endian. Nothing is read from data
whose hash does not fit.
"""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from trapline.errors import DecodeError
from trapline.native import HOST
from trapline.runtime.engine import Config
from trapline.runtime.function_code import FunctionCode

__all__ = ["Artifact", "Functions", "decode", "encode", "key"]

Functions: TypeAlias = dict[int, FunctionCode]

_MAGIC: Final = b"\0trapline artifact\n"
_FORMAT: Final = 1
_PACKAGE: Final = Path(__file__).resolve().parent.parent
_MADE_BY: Final = ("arch", "asm", "compile", "wasm")


class Artifact(NamedTuple):
    """`functions` by defined index, or None where the code was made for something else than asked."""

    name: str
    bytecode: bytes
    functions: Functions | None


@functools.cache
def compiler_hash() -> str:
    """What tells this compiler from one that may make other code: a hash of its sources."""
    found = hashlib.sha256()
    for part in _MADE_BY:
        for path in sorted((_PACKAGE / part).rglob("*.py")):
            found.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def key(config: Config, checked: bool) -> dict[str, Any]:
    """Everything but the module that decides about the code."""
    return {
        "compiler": compiler_hash(),
        "arch": HOST.name,
        "debug": config.debug,
        "checked": checked,
        "features": asdict(config.features),
    }


def encode(
    config: Config, checked: bool, name: str, bytecode: bytes, functions: Mapping[int, FunctionCode]
) -> bytes:
    """The bytes of a compiled module."""
    parts = [struct.pack("<I", len(functions))]
    for defined, function in sorted(functions.items()):
        parts.append(struct.pack("<I", defined) + function.encode())
    header = json.dumps({"key": key(config, checked), "name": name}).encode()
    body = b"".join(parts)
    contents = struct.pack("<I", len(header)) + header + struct.pack("<Q", len(bytecode)) + bytecode + body
    return _MAGIC + struct.pack("<I", _FORMAT) + hashlib.sha256(contents).digest() + contents


def decode(data: bytes, config: Config, checked: bool) -> Artifact:
    """A compiled module from its bytes. Raises DecodeError when they are damaged."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise DecodeError("not an artifact", expected="bytes", found=type(data).__name__)
    data = bytes(data)
    start = len(_MAGIC) + 36
    if not data.startswith(_MAGIC) or len(data) < start:
        raise DecodeError("not an artifact", expected="what Module.serialize gave", found=repr(data[:16]))
    (number,) = struct.unpack_from("<I", data, len(_MAGIC))
    if number != _FORMAT:
        raise DecodeError("an artifact of another version", expected=f"format {_FORMAT}", found=str(number))
    if hashlib.sha256(memoryview(data)[start:]).digest() != data[start - 32 : start]:
        raise DecodeError("damaged artifact", expected="the contents that its hash was made of", found="others")
    (header_bytes,) = struct.unpack_from("<I", data, start)
    start += 4
    header = json.loads(data[start : start + header_bytes])
    start += header_bytes
    (module_bytes,) = struct.unpack_from("<Q", data, start)
    start += 8
    bytecode = data[start : start + module_bytes]
    start += module_bytes
    if header["key"] != key(config, checked):
        return Artifact(header["name"], bytecode, None)
    functions: Functions = {}
    (count,) = struct.unpack_from("<I", data, start)
    start += 4
    for _ in range(count):
        (defined,) = struct.unpack_from("<I", data, start)
        functions[defined], start = FunctionCode.decode(data, start + 4)
    return Artifact(header["name"], bytecode, functions)
