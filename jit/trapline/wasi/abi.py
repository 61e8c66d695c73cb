"""The types of WASI preview 1: numbers, flags and the layouts of records.

Source of every number and offset here: typenames.witx of wasi_snapshot_preview1 (WebAssembly/WASI, legacy/preview1),
laid out by the rules of witx (little-endian, fields aligned to their size). Names are those of the witx, in capitals.
"""

from __future__ import annotations

import enum
from struct import Struct
from typing import Final, NamedTuple

__all__ = [
    "ALL_RIGHTS",
    "DIRECTORY_RIGHTS",
    "DIRENT",
    "EVENT",
    "FDSTAT",
    "FILE_RIGHTS",
    "PRESTAT",
    "PREVIEW0",
    "PREVIEW1",
    "SOCKET_RIGHTS",
    "U16",
    "U32",
    "U32_PAIR",
    "U64",
    "ClockId",
    "EventType",
    "FdFlags",
    "FileType",
    "FstFlags",
    "LookupFlags",
    "OFlags",
    "RiFlags",
    "Rights",
    "SdFlags",
    "Stat",
    "Version",
    "Whence",
]

U16: Final = Struct("<H")
U32: Final = Struct("<I")
U64: Final = Struct("<Q")
U32_PAIR: Final = Struct("<II")
"""Also $iovec and $ciovec: address, size in bytes."""

DIRENT: Final = Struct("<QQIBxxx")
"""d_next, d_ino, d_namlen, d_type; the name follows."""
FDSTAT: Final = Struct("<BxHxxxxQQ")
"""fs_filetype, fs_flags, fs_rights_base, fs_rights_inheriting."""
PRESTAT: Final = Struct("<BxxxI")
"""The tag (0: a directory), pr_name_len."""
EVENT: Final = Struct("<QHBxxxxxQHxxxxxx")
"""userdata, error, type, nbytes, flags."""


class FileType:
    """$filetype."""

    UNKNOWN: Final = 0
    BLOCK_DEVICE: Final = 1
    CHARACTER_DEVICE: Final = 2
    DIRECTORY: Final = 3
    REGULAR_FILE: Final = 4
    SOCKET_DGRAM: Final = 5
    SOCKET_STREAM: Final = 6
    SYMBOLIC_LINK: Final = 7


class Rights:
    """$rights, each the mask of its bit."""

    FD_DATASYNC: Final = 1 << 0
    FD_READ: Final = 1 << 1
    FD_SEEK: Final = 1 << 2
    FD_FDSTAT_SET_FLAGS: Final = 1 << 3
    FD_SYNC: Final = 1 << 4
    FD_TELL: Final = 1 << 5
    FD_WRITE: Final = 1 << 6
    FD_ADVISE: Final = 1 << 7
    FD_ALLOCATE: Final = 1 << 8
    PATH_CREATE_DIRECTORY: Final = 1 << 9
    PATH_CREATE_FILE: Final = 1 << 10
    PATH_LINK_SOURCE: Final = 1 << 11
    PATH_LINK_TARGET: Final = 1 << 12
    PATH_OPEN: Final = 1 << 13
    FD_READDIR: Final = 1 << 14
    PATH_READLINK: Final = 1 << 15
    PATH_RENAME_SOURCE: Final = 1 << 16
    PATH_RENAME_TARGET: Final = 1 << 17
    PATH_FILESTAT_GET: Final = 1 << 18
    PATH_FILESTAT_SET_SIZE: Final = 1 << 19
    PATH_FILESTAT_SET_TIMES: Final = 1 << 20
    FD_FILESTAT_GET: Final = 1 << 21
    FD_FILESTAT_SET_SIZE: Final = 1 << 22
    FD_FILESTAT_SET_TIMES: Final = 1 << 23
    PATH_SYMLINK: Final = 1 << 24
    PATH_REMOVE_DIRECTORY: Final = 1 << 25
    PATH_UNLINK_FILE: Final = 1 << 26
    POLL_FD_READWRITE: Final = 1 << 27
    SOCK_SHUTDOWN: Final = 1 << 28
    SOCK_ACCEPT: Final = 1 << 29


