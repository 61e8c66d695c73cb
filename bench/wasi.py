"""As much of WASI preview 1 as the programs of the corpus import, over any object with slices for a memory.

Files are read from one folder, the preopened directory `.`; what is written to stdout and stderr is kept. Nothing else
can be written or opened. Source: the WASI preview 1 witx (snapshot_preview1), in whose names the methods are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["Exit", "Wasi"]

SUCCESS, BADF, INVAL, IO, ISDIR, NOENT, SPIPE, NOTCAPABLE = 0, 8, 28, 29, 31, 44, 70, 76
CHARACTER_DEVICE, DIRECTORY, REGULAR_FILE = 2, 3, 4
PREOPENED: Final = 3
ALL_RIGHTS: Final = (1 << 30) - 1
CREATE, MUST_BE_DIRECTORY = 1, 2
"""Of the oflags of path_open."""


class Exit(Exception):
    """proc_exit: the program has ended with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Memory(Protocol):
    """What is asked of a memory."""

    def __getitem__(self, index: Any, /) -> Any: ...
    def __setitem__(self, index: Any, value: Any, /) -> None: ...


class _File:
    """An open file; `content` is None for the directory and for the streams."""

    __slots__ = ("content", "kind", "position")

    def __init__(self, kind: int, content: bytes | None = None) -> None:
        self.kind = kind
        self.content = content
        self.position = 0


