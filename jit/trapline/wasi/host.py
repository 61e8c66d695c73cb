"""Files and directories of the host, through descriptors that the guest never sees."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import termios
from errno import EISDIR
from typing import Final

from trapline.wasi.abi import DIRECTORY_RIGHTS, FILE_RIGHTS, FdFlags, FileType, OFlags, Rights, Stat
from trapline.wasi.beneath import Place, find
from trapline.wasi.descriptor import Descriptor, Directory, Entry, OpenMode
from trapline.wasi.errno import Errno, Refused

__all__ = ["HostDirectory", "HostFile", "available_at", "host_stat", "kind_of", "ready", "wait"]

_KINDS: Final = {
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFREG: FileType.REGULAR_FILE,
    stat.S_IFLNK: FileType.SYMBOLIC_LINK,
    stat.S_IFSOCK: FileType.SOCKET_STREAM,
}
_ADVICE: Final = (
    os.POSIX_FADV_NORMAL,
    os.POSIX_FADV_SEQUENTIAL,
    os.POSIX_FADV_RANDOM,
    os.POSIX_FADV_WILLNEED,
    os.POSIX_FADV_DONTNEED,
    os.POSIX_FADV_NOREUSE,
)
"""By $advice."""
_OPEN: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_MODE: Final = 0o666
_MUTATING_RIGHTS: Final = (
    Rights.FD_WRITE
    | Rights.FD_ALLOCATE
    | Rights.FD_DATASYNC
    | Rights.FD_SYNC
    | Rights.FD_FILESTAT_SET_SIZE
    | Rights.FD_FILESTAT_SET_TIMES
    | Rights.PATH_CREATE_DIRECTORY
    | Rights.PATH_CREATE_FILE
    | Rights.PATH_LINK_SOURCE
    | Rights.PATH_LINK_TARGET
    | Rights.PATH_RENAME_SOURCE
    | Rights.PATH_RENAME_TARGET
    | Rights.PATH_FILESTAT_SET_SIZE
    | Rights.PATH_FILESTAT_SET_TIMES
    | Rights.PATH_SYMLINK
    | Rights.PATH_REMOVE_DIRECTORY
    | Rights.PATH_UNLINK_FILE
)


def kind_of(mode: int) -> int:
    """The $filetype of a st_mode; pipes have none."""
    return _KINDS.get(stat.S_IFMT(mode), FileType.UNKNOWN)


def host_stat(found: os.stat_result) -> Stat:
    """Attributes as the guest gets them."""
    return Stat(
        found.st_dev,
        found.st_ino,
        kind_of(found.st_mode),
        found.st_nlink,
        found.st_size,
        max(found.st_atime_ns, 0),
        max(found.st_mtime_ns, 0),
        max(found.st_ctime_ns, 0),
    )


def available_at(fd: int, kind: int) -> int:
    """How many bytes a read from a descriptor of the host would find."""
    if kind == FileType.REGULAR_FILE:
        return max(os.fstat(fd).st_size - os.lseek(fd, 0, os.SEEK_CUR), 0)
    found = bytearray(4)
    try:
        fcntl.ioctl(fd, termios.FIONREAD, found)
    except OSError:
        return 1
    return int(struct.unpack("@i", found)[0])


def _host_flags(fdflags: int) -> int:
    flags = 0
    if fdflags & FdFlags.APPEND:
        flags |= os.O_APPEND
    if fdflags & FdFlags.NONBLOCK:
        flags |= os.O_NONBLOCK
    if fdflags & FdFlags.DSYNC:
        flags |= os.O_DSYNC
    if fdflags & (FdFlags.SYNC | FdFlags.RSYNC):
        flags |= os.O_SYNC
    return flags


class HostFile(Descriptor):
    """A file that is open in the host; owns the host's descriptor."""

    def __init__(self, fd: int, filetype: int, fdflags: int, readable: bool, writable: bool, mutable: bool) -> None:
        super().__init__()
        self.fd = fd
        self.filetype = filetype
        self.flags = fdflags
        self.rights = FILE_RIGHTS
        self._mutable = mutable
        if not readable:
            self.rights &= ~Rights.FD_READ
        if not writable:
            self.rights &= ~Rights.FD_WRITE
        if not mutable:
            self.rights &= ~_MUTATING_RIGHTS
        self.inheriting = 0

    def close(self) -> None:
        os.close(self.fd)

    def fileno(self) -> int | None:
        return None if self.filetype == FileType.REGULAR_FILE else self.fd

    def read(self, views: list[memoryview]) -> int:
        return os.readv(self.fd, views)

    def write(self, views: list[memoryview]) -> int:
        return os.write(self.fd, views[0]) if len(views) == 1 else os.writev(self.fd, views)

    def pread(self, views: list[memoryview], offset: int) -> int:
        return os.preadv(self.fd, views, offset)

    def pwrite(self, views: list[memoryview], offset: int) -> int:
        return os.pwritev(self.fd, views, offset)

    def seek(self, offset: int, whence: int) -> int:
        return os.lseek(self.fd, offset, whence)

    def available_bytes(self) -> int:
        return available_at(self.fd, self.filetype)

    def stat(self) -> Stat:
        return host_stat(os.fstat(self.fd))

    def set_flags(self, flags: int) -> None:
        fixed = FdFlags.DSYNC | FdFlags.RSYNC | FdFlags.SYNC  # Linux changes none of these: fcntl(2), F_SETFL
        if (flags ^ self.flags) & fixed:
            raise Refused(Errno.INVAL)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, _host_flags(flags))
        self.flags = flags

    def _need_mutable(self) -> None:
        if not self._mutable:
            raise Refused(Errno.PERM)

    def set_size(self, size_bytes: int) -> None:
        self._need_mutable()
        os.ftruncate(self.fd, size_bytes)

    def set_times(self, atim: int | None, mtim: int | None) -> None:
        self._need_mutable()
        found = os.fstat(self.fd)
        os.utime(
            self.fd, ns=(found.st_atime_ns if atim is None else atim, found.st_mtime_ns if mtim is None else mtim)
        )

    def advise(self, offset: int, size_bytes: int, advice: int) -> None:
        if offset < 0 or size_bytes < 0:
            raise Refused(Errno.INVAL)
        os.posix_fadvise(self.fd, offset, size_bytes, _ADVICE[advice])

    def allocate(self, offset: int, size_bytes: int) -> None:
        self._need_mutable()
        os.posix_fallocate(self.fd, offset, size_bytes)

    def sync(self, data_only: bool) -> None:
        if data_only:
            os.fdatasync(self.fd)
        else:
            os.fsync(self.fd)


