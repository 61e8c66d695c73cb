"""Errnos: what a WASI function answers when it refuses, and which one an error of the host stands for."""

from __future__ import annotations

import enum
import errno
import struct
from typing import Final

from trapline.wasm.types import i32

__all__ = ["ERRORS", "SUCCESS", "Errno", "Refused", "errno_of"]

SUCCESS: Final = i32(0)


class Errno(enum.IntEnum):
    """$errno of typenames.witx (wasi_snapshot_preview1), in its order."""

    SUCCESS = 0
    TOOBIG = 1
    """$2big, which is no name in Python."""
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BADMSG = 9
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    IDRM = 24
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    MULTIHOP = 36
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOLCK = 46
    NOLINK = 47
    NOMEM = 48
    NOMSG = 49
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTRECOVERABLE = 56
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    OWNERDEAD = 62
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


class Refused(Exception):
    """A WASI function refuses; `errno` is what the guest is told. Never leaves this package."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno)
        self.errno = errno


_HOST: Final[dict[int | None, Errno]] = {
    getattr(errno, name): code
    for code in Errno
    for name in ("E2BIG" if code is Errno.TOOBIG else f"E{code.name}",)
    if hasattr(errno, name)
} | {errno.EOPNOTSUPP: Errno.NOTSUP, errno.EDEADLOCK: Errno.DEADLK}

ERRORS: Final = (Refused, OSError, struct.error, OverflowError, MemoryError)
"""What a WASI function catches: each is the guest's mistake or the host's refusal, and becomes an errno."""


def errno_of(error: BaseException) -> i32:
    """The errno of one of ERRORS. A struct.error is a pointer beyond the end of the memory."""
    if isinstance(error, Refused):
        return i32(error.errno)
    if isinstance(error, OSError):
        return i32(_HOST.get(error.errno, Errno.IO))
    if isinstance(error, struct.error):
        return i32(Errno.FAULT)
    return i32(Errno.NOMEM if isinstance(error, MemoryError) else Errno.INVAL)