ALL_RIGHTS: Final = (1 << 30) - 1
_R = Rights
FILE_RIGHTS: Final = (
    _R.FD_DATASYNC
    | _R.FD_READ
    | _R.FD_SEEK
    | _R.FD_FDSTAT_SET_FLAGS
    | _R.FD_SYNC
    | _R.FD_TELL
    | _R.FD_WRITE
    | _R.FD_ADVISE
    | _R.FD_ALLOCATE
    | _R.FD_FILESTAT_GET
    | _R.FD_FILESTAT_SET_SIZE
    | _R.FD_FILESTAT_SET_TIMES
    | _R.POLL_FD_READWRITE
)
DIRECTORY_RIGHTS: Final = (
    _R.FD_DATASYNC
    | _R.FD_SYNC
    | _R.FD_FDSTAT_SET_FLAGS
    | _R.PATH_CREATE_DIRECTORY
    | _R.PATH_CREATE_FILE
    | _R.PATH_LINK_SOURCE
    | _R.PATH_LINK_TARGET
    | _R.PATH_OPEN
    | _R.FD_READDIR
    | _R.PATH_READLINK
    | _R.PATH_RENAME_SOURCE
    | _R.PATH_RENAME_TARGET
    | _R.PATH_FILESTAT_GET
    | _R.PATH_FILESTAT_SET_SIZE
    | _R.PATH_FILESTAT_SET_TIMES
    | _R.FD_FILESTAT_GET
    | _R.FD_FILESTAT_SET_TIMES
    | _R.PATH_SYMLINK
    | _R.PATH_REMOVE_DIRECTORY
    | _R.PATH_UNLINK_FILE
)
SOCKET_RIGHTS: Final = (
    _R.FD_READ
    | _R.FD_WRITE
    | _R.FD_FDSTAT_SET_FLAGS
    | _R.FD_FILESTAT_GET
    | _R.POLL_FD_READWRITE
    | _R.SOCK_SHUTDOWN
    | _R.SOCK_ACCEPT
)


class FdFlags:
    """$fdflags."""

    APPEND: Final = 1
    DSYNC: Final = 2
    NONBLOCK: Final = 4
    RSYNC: Final = 8
    SYNC: Final = 16
    ALL: Final = 31


class OFlags:
    """$oflags."""

    CREAT: Final = 1
    DIRECTORY: Final = 2
    EXCL: Final = 4
    TRUNC: Final = 8
    ALL: Final = 15


class LookupFlags:
    """$lookupflags."""

    SYMLINK_FOLLOW: Final = 1
    ALL: Final = 1


class FstFlags:
    """$fstflags."""

    ATIM: Final = 1
    ATIM_NOW: Final = 2
    MTIM: Final = 4
    MTIM_NOW: Final = 8
    ALL: Final = 15


class RiFlags:
    """$riflags; $roflags has the one bit RECV_DATA_TRUNCATED."""

    RECV_PEEK: Final = 1
    RECV_WAITALL: Final = 2
    ALL: Final = 3
    RECV_DATA_TRUNCATED: Final = 1


class SdFlags:
    """$sdflags."""

    RD: Final = 1
    WR: Final = 2
    ALL: Final = 3


class ClockId:
    """$clockid."""

    REALTIME: Final = 0
    MONOTONIC: Final = 1
    PROCESS_CPUTIME: Final = 2
    THREAD_CPUTIME: Final = 3


class EventType:
    """$eventtype."""

    CLOCK: Final = 0
    FD_READ: Final = 1
    FD_WRITE: Final = 2


class Whence(enum.IntEnum):
    """$whence, as Python's os.SEEK_SET, SEEK_CUR, SEEK_END."""

    SET = 0
    CUR = 1
    END = 2


class Stat(NamedTuple):
    """$filestat, times in nanoseconds since 1970."""

    dev: int
    ino: int
    filetype: int
    nlink: int
    size: int
    atim: int
    mtim: int
    ctim: int


class Version(NamedTuple):
    """What differs between the versions of the interface.

    filestat      layout of $filestat, the fields of `Stat`
    whence        what each number of $whence means
    subscription  layout of $subscription of a clock: userdata, type, id, timeout, precision, flags
    poll_fd       offset of the file descriptor in a $subscription of one
    """

    module: str
    filestat: Struct
    whence: tuple[int, int, int]
    subscription: Struct
    poll_fd: int


PREVIEW1: Final = Version(
    "wasi_snapshot_preview1",
    Struct("<QQBxxxxxxxQQQQQ"),
    (Whence.SET, Whence.CUR, Whence.END),
    Struct("<QBxxxxxxxIxxxxQQHxxxxxx"),
    16,
)
PREVIEW0: Final = Version(
    "wasi_unstable",
    # nlink is a u32 there; each clock's subscription has an identifier before its id. Source: legacy/preview0.
    Struct("<QQBxxxIQQQQ"),
    (Whence.CUR, Whence.END, Whence.SET),
    Struct("<QBxxxxxxxxxxxxxxxIxxxxQQHxxxxxx"),
    16,
)
