"""Linear memories: WebAssembly's bytes as a Python buffer."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from trapline import native
from trapline.errors import MemoryAccessError
from trapline.runtime.engine import first_time
from trapline.wasm.types import PAGE_BYTES, Limits, MemoryType

if TYPE_CHECKING:
    from trapline.runtime.store import Store

__all__ = ["Memory"]


@lru_cache(256)
def _format(spelling: str) -> struct.Struct:
    return struct.Struct(spelling if spelling[:1] in "<>=!@" else "<" + spelling)


class Memory(native.Memory):
    """A linear memory: bytes from 0, growing in pages of 64 KiB, shared by everything that imports it.

    A writable buffer (`memoryview(memory)`, numpy), and a sequence of bytes by index and slice. A view keeps the size
    the memory had when it was made; memories never move, so it stays valid. ``Memory(store, minimum, maximum)`` makes
    one, in pages.

    Typed access is little-endian, by address in bytes: ``memory.read_u32(16)``, ``memory.write_f64(8, 0.5)``, for i8 u8
    i16 u16 i32 u32 i64 u64 f32 f64; `unpack` and `pack` take formats of the struct module. Raises MemoryAccessError
    outside of the memory.

    >>> import trapline
    >>> memory = trapline.Memory(trapline.Store(), 1)
    >>> memory[8:12] = b"\\x2a\\0\\0\\0"
    >>> memory.read_u32(8), len(memory), memory.grow(1), memory.pages
    (42, 65536, 1, 2)
    """

    __slots__ = ("maximum", "store")

    def __init__(self, store: Store, minimum: int = 1, maximum: int | None = None) -> None:
        first_time(self, "store")
        self.store = store
        self.maximum = maximum
        most = store.engine.config.max_memory_pages
        if not isinstance(minimum, int) or not 0 <= minimum <= most:
            raise MemoryAccessError(f"found a memory of {minimum!r} pages, expected 0 .. {most}")
        if maximum is not None and (not isinstance(maximum, int) or not minimum <= maximum <= 65536):
            raise MemoryAccessError(f"found a maximum of {maximum!r} pages, expected {minimum} .. 65536")
        checked = store.engine.config.memories == "checked"
        super().__init__(minimum, most if maximum is None else min(maximum, most), checked)

    @property
    def type(self) -> MemoryType:
        """Its type as an import would have to match it: its present size and its maximum, in pages."""
        return MemoryType(Limits(self.pages, self.maximum))

    def grow(self, delta: int) -> int:
        """Add pages of zeros; returns how many there were. Raises MemoryAccessError where it may not grow so far."""
        if not isinstance(delta, int) or not 0 <= delta <= 65536:
            raise MemoryAccessError(f"found {delta!r} pages to grow by, expected 0 .. 65536")
        before = super().grow(delta)
        if before < 0:
            fits = self.pages + delta <= self.max_pages
            why = "the system has no room for it" if fits else f"at most {self.max_pages} are allowed"
            raise MemoryAccessError(f"a memory of {self.pages} pages cannot grow by {delta}: {why}")
        return before

    def read(self, start: int, size_bytes: int) -> bytes:
        """`size_bytes` bytes from an address on. Raises MemoryAccessError."""
        self._check(start, size_bytes)
        found: bytes = self[start : start + size_bytes]
        return found

    def write(self, start: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes at an address. Raises MemoryAccessError."""
        view = memoryview(data).cast("B")
        self._check(start, len(view))
        self[start : start + len(view)] = view

    def _check(self, start: int, size_bytes: int) -> None:
        if not isinstance(start, int) or not isinstance(size_bytes, int):
            raise MemoryAccessError(f"found {size_bytes!r} bytes at {start!r}, expected integers")
        if start < 0 or size_bytes < 0 or start + size_bytes > len(self):
            raise MemoryAccessError(f"{size_bytes} bytes at {start:#x} do not lie in a memory of {len(self)} bytes")

    def unpack(self, start: int, format: str) -> tuple[Any, ...]:
        """Values at an address by a format of the struct module, little-endian unless it says otherwise."""
        spelled = _format(format)
        self._check(start, spelled.size)
        return spelled.unpack_from(self, start)

    def pack(self, start: int, format: str, *values: Any) -> None:
        """Write values at an address by a format of the struct module."""
        spelled = _format(format)
        self._check(start, spelled.size)
        spelled.pack_into(self, start, *values)

    def read_string(self, start: int, size_bytes: int | None = None, encoding: str = "utf-8") -> str:
        """Text: so many bytes, or up to the zero byte. Raises MemoryAccessError, UnicodeDecodeError."""
        if size_bytes is not None:
            return self.read(start, size_bytes).decode(encoding)
        self._check(start, 0)
        out = bytearray()
        while start < len(self):
            piece: bytes = self[start : min(start + 256, len(self))]
            stop = piece.find(0)
            if stop >= 0:
                return (bytes(out) + piece[:stop]).decode(encoding)
            out += piece
            start += len(piece)
        raise MemoryAccessError(f"the text at {start - len(out):#x} has no zero byte before the end of the memory")

    def write_string(self, start: int, text: str, encoding: str = "utf-8", *, zero: bool = True) -> int:
        """Write text, with a zero byte behind it unless told otherwise; returns how many bytes that took."""
        data = text.encode(encoding) + b"\0" * zero
        self.write(start, data)
        return len(data)

    def __repr__(self) -> str:
        return f"<Memory of {self.pages} pages of {PAGE_BYTES} bytes>"

    def read_u8(self, start: int) -> int:
        """One unsigned byte; like the others below, named after what they read or write."""
        return int(self.unpack(start, "B")[0])

    def read_i8(self, start: int) -> int:
        return int(self.unpack(start, "b")[0])

    def read_u16(self, start: int) -> int:
        return int(self.unpack(start, "H")[0])

    def read_i16(self, start: int) -> int:
        return int(self.unpack(start, "h")[0])

    def read_u32(self, start: int) -> int:
        return int(self.unpack(start, "I")[0])

    def read_i32(self, start: int) -> int:
        return int(self.unpack(start, "i")[0])

    def read_u64(self, start: int) -> int:
        return int(self.unpack(start, "Q")[0])

    def read_i64(self, start: int) -> int:
        return int(self.unpack(start, "q")[0])

    def read_f32(self, start: int) -> float:
        return float(self.unpack(start, "f")[0])

    def read_f64(self, start: int) -> float:
        return float(self.unpack(start, "d")[0])

    def write_u8(self, start: int, value: int) -> None:
        self.write(start, (value & 0xFF).to_bytes(1, "little"))

    def write_u16(self, start: int, value: int) -> None:
        self.write(start, (value & 0xFFFF).to_bytes(2, "little"))

    def write_u32(self, start: int, value: int) -> None:
        self.write(start, (value & 0xFFFF_FFFF).to_bytes(4, "little"))

    def write_u64(self, start: int, value: int) -> None:
        self.write(start, (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little"))

    # A negative number's low bits are what its signed type stores.
    write_i8, write_i16, write_i32, write_i64 = write_u8, write_u16, write_u32, write_u64

    def write_f32(self, start: int, value: float) -> None:
        try:
            self.pack(start, "f", value)
        except OverflowError:  # beyond the largest f32: rounds to infinity, as a demotion does
            self.pack(start, "f", math.copysign(math.inf, value))

    def write_f64(self, start: int, value: float) -> None:
        self.pack(start, "d", value)
