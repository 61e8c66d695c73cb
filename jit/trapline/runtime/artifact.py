"""Compiled modules as bytes: what `Module.serialize` gives and the cache keeps.

    magic, u32 number of this format
    SHA-256 of everything that follows
    u32 size, the key as JSON: what the code was made by and for, the module's name, the kinds of trap
    u64 size, the module in the binary format as it was given
    u32 count; each function: u32 bytes of code, u32 bytes of data at its end, u32 rows, u32 fixups;
        the code; rows of 6 i32 (offset, opcode index, number of the kind, place, block, step); fixups of 2 u32
        (offset, type index)

All numbers are little-endian. Nothing is read from data whose hash does not fit.
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

from trapline.compile.x86_64.emit import TrapRow
from trapline.errors import DecodeError
from trapline.native import HOST
from trapline.runtime.engine import Config
from trapline.runtime.module_code import FunctionCode

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


def key(config: Config) -> dict[str, Any]:
    """Everything but the module that decides about the code."""
    return {
        "compiler": compiler_hash(),
        "arch": HOST.name,
        "debug": config.debug,
        "memories": config.memories,
        "features": asdict(config.features),
    }


def encode(config: Config, name: str, bytecode: bytes, functions: Mapping[int, FunctionCode]) -> bytes:
    """The bytes of a compiled module."""
    kinds: dict[str, int] = {}
    body = bytearray(struct.pack("<I", len(functions)))
    for defined in range(len(functions)):
        code, rows, fixups, data_bytes = functions[defined]
        body += struct.pack("<4I", len(code), data_bytes, len(rows), len(fixups)) + code
        for row in rows:
            kind = kinds.setdefault(row.kind, len(kinds))
            body += struct.pack("<6i", row.offset, row.pos, kind, row.place, row.block, row.step)
        for fixup in fixups:
            body += struct.pack("<2I", *fixup)
    header = json.dumps({"key": key(config), "name": name, "kinds": list(kinds)}).encode()
    contents = struct.pack("<I", len(header)) + header + struct.pack("<Q", len(bytecode)) + bytecode + body
    return _MAGIC + struct.pack("<I", _FORMAT) + hashlib.sha256(contents).digest() + contents


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def numbers(self, format: str) -> tuple[int, ...]:
        return struct.unpack(format, self.take(struct.calcsize(format)))


def decode(data: bytes, config: Config) -> Artifact:
    """A compiled module from its bytes. Raises DecodeError when they are damaged."""
    data = bytes(data)
    start = len(_MAGIC) + 36
    if not data.startswith(_MAGIC) or len(data) < start:
        raise DecodeError("not an artifact", expected="what Module.serialize gave", found=repr(data[:16]))
    (number,) = struct.unpack_from("<I", data, len(_MAGIC))
    if number != _FORMAT:
        raise DecodeError("an artifact of another version", expected=f"format {_FORMAT}", found=str(number))
    if hashlib.sha256(memoryview(data)[start:]).digest() != data[start - 32 : start]:
        raise DecodeError("damaged artifact", expected="the contents that its hash was made of", found="others")
    reader = _Reader(data, start)
    header = json.loads(reader.take(*reader.numbers("<I")))
    bytecode = reader.take(*reader.numbers("<Q"))
    if header["key"] != key(config):
        return Artifact(header["name"], bytecode, None)
    kinds = header["kinds"]
    functions: Functions = {}
    (count,) = reader.numbers("<I")
    for defined in range(count):
        code_bytes, data_bytes, row_count, fixup_count = reader.numbers("<4I")
        code = reader.take(code_bytes)
        rows = struct.iter_unpack("<6i", reader.take(24 * row_count))
        fixups = struct.iter_unpack("<2I", reader.take(8 * fixup_count))
        functions[defined] = FunctionCode(
            code,
            tuple([TrapRow(offset, pos, kinds[kind], *rest) for offset, pos, kind, *rest in rows]),
            tuple([(offset, type_index) for offset, type_index in fixups]),
            data_bytes,
        )
    return Artifact(header["name"], bytecode, functions)
