"""Paths beneath a directory of the host: how a guest's path becomes a directory's descriptor and one name in it.

Every component is opened by itself, relative to the descriptor of the one before, and never through a symbolic link:
links are read, and what they say is walked in turn. `..` goes back to the descriptor that the walk came from, and is
refused in the directory that the path is relative to. So whatever other processes rename or swap meanwhile, the walk
stays in directories that it reached downwards from that one. The operation itself is then done on one name relative to
the last descriptor, without following a link. Absolute paths and links to such are refused.

Where the kernel has openat2 (Linux 5.6), several directories are crossed in one call, under the same rules
(RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS: openat2(2)); whatever that call does not settle is walked.

Not done: looking at a joined path (realpath, commonpath) before use: a link may be swapped in between.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import stat
from collections.abc import Callable
from errno import ELOOP, ENOTDIR
from typing import Final

from trapline import tuning
from trapline.wasi.errno import Errno, Refused

__all__ = ["Place", "components", "find", "open_at_once"]

# Directories are only passed through, which asks for no right to read them.
_THROUGH: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Place:
    """One name in a directory that is open as `fd`: no slash in it, and never `..`; `.` is the directory itself.

    `directory`: the path asks for a directory, as by a slash at its end. A context, at the end of which `fd` is closed
    if it was opened for this.
    """

    __slots__ = ("_owned", "directory", "fd", "name")

    def __init__(self, fd: int, name: bytes, directory: bool, owned: bool) -> None:
        if name == b".." or b"/" in name:
            raise AssertionError(f"found {name!r} as one name beneath a directory")
        self.fd = fd
        self.name = name
        self.directory = directory
        self._owned = owned

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._owned:
            os.close(self.fd)

    def lstat(self) -> os.stat_result:
        """Attributes of what has the name; not of what a link names."""
        return os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)

    def check_directory(self) -> None:
        """Where the path asks for a directory: raises Refused if it names anything else, OSError if nothing."""
        if self.directory and self.name != b"." and not stat.S_ISDIR(self.lstat().st_mode):
            raise Refused(Errno.NOTDIR)

    def check_no_directory(self) -> None:
        """Where the path asks for a directory and something else is to be made: raises Refused or OSError."""
        if self.directory and self.name != b".":
            raise Refused(Errno.EXIST if stat.S_ISDIR(self.lstat().st_mode) else Errno.NOTDIR)


def components(path: bytes) -> tuple[list[bytes], bool]:
    """The components of a path, last one first, and whether it asks for a directory. Raises Refused.

    Dots are left out, but for one at the end; where the path ends by going up, a dot is put behind that. So the last
    component is never `..`.
    """
    if not path:
        raise Refused(Errno.NOENT)
    if path[0] == 0x2F:
        raise Refused(Errno.PERM)
    if len(path) > tuning.WASI_MAX_PATH_BYTES:
        raise Refused(Errno.NAMETOOLONG)
    parts = path.split(b"/")
    found = [part for part in reversed(parts) if part not in (b"", b".")]
    if not found or found[0] == b".." or parts[-1] == b".":
        found.insert(0, b".")
    return found, parts[-1] in (b"", b".", b"..")


def find(root: int, path: bytes, follow: bool) -> Place:
    """What a path relative to an open directory names; the name itself need not exist.

    follow: a symbolic link as the last component is followed. Raises Refused: PERM where the path leads out, LOOP;
    OSError of the host.
    """
    pending, directory = components(path)
    if len(pending) == 1 and not follow and not directory:
        return Place(root, pending[0], False, False)
    if len(pending) > 2:
        parent = open_at_once(root, b"/".join(pending[:0:-1]))
        if parent is not None:
            place = Place(parent, pending[0], directory, True)
            if not (follow or directory) or _link_at(parent, pending[0]) is None:
                return place
            os.close(parent)
    return _walk(root, pending, directory, follow)


def _link_at(fd: int, name: bytes) -> bytes | None:
    """What a symbolic link says; None where the name is none."""
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError:
        return None


def _walk(root: int, pending: list[bytes], directory: bool, follow: bool) -> Place:
    passed = [root]
    links = 0
    try:
        while True:
            name = pending.pop() if pending else b"."
            here = passed[-1]
            if name == b"..":
                if len(passed) == 1:
                    raise Refused(Errno.PERM)
                os.close(passed.pop())
                continue
            if not pending:
                target = _link_at(here, name) if (follow or directory) and name != b"." else None
                if target is None:
                    owned = len(passed) > 1
                    if owned:
                        passed.pop()
                    return Place(here, name, directory, owned)
            else:
                try:
                    passed.append(os.open(name, _THROUGH, dir_fd=here))
                    continue
                except OSError as error:
                    target = _link_at(here, name) if error.errno in (ENOTDIR, ELOOP) else None
                    if target is None:
                        raise
            links += 1
            if links > tuning.WASI_MAX_LINKS:
                raise Refused(Errno.LOOP)
            more, wants_directory = components(target)
            if not pending:
                directory = directory or wants_directory
            elif more[0] == b".":
                del more[0]
            pending.extend(more)
    finally:
        for fd in passed[1:]:
            os.close(fd)


# ---- openat2 ----


class _OpenHow(ctypes.Structure):
    """struct open_how of linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_SYS_OPENAT2: Final = 437
"""The same number on every machine; include/uapi/asm-generic/unistd.h."""
_RESOLVE: Final = 0x02 | 0x08
"""RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH."""


@functools.cache
def _openat2() -> Callable[[int, bytes], int] | None:
    """openat2 of a directory to pass through; None where there is no such call, or a filter forbids it."""
    if platform.system() != "Linux":
        return None
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    call.restype = ctypes.c_long
    how = _OpenHow(_THROUGH & ~os.O_NOFOLLOW, 0, _RESOLVE)
    address, size_bytes = ctypes.addressof(how), ctypes.sizeof(how)

    def open_through(root: int, path: bytes, _how: _OpenHow = how) -> int:
        return int(call(_SYS_OPENAT2, root, path, address, size_bytes))

    here = os.open("/", _THROUGH)
    try:
        found = open_through(here, b".")
        if found < 0:
            return None
        os.close(found)
    finally:
        os.close(here)
    return open_through


def open_at_once(root: int, path: bytes) -> int | None:
    """The directory at a path beneath another, opened to pass through; None where openat2 gives none."""
    call = _openat2()
    if call is None:
        return None
    found = call(root, path)
    return None if found < 0 else found