class Wasi:
    """One program's view of the system. Set `memory` before it runs.

    `functions` are what the module imports from `wasi_snapshot_preview1`, by name.
    """

    def __init__(self, folder: Path) -> None:
        self.memory: Memory = bytearray()
        self.output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self._folder = folder
        self._files = {number: _File(CHARACTER_DEVICE) for number in range(3)}
        self._files[PREOPENED] = _File(DIRECTORY)
        names = (
            "args_get args_sizes_get environ_get environ_sizes_get fd_close fd_fdstat_get fd_filestat_get "
            "fd_prestat_dir_name fd_prestat_get fd_read fd_seek fd_sync fd_write path_filestat_get path_open proc_exit "
            "random_get"
        )
        self.functions: dict[str, Callable[..., int | None]] = {name: getattr(self, name) for name in names.split()}

    # ---- memory ----

    def _write(self, at: int, data: bytes) -> None:
        at &= 0xFFFF_FFFF
        self.memory[at : at + len(data)] = data

    def _read(self, at: int, size_bytes: int) -> bytes:
        at &= 0xFFFF_FFFF
        return bytes(self.memory[at : at + size_bytes])

    def _write_u32(self, at: int, *values: int) -> None:
        self._write(at, struct.pack(f"<{len(values)}I", *values))

    def _vectors(self, at: int, count: int) -> list[tuple[int, int]]:
        """(address, bytes) of each iovec."""
        words = struct.unpack(f"<{2 * count}I", self._read(at, 8 * count))
        return list(zip(words[::2], words[1::2], strict=True))

    # ---- arguments and environment: none ----

    def args_sizes_get(self, count: int, size_bytes: int) -> int:
        self._write_u32(count, 0)
        self._write_u32(size_bytes, 0)
        return SUCCESS

    def args_get(self, pointers: int, texts: int) -> int:
        return SUCCESS

    environ_sizes_get = args_sizes_get
    environ_get = args_get

    # ---- open files ----

    def fd_close(self, fd: int) -> int:
        return BADF if self._files.pop(fd, None) is None else SUCCESS

    def fd_fdstat_get(self, fd: int, at: int) -> int:
        file = self._files.get(fd)
        if file is None:
            return BADF
        rights = ALL_RIGHTS if file.kind != CHARACTER_DEVICE else ALL_RIGHTS & ~0x24  # neither fd_seek nor fd_tell
        self._write(at, struct.pack("<BxHxxxxQQ", file.kind, 0, rights, ALL_RIGHTS))
        return SUCCESS

    def _filestat(self, at: int, kind: int, size_bytes: int) -> int:
        self._write(at, struct.pack("<QQBxxxxxxxQQQQQ", 1, 1, kind, 1, size_bytes, 0, 0, 0))
        return SUCCESS

    def fd_filestat_get(self, fd: int, at: int) -> int:
        file = self._files.get(fd)
        return BADF if file is None else self._filestat(at, file.kind, len(file.content or b""))

    def fd_read(self, fd: int, vectors: int, count: int, read: int) -> int:
        file = self._files.get(fd)
        if file is None:
            return BADF
        if file.kind == DIRECTORY:
            return ISDIR
        total = 0
        for at, size_bytes in self._vectors(vectors, count):
            data = (file.content or b"")[file.position : file.position + size_bytes]
            self._write(at, data)
            file.position += len(data)
            total += len(data)
            if len(data) < size_bytes:
                break
        self._write_u32(read, total)
        return SUCCESS

    def fd_write(self, fd: int, vectors: int, count: int, written: int) -> int:
        output = self.output.get(fd)
        if output is None or fd not in self._files:
            return BADF
        before = len(output)
        for at, size_bytes in self._vectors(vectors, count):
            output += self._read(at, size_bytes)
        self._write_u32(written, len(output) - before)
        return SUCCESS

    def fd_seek(self, fd: int, offset: int, whence: int, position: int) -> int:
        file = self._files.get(fd)
        if file is None:
            return BADF
        if file.content is None:
            return SPIPE
        if not 0 <= whence <= 2:
            return INVAL
        start = (0, file.position, len(file.content))[whence]
        if start + offset < 0:
            return INVAL
        file.position = start + offset
        self._write(position, file.position.to_bytes(8, "little"))
        return SUCCESS

    def fd_sync(self, fd: int) -> int:
        return SUCCESS if fd in self._files else BADF

    # ---- the directory ----

    def fd_prestat_get(self, fd: int, at: int) -> int:
        if fd != PREOPENED:
            return BADF
        self._write_u32(at, 0, 1)  # a directory whose name has one byte
        return SUCCESS

    def fd_prestat_dir_name(self, fd: int, path: int, size_bytes: int) -> int:
        if fd != PREOPENED:
            return BADF
        if size_bytes < 1:
            return INVAL
        self._write(path, b".")
        return SUCCESS

    def _find(self, fd: int, path: int, size_bytes: int) -> Path | int:
        """The file that a path names, or an errno."""
        if fd not in self._files:
            return BADF
        found = (self._folder / self._read(path, size_bytes).decode("utf-8", "replace")).resolve()
        if not found.is_relative_to(self._folder.resolve()):
            return NOTCAPABLE
        return found if found.exists() else NOENT

    def path_filestat_get(self, fd: int, flags: int, path: int, size_bytes: int, at: int) -> int:
        found = self._find(fd, path, size_bytes)
        if isinstance(found, int):
            return found
        return self._filestat(at, DIRECTORY if found.is_dir() else REGULAR_FILE, found.stat().st_size)

    def path_open(
        self,
        fd: int,
        lookup: int,
        path: int,
        size_bytes: int,
        flags: int,
        rights: int,
        inherited: int,
        fd_flags: int,
        opened: int,
    ) -> int:
        found = self._find(fd, path, size_bytes)
        if isinstance(found, int):
            return NOTCAPABLE if found == NOENT and flags & CREATE else found
        if not found.is_file():
            return ISDIR if not flags & MUST_BE_DIRECTORY else IO
        number = max(self._files) + 1
        self._files[number] = _File(REGULAR_FILE, found.read_bytes())
        self._write_u32(opened, number)
        return SUCCESS

    # ---- the rest ----

    def proc_exit(self, code: int) -> None:
        raise Exit(code)

    def random_get(self, at: int, size_bytes: int) -> int:
        """Always the same bytes, so that every run does the same."""
        self._write(at, bytes((7 * position + 1) & 0xFF for position in range(size_bytes)))
        return SUCCESS
