"""What a guest has as stdin, stdout and stderr."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Final

from trapline.wasi.abi import FdFlags, FileType, Rights
from trapline.wasi.descriptor import Descriptor
from trapline.wasi.errno import Errno, Refused
from trapline.wasi.guest import total_bytes
from trapline.wasi.host import available_at, kind_of, ready

__all__ = ["CallbackStream", "CaptureStream", "HostStream", "InputBytes", "NullStream"]

_COMMON: Final = Rights.FD_FDSTAT_SET_FLAGS | Rights.FD_FILESTAT_GET | Rights.POLL_FD_READWRITE


class _Stream(Descriptor):
    """A stream without position; `rights` say whether it is one to read or to write."""

    not_seekable = Errno.SPIPE

    def __init__(self, rights: int) -> None:
        super().__init__()
        self.rights = rights | _COMMON

    def set_flags(self, flags: int) -> None:
        """Taken note of; streams are shared with the host, whose own flags stay as they are."""
        if flags & ~(FdFlags.APPEND | FdFlags.NONBLOCK):
            raise Refused(Errno.INVAL)
        self.flags = flags


class InputBytes(_Stream):
    """A stdin of bytes that are known; without any, at its end at once."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(Rights.FD_READ)
        self._rest = memoryview(data)

    def read(self, views: list[memoryview]) -> int:
        before = len(self._rest)
        for view in views:
            piece = self._rest[: len(view)]
            view[: len(piece)] = piece
            self._rest = self._rest[len(piece) :]
        return before - len(self._rest)

    def available_bytes(self) -> int:
        return len(self._rest)


class NullStream(_Stream):
    """A stdout that forgets what is written."""

    def __init__(self) -> None:
        super().__init__(Rights.FD_WRITE)

    def write(self, views: list[memoryview]) -> int:
        return total_bytes(views)


class CaptureStream(_Stream):
    """A stdout that keeps what is written, in `data`."""

    def __init__(self) -> None:
        super().__init__(Rights.FD_WRITE)
        self.data = bytearray()

    def write(self, views: list[memoryview]) -> int:
        data = self.data
        before = len(data)
        for view in views:
            data += view
        return len(data) - before


class CallbackStream(_Stream):
    """A stdout that calls a function with the bytes of each write; an int that it returns is how many it took."""

    def __init__(self, callback: Callable[[bytes], int | None]) -> None:
        super().__init__(Rights.FD_WRITE)
        self._callback = callback

    def write(self, views: list[memoryview]) -> int:
        data = b"".join(views)
        taken = self._callback(data)
        if taken is None:
            return len(data)
        if taken < 0:
            raise Refused(Errno.IO)
        return min(taken, len(data))


class HostStream(_Stream):
    """A stream of the host, by its descriptor: one that the process has anyway, or a file opened for the guest."""

    def __init__(self, fd: int, writes: bool, owned: bool) -> None:
        super().__init__(Rights.FD_WRITE if writes else Rights.FD_READ)
        self.fd = fd
        self._writes = writes
        self._owned = owned
        self._kind = kind_of(os.fstat(fd).st_mode)
        # Programs take a character device for a terminal.
        if os.isatty(fd):
            self.filetype = FileType.CHARACTER_DEVICE

    def close(self) -> None:
        if self._owned:
            os.close(self.fd)

    def fileno(self) -> int | None:
        return None if self._kind == FileType.REGULAR_FILE else self.fd

    def _check_block(self, events: int) -> None:
        if self.flags & FdFlags.NONBLOCK and not ready(self.fd, events):
            raise Refused(Errno.AGAIN)

    def read(self, views: list[memoryview]) -> int:
        if self._writes:
            raise Refused(Errno.BADF)
        self._check_block(select.POLLIN)
        return os.readv(self.fd, views)

    def write(self, views: list[memoryview]) -> int:
        if not self._writes:
            raise Refused(Errno.BADF)
        self._check_block(select.POLLOUT)
        return os.write(self.fd, views[0]) if len(views) == 1 else os.writev(self.fd, views)

    def available_bytes(self) -> int:
        return available_at(self.fd, self._kind)