class HostDirectory(Directory):
    """A directory of the host and what is beneath it; owns the host's descriptor.

    mutable: False where nothing in it may be changed.
    """

    def __init__(self, fd: int, mutable: bool) -> None:
        super().__init__()
        self.fd = fd
        self._mutable = mutable
        gone = 0 if mutable else _MUTATING_RIGHTS
        self.rights = DIRECTORY_RIGHTS & ~gone
        self.inheriting = (DIRECTORY_RIGHTS | FILE_RIGHTS) & ~gone

    @classmethod
    def at(cls, path: str | bytes | os.PathLike[str], mutable: bool) -> HostDirectory:
        """A directory by its path in the host. Raises OSError."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), mutable)

    def close(self) -> None:
        os.close(self.fd)

    def stat(self) -> Stat:
        return host_stat(os.fstat(self.fd))

    def sync(self, data_only: bool) -> None:
        (os.fdatasync if data_only else os.fsync)(self.fd)

    def set_times(self, atim: int | None, mtim: int | None) -> None:
        self._need_mutable()
        found = os.fstat(self.fd)
        os.utime(
            self.fd, ns=(found.st_atime_ns if atim is None else atim, found.st_mtime_ns if mtim is None else mtim)
        )

    def _need_mutable(self) -> None:
        if not self._mutable:
            raise Refused(Errno.PERM)

    def _place(self, path: bytes, follow: bool = False) -> Place:
        return find(self.fd, path, follow)

    def _place_to_change(self, path: bytes) -> Place:
        """Where a name is made or taken away: of the name itself no link is followed. Raises Refused if none may be."""
        self._need_mutable()
        bare = path.rstrip(b"/")
        place = find(self.fd, bare or path, False)
        place.directory = place.directory or bare != path
        return place

    def entries(self) -> list[Entry]:
        with os.scandir(self.fd) as found:
            return [_entry(entry) for entry in found]

    def open(self, path: bytes, mode: OpenMode) -> Descriptor:
        oflags = mode.oflags
        changes = mode.write or oflags & (OFlags.CREAT | OFlags.TRUNC)
        if oflags & OFlags.CREAT and oflags & OFlags.DIRECTORY:
            raise Refused(Errno.INVAL)
        flags = _OPEN | (os.O_RDWR if mode.read and mode.write else os.O_WRONLY if mode.write else os.O_RDONLY)
        flags |= _host_flags(mode.fdflags)
        if oflags & OFlags.CREAT:
            flags |= os.O_CREAT
        if oflags & OFlags.EXCL:
            flags |= os.O_EXCL
        if oflags & OFlags.TRUNC:
            flags |= os.O_TRUNC
        with self._place(path, mode.follow and not oflags & OFlags.EXCL) as place:
            if changes:
                self._need_mutable()
            if oflags & OFlags.DIRECTORY or place.directory:
                if oflags & OFlags.CREAT:
                    raise OSError(EISDIR, os.strerror(EISDIR))
                flags |= os.O_DIRECTORY
            fd = os.open(place.name, flags, _MODE, dir_fd=place.fd)
        kind = kind_of(os.fstat(fd).st_mode)
        if kind == FileType.DIRECTORY:
            return HostDirectory(fd, self._mutable)
        return HostFile(fd, kind, mode.fdflags, mode.read or not mode.write, mode.write, self._mutable)

    def stat_at(self, path: bytes, follow: bool) -> Stat:
        with self._place(path, follow) as place:
            found = place.lstat()
            if place.directory and not stat.S_ISDIR(found.st_mode):
                raise Refused(Errno.NOTDIR)
            return host_stat(found)

    def set_times_at(self, path: bytes, follow: bool, atim: int | None, mtim: int | None) -> None:
        self._need_mutable()
        with self._place(path, follow) as place:
            place.check_directory()
            found = place.lstat()
            times = (found.st_atime_ns if atim is None else atim, found.st_mtime_ns if mtim is None else mtim)
            os.utime(place.name, ns=times, dir_fd=place.fd, follow_symlinks=False)

    def make_directory(self, path: bytes) -> None:
        with self._place_to_change(path) as place:
            os.mkdir(place.name, dir_fd=place.fd)

    def remove_directory(self, path: bytes) -> None:
        with self._place_to_change(path) as place:
            os.rmdir(place.name, dir_fd=place.fd)

    def unlink(self, path: bytes) -> None:
        with self._place_to_change(path) as place:
            place.check_directory()
            os.unlink(place.name, dir_fd=place.fd)

    def symlink(self, target: bytes, path: bytes) -> None:
        if target[:1] == b"/":
            raise Refused(Errno.PERM)
        with self._place_to_change(path) as place:
            place.check_no_directory()
            os.symlink(target, place.name, dir_fd=place.fd)

    def readlink(self, path: bytes) -> bytes:
        with self._place(path) as place:
            target = os.readlink(place.name, dir_fd=place.fd)
        if target[:1] == b"/":
            raise Refused(Errno.PERM)  # names something of the host
        return target

    def rename(self, path: bytes, other: Directory, new_path: bytes) -> None:
        if not isinstance(other, HostDirectory):
            raise Refused(Errno.XDEV)
        with self._place_to_change(path) as source, other._place_to_change(new_path) as target:
            source.check_directory()
            if target.directory and not stat.S_ISDIR(source.lstat().st_mode):
                raise Refused(Errno.NOTDIR)
            os.rename(source.name, target.name, src_dir_fd=source.fd, dst_dir_fd=target.fd)

    def link(self, path: bytes, follow: bool, other: Directory, new_path: bytes) -> None:
        if not isinstance(other, HostDirectory):
            raise Refused(Errno.XDEV)
        self._need_mutable()
        with self._place(path, follow) as source, other._place_to_change(new_path) as target:
            source.check_directory()
            target.check_no_directory()
            os.link(source.name, target.name, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)


def _entry(entry: os.DirEntry[str]) -> Entry:
    if entry.is_symlink():
        kind = FileType.SYMBOLIC_LINK
    elif entry.is_dir(follow_symlinks=False):
        kind = FileType.DIRECTORY
    elif entry.is_file(follow_symlinks=False):
        kind = FileType.REGULAR_FILE
    else:
        try:
            kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
        except OSError:
            kind = FileType.UNKNOWN
    return Entry(os.fsencode(entry.name), entry.inode(), kind)


def wait(fd: int, events: int) -> None:
    """Until the host's descriptor can be read (POLLIN) or written (POLLOUT). Ctrl-C ends it."""
    poll = select.poll()
    poll.register(fd, events)
    poll.poll()


def ready(fd: int, events: int) -> bool:
    """Whether that is so now."""
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(0))


