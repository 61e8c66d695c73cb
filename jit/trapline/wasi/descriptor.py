"""File descriptors: what every open thing can be asked, and the table of them.

An operation that a kind of descriptor does not have answers with the errno that the class names for its group. Rights
are those that a descriptor's kind gives it (`rights`), less those that the guest gave up or never got (`denied`).
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, NoReturn

from trapline import tuning
from trapline.wasi.abi import ALL_RIGHTS, FileType, Stat
from trapline.wasi.errno import Errno, Refused

__all__ = ["Descriptor", "Directory", "Entry", "OpenMode", "Table"]


class Entry(NamedTuple):
    """One name in a directory."""

    name: bytes
    ino: int
    filetype: int


class OpenMode(NamedTuple):
    """How `Directory.open` opens.

    follow: a symbolic link as the last component; oflags and fdflags: those of the ABI.
    """

    follow: bool
    oflags: int
    read: bool
    write: bool
    fdflags: int


class Descriptor:
    """Something open. Every operation may raise Refused or OSError.

    Leaves of subclasses: what they can do. `denied` and `denied_inheriting` are rights taken away.
    """

    filetype: int = FileType.UNKNOWN
    flags: int = 0
    rights: int = ALL_RIGHTS
    inheriting: int = 0
    wrong_kind: ClassVar[Errno] = Errno.BADF
    """For operations on the content of a file."""
    not_seekable: ClassVar[Errno] = Errno.BADF
    guest_path: bytes | None = None
    """The name of a preopened directory."""

    def __init__(self) -> None:
        self.denied = 0
        self.denied_inheriting = 0
        self.listing: list[Entry] | None = None

    def _refuse(self) -> NoReturn:
        raise Refused(self.wrong_kind)

    def need(self, rights: int) -> None:
        """Raises Refused (NOTCAPABLE) if the guest has given up one of the rights."""
        if self.denied & rights:
            raise Refused(Errno.NOTCAPABLE)

    def close(self) -> None:
        """Give back what the host holds for it."""

    def fileno(self) -> int | None:
        """The host's file descriptor to wait on; None where reading and writing never wait."""
        return None

    # ---- content ----

    def read(self, views: list[memoryview]) -> int:
        """Fill buffers from the position on; how many bytes, 0 at the end."""
        self._refuse()

    def write(self, views: list[memoryview]) -> int:
        """Write buffers at the position; how many bytes."""
        self._refuse()

    def pread(self, views: list[memoryview], offset: int) -> int:
        """The same from an offset on."""
        raise Refused(self.not_seekable)

    def pwrite(self, views: list[memoryview], offset: int) -> int:
        """The same from an offset on."""
        raise Refused(self.not_seekable)

    def seek(self, offset: int, whence: int) -> int:
        """Move the position, which is returned."""
        raise Refused(self.not_seekable)

    def available_bytes(self) -> int:
        """How many bytes a read would find, as far as that is known."""
        return 1

    # ---- the rest of a file ----

    def stat(self) -> Stat:
        """Its attributes."""
        return Stat(0, 0, self.filetype, 0, 0, 0, 0, 0)

    def set_flags(self, flags: int) -> None:
        """Take other fdflags."""
        self._refuse()

    def set_size(self, size_bytes: int) -> None:
        """Cut off or fill up with zeros."""
        self._refuse()

    def set_times(self, atim: int | None, mtim: int | None) -> None:
        """Change times in nanoseconds; None leaves one as it is."""
        self._refuse()

    def advise(self, offset: int, size_bytes: int, advice: int) -> None:
        """Say what will be read; `advice` is that of the ABI."""
        self._refuse()

    def allocate(self, offset: int, size_bytes: int) -> None:
        """Make room."""
        self._refuse()

    def sync(self, data_only: bool) -> None:
        """Bring it to the disk."""
        self._refuse()


class Directory(Descriptor, ABC):
    """An open directory: paths are relative to it and cannot lead out of it."""

    filetype = FileType.DIRECTORY

    @abstractmethod
    def entries(self) -> list[Entry]:
        """What is in it, but for `.` and `..`."""

    @abstractmethod
    def open(self, path: bytes, mode: OpenMode) -> Descriptor:
        """Open, or make, a file; open a directory."""

    @abstractmethod
    def stat_at(self, path: bytes, follow: bool) -> Stat:
        """Attributes of what a path names."""

    @abstractmethod
    def set_times_at(self, path: bytes, follow: bool, atim: int | None, mtim: int | None) -> None:
        """Times of what a path names; see `set_times`."""

    @abstractmethod
    def make_directory(self, path: bytes) -> None:
        """path_create_directory."""

    @abstractmethod
    def remove_directory(self, path: bytes) -> None:
        """path_remove_directory."""

    @abstractmethod
    def unlink(self, path: bytes) -> None:
        """path_unlink_file."""

    @abstractmethod
    def symlink(self, target: bytes, path: bytes) -> None:
        """path_symlink."""

    @abstractmethod
    def readlink(self, path: bytes) -> bytes:
        """path_readlink."""

    @abstractmethod
    def rename(self, path: bytes, other: Directory, new_path: bytes) -> None:
        """path_rename."""

    @abstractmethod
    def link(self, path: bytes, follow: bool, other: Directory, new_path: bytes) -> None:
        """path_link."""


class Table(dict[int, Descriptor]):
    """File descriptors by number. A number that is not open raises Refused (BADF)."""

    def __init__(self, files: Sequence[Descriptor]) -> None:
        super().__init__(enumerate(files))
        self._next = len(self)
        self._free: list[int] = []

    def __missing__(self, fd: int) -> Descriptor:
        raise Refused(Errno.BADF)

    def directory(self, fd: int, rights: int) -> Directory:
        """A directory that paths may be relative to. Raises Refused."""
        found = self[fd]
        if not isinstance(found, Directory):
            raise Refused(Errno.BADF)
        found.need(rights)
        return found

    def room(self) -> None:
        """Raises Refused (MFILE) if no more may be open."""
        if len(self) >= tuning.WASI_MAX_FILES:
            raise Refused(Errno.MFILE)

    def add(self, file: Descriptor) -> int:
        """The lowest number that is free, now the file's."""
        while self._free:
            number = heapq.heappop(self._free)
            if number not in self:
                self[number] = file
                return number
        while self._next in self:
            self._next += 1
        number = self._next
        self[number] = file
        self._next += 1
        return number

    def take(self, fd: int) -> Descriptor:
        """A file, which then has no number any more. Raises Refused."""
        file = self[fd]
        del self[fd]
        heapq.heappush(self._free, fd)
        return file

    def __del__(self) -> None:
        """The functions that a guest imports hold its table, so that its files last as long as anybody can use them."""
        self.close_all()

    def close_all(self) -> None:
        """Close everything that is open."""
        for file in self.values():
            file.close()
        self.clear()
