"""A guest without a program: WASI functions called from Python, on the memory of a real instance."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from trapline import Engine, Instance, Memory, Module, Store, Wasi, WasiConfig, parse_text
from trapline.runtime.func import annotated_type
from trapline.wasi.abi import DIRENT, PREVIEW1, Rights, Stat
from trapline.wasi.errno import Errno

__all__ = ["BAD", "READ", "ROOT", "WRITE", "Guest", "errno"]

READ, WRITE = Rights.FD_READ, Rights.FD_WRITE
ROOT = 3
"""The first preopened directory."""
BAD = -16
"""A pointer close to the end of 32 bits: never in these memories."""
_RESULT = 64
_FIRST_FREE = 4096


def errno(number: int) -> str:
    """The name of an errno, for readable failures."""
    return Errno(number).name


class Guest:
    """`guest.fd_read(...)` calls that function and returns its errno; the methods below do the usual things."""

    def __init__(self, config: WasiConfig | None = None, module: str = PREVIEW1.module, pages: int = 4) -> None:
        self.wasi = Wasi(config)
        self.functions = self.wasi[module]
        store = Store(Engine())
        text = parse_text(f'(module (memory (export "memory") {pages}))')
        self.instance = Instance(store, Module(store.engine, text))
        self.memory: Memory = self.instance.exports.memory
        self._caller = store.caller(self.instance)
        self._free = _FIRST_FREE

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = self.functions[name]
        if annotated_type(function)[0]:
            return lambda *args: function(self._caller, *args)
        return function

    # ---- memory ----

    def room(self, size_bytes: int) -> int:
        """An address with so many bytes of its own."""
        at = self._free
        self._free += -(-size_bytes // 8) * 8
        if self._free > len(self.memory):
            self._free, at = _FIRST_FREE + size_bytes, _FIRST_FREE
        return at

    def put(self, data: bytes | str) -> tuple[int, int]:
        """Address and size of bytes, now in the memory."""
        data = data.encode() if isinstance(data, str) else data
        at = self.room(len(data))
        self.memory.write(at, data)
        return at, len(data)

    def vectors(self, *parts: tuple[int, int]) -> tuple[int, int]:
        """Address and count of an array of buffers."""
        return self.put(b"".join(struct.pack("<II", *part) for part in parts))[0], len(parts)

    # ---- usual calls; the first value is the errno's name ----

    def open(
        self,
        path: bytes | str,
        rights: int = READ,
        oflags: int = 0,
        *,
        fd: int = ROOT,
        follow: int = 1,
        fdflags: int = 0,
    ) -> tuple[str, int]:
        result = self.path_open(fd, follow, *self.put(path), oflags, rights, -1, fdflags, _RESULT)
        return errno(result), self.memory.read_u32(_RESULT)

    def opened(self, path: bytes | str, rights: int = READ, oflags: int = 0, **more: Any) -> int:
        """The descriptor of what has to open."""
        result, fd = self.open(path, rights, oflags, **more)
        assert result == "SUCCESS", (path, result)
        return fd

    def read(self, fd: int, size_bytes: int = 1000) -> tuple[str, bytes]:
        at = self.room(size_bytes)
        result = self.fd_read(fd, *self.vectors((at, size_bytes)), _RESULT)
        return errno(result), b"" if result else self.memory.read(at, self.memory.read_u32(_RESULT))

    def pread(self, fd: int, offset: int, size_bytes: int = 1000) -> tuple[str, bytes]:
        at = self.room(size_bytes)
        result = self.fd_pread(fd, *self.vectors((at, size_bytes)), offset, _RESULT)
        return errno(result), b"" if result else self.memory.read(at, self.memory.read_u32(_RESULT))

    def write(self, fd: int, data: bytes) -> tuple[str, int]:
        result = self.fd_write(fd, *self.vectors(self.put(data)), _RESULT)
        return errno(result), self.memory.read_u32(_RESULT)

    def pwrite(self, fd: int, data: bytes, offset: int) -> tuple[str, int]:
        result = self.fd_pwrite(fd, *self.vectors(self.put(data)), offset, _RESULT)
        return errno(result), self.memory.read_u32(_RESULT)

    def seek(self, fd: int, offset: int, whence: int = 0) -> tuple[str, int]:
        result = self.fd_seek(fd, offset, whence, _RESULT)
        return errno(result), self.memory.read_u64(_RESULT)

    def stat(self, path: bytes | str, *, fd: int = ROOT, follow: int = 1) -> tuple[str, Stat]:
        result = self.path_filestat_get(fd, follow, *self.put(path), _RESULT)
        return errno(result), Stat(*PREVIEW1.filestat.unpack_from(self.memory, _RESULT))

    def fstat(self, fd: int) -> tuple[str, Stat]:
        result = self.fd_filestat_get(fd, _RESULT)
        return errno(result), Stat(*PREVIEW1.filestat.unpack_from(self.memory, _RESULT))

    def readdir(self, fd: int, size_bytes: int = 4096, cookie: int = 0) -> tuple[str, list[tuple[bytes, int, int]]]:
        """(name, $filetype, cookie of the next) of each whole entry."""
        at = self.room(size_bytes)
        result = self.fd_readdir(fd, at, size_bytes, cookie, _RESULT)
        data = b"" if result else self.memory.read(at, self.memory.read_u32(_RESULT))
        found = []
        while len(data) >= DIRENT.size:
            following, _, length, kind = DIRENT.unpack_from(data)
            name = data[DIRENT.size : DIRENT.size + length]
            if len(name) == length:
                found.append((name, kind, following))
            data = data[DIRENT.size + length :]
        return errno(result), found

    def on_path(self, function: str, path: bytes | str, *, fd: int = ROOT) -> str:
        """A function of (fd, path)."""
        return errno(getattr(self, function)(fd, *self.put(path)))

    def rename(self, old: bytes | str, new: bytes | str, *, fd: int = ROOT, to: int = ROOT) -> str:
        return errno(self.path_rename(fd, *self.put(old), to, *self.put(new)))

    def link(self, old: bytes | str, new: bytes | str, *, fd: int = ROOT, to: int = ROOT, follow: int = 0) -> str:
        return errno(self.path_link(fd, follow, *self.put(old), to, *self.put(new)))

    def symlink(self, target: bytes | str, path: bytes | str, *, fd: int = ROOT) -> str:
        return errno(self.path_symlink(*self.put(target), fd, *self.put(path)))

    def readlink(self, path: bytes | str, size_bytes: int = 1000, *, fd: int = ROOT) -> tuple[str, bytes]:
        at = self.room(size_bytes)
        result = self.path_readlink(fd, *self.put(path), at, size_bytes, _RESULT)
        return errno(result), b"" if result else self.memory.read(at, self.memory.read_u32(_RESULT))
