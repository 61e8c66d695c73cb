"""The guest's memory, as WASI functions read and write it: every pointer and size is checked here.

Pointers and sizes arrive as i32, so negative ones are large ones. Whatever does not lie in the memory raises Refused
with FAULT, or struct.error, which becomes FAULT. Misaligned pointers are taken as they are.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from trapline import tuning
from trapline.runtime.memory import Memory
from trapline.wasi.abi import U32_PAIR
from trapline.wasi.errno import Errno, Refused

__all__ = ["MASK32", "MASK64", "buffers", "check", "flags_in", "path_at", "store", "total_bytes", "window"]

MASK32: Final = 0xFFFF_FFFF
MASK64: Final = 0xFFFF_FFFF_FFFF_FFFF
_VECTORS: Final = [Struct(f"<{2 * count}I") for count in range(17)]


def check(memory: Memory, at: int, size_bytes: int) -> int:
    """The address as a number from 0 on, if so many bytes lie in the memory there. Raises Refused."""
    at &= MASK32
    if at + size_bytes > len(memory):
        raise Refused(Errno.FAULT)
    return at


def window(memory: Memory, at: int, size_bytes: int) -> memoryview:
    """A part of the memory to read and write. Raises Refused."""
    size_bytes &= MASK32
    at = check(memory, at, size_bytes)
    return memoryview(memory)[at : at + size_bytes]


def store(memory: Memory, at: int, data: bytes) -> None:
    """Write bytes. Raises Refused."""
    at = check(memory, at, len(data))
    memory[at : at + len(data)] = data


def buffers(memory: Memory, at: int, count: int) -> list[memoryview]:
    """What an array of $iovec or $ciovec describes; of very long ones the beginning. Raises Refused, struct.error."""
    count &= MASK32
    at &= MASK32
    view = memoryview(memory)
    end = len(view)
    if count == 1:
        start, size_bytes = U32_PAIR.unpack_from(view, at)
        if start + size_bytes > end:
            raise Refused(Errno.FAULT)
        return [view[start : start + size_bytes]]
    if at + 8 * count > end:
        raise Refused(Errno.FAULT)
    count = min(count, tuning.WASI_MAX_VECTORS)
    layout = _VECTORS[count] if count < len(_VECTORS) else Struct(f"<{2 * count}I")
    words = layout.unpack_from(view, at)
    found = []
    for start, size_bytes in zip(words[::2], words[1::2], strict=True):
        if size_bytes:
            if start + size_bytes > end:
                raise Refused(Errno.FAULT)
            found.append(view[start : start + size_bytes])
    return found


def total_bytes(views: list[memoryview]) -> int:
    """The size of buffers together."""
    return sum(map(len, views))


def path_at(memory: Memory, at: int, size_bytes: int) -> bytes:
    """A path. Raises Refused: FAULT, NAMETOOLONG, ILSEQ where it is not UTF-8, INVAL where it holds a zero byte."""
    size_bytes &= MASK32
    at = check(memory, at, size_bytes)
    if size_bytes > tuning.WASI_MAX_PATH_BYTES:
        raise Refused(Errno.NAMETOOLONG)
    path: bytes = memory[at : at + size_bytes]
    if not path.isascii():
        try:
            path.decode()
        except UnicodeDecodeError:
            raise Refused(Errno.ILSEQ) from None
    if 0 in path:
        raise Refused(Errno.INVAL)
    return path


def flags_in(value: int, known: int) -> int:
    """Flags, if there are only known ones. Raises Refused."""
    value &= MASK32
    if value & ~known:
        raise Refused(Errno.INVAL)
    return value
