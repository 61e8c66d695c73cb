"""The functions of open files: fd_*.

Source: wasi_snapshot_preview1.witx, the functions of these names.

Annotations are evaluated here, since they are read as types each time a module is linked.
"""

from trapline.runtime.caller import Caller
from trapline.wasi.abi import (
    DIRENT,
    FDSTAT,
    PRESTAT,
    U32,
    U64,
    FdFlags,
    FileType,
    FstFlags,
    Rights,
    Version,
)
from trapline.wasi.clocks import Clocks
from trapline.wasi.descriptor import Directory, Entry, Table
from trapline.wasi.errno import ERRORS, SUCCESS, Errno, Refused, errno_of
from trapline.wasi.guest import MASK32, MASK64, buffers, check, flags_in, store, window
from trapline.wasm.types import i32, i64

__all__ = ["Files", "times"]


def times(clocks: Clocks, atim: int, mtim: int, flags: int) -> tuple[int | None, int | None]:
    """What $fstflags asks for, None where a time stays. Raises Refused."""
    flags = flags_in(flags, FstFlags.ALL)
    if (flags & 3) == 3 or (flags & 12) == 12:
        raise Refused(Errno.INVAL)
    now = clocks.now(0) if flags & (FstFlags.ATIM_NOW | FstFlags.MTIM_NOW) else 0
    return (
        now if flags & FstFlags.ATIM_NOW else atim & MASK64 if flags & FstFlags.ATIM else None,
        now if flags & FstFlags.MTIM_NOW else mtim & MASK64 if flags & FstFlags.MTIM else None,
    )


class Files:
    """The functions that take an open file, over a table of them."""

    def __init__(self, table: Table, clocks: Clocks, version: Version) -> None:
        self._table = table
        self._clocks = clocks
        self._filestat = version.filestat
        self._whence = version.whence

    # ---- reading and writing ----

    def fd_read(self, caller: Caller, fd: i32, vectors: i32, count: i32, result: i32) -> i32:
        try:
            file = self._table[fd]
            if file.denied:
                file.need(Rights.FD_READ)
            memory = caller.memory
            U32.pack_into(memory, result & MASK32, file.read(buffers(memory, vectors, count)))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_write(self, caller: Caller, fd: i32, vectors: i32, count: i32, result: i32) -> i32:
        try:
            file = self._table[fd]
            if file.denied:
                file.need(Rights.FD_WRITE)
            memory = caller.memory
            U32.pack_into(memory, result & MASK32, file.write(buffers(memory, vectors, count)))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_pread(self, caller: Caller, fd: i32, vectors: i32, count: i32, offset: i64, result: i32) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_READ | Rights.FD_SEEK)
            _check_offset(offset)
            memory = caller.memory
            U32.pack_into(memory, result & MASK32, file.pread(buffers(memory, vectors, count), offset))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_pwrite(self, caller: Caller, fd: i32, vectors: i32, count: i32, offset: i64, result: i32) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_WRITE | Rights.FD_SEEK)
            _check_offset(offset)
            memory = caller.memory
            U32.pack_into(memory, result & MASK32, file.pwrite(buffers(memory, vectors, count), offset))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_seek(self, caller: Caller, fd: i32, offset: i64, whence: i32, result: i32) -> i32:
        try:
            file = self._table[fd]
            if not 0 <= whence <= 2:
                return i32(Errno.INVAL)
            origin = self._whence[whence]
            if file.denied:
                file.need(Rights.FD_TELL if origin == 1 and not offset else Rights.FD_SEEK)
            U64.pack_into(caller.memory, result & MASK32, file.seek(offset, origin))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_tell(self, caller: Caller, fd: i32, result: i32) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_TELL)
            U64.pack_into(caller.memory, result & MASK32, file.seek(0, 1))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    # ---- the table ----

    def fd_close(self, fd: i32) -> i32:
        try:
            self._table.take(fd).close()
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_renumber(self, fd: i32, to: i32) -> i32:
        """Both numbers must be open: programs cannot choose numbers."""
        try:
            table = self._table
            file, old = table[fd], table[to]
            if file is not old:
                table.take(fd)
                table[to] = file
                old.close()
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    # ---- attributes ----

    def fd_fdstat_get(self, caller: Caller, fd: i32, result: i32) -> i32:
        try:
            file = self._table[fd]
            rights, inheriting = file.rights & ~file.denied, file.inheriting & ~file.denied_inheriting
            FDSTAT.pack_into(caller.memory, result & MASK32, file.filetype, file.flags, rights, inheriting)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_fdstat_set_flags(self, fd: i32, flags: i32) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_FDSTAT_SET_FLAGS)
            file.set_flags(flags_in(flags, FdFlags.ALL))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_fdstat_set_rights(self, fd: i32, base: i64, inheriting: i64) -> i32:
        """Rights can only be given up."""
        try:
            file = self._table[fd]
            if base & ~(file.rights & ~file.denied) or inheriting & ~(file.inheriting & ~file.denied_inheriting):
                return i32(Errno.NOTCAPABLE)
            file.denied |= file.rights & ~base
            file.denied_inheriting |= file.inheriting & ~inheriting
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_filestat_get(self, caller: Caller, fd: i32, result: i32) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_FILESTAT_GET)
            self._filestat.pack_into(caller.memory, result & MASK32, *file.stat())
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_filestat_set_size(self, fd: i32, size_bytes: i64) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_FILESTAT_SET_SIZE)
            file.set_size(size_bytes)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_filestat_set_times(self, fd: i32, atim: i64, mtim: i64, flags: i32) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_FILESTAT_SET_TIMES)
            file.set_times(*times(self._clocks, atim, mtim, flags))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_advise(self, fd: i32, offset: i64, size_bytes: i64, advice: i32) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_ADVISE)
            if not 0 <= advice <= 5:
                return i32(Errno.INVAL)
            file.advise(offset, size_bytes, advice)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_allocate(self, fd: i32, offset: i64, size_bytes: i64) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_ALLOCATE)
            file.allocate(offset, size_bytes)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_sync(self, fd: i32) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_SYNC)
            file.sync(False)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_datasync(self, fd: i32) -> i32:
        try:
            file = self._table[fd]
            file.need(Rights.FD_DATASYNC)
            file.sync(True)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    # ---- directories ----

    def fd_prestat_get(self, caller: Caller, fd: i32, result: i32) -> i32:
        try:
            name = self._table[fd].guest_path
            if name is None:
                return i32(Errno.BADF)
            PRESTAT.pack_into(caller.memory, result & MASK32, 0, len(name))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_prestat_dir_name(self, caller: Caller, fd: i32, path: i32, size_bytes: i32) -> i32:
        try:
            name = self._table[fd].guest_path
            if name is None:
                return i32(Errno.NOTDIR)
            if len(name) > size_bytes & MASK32:
                return i32(Errno.NAMETOOLONG)
            store(caller.memory, path, name)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def fd_readdir(self, caller: Caller, fd: i32, at: i32, size_bytes: i32, cookie: i64, result: i32) -> i32:
        """The listing is made when it is read from the start, so that names removed meanwhile shift nothing."""
        try:
            directory = self._table.directory(fd, Rights.FD_READDIR)
            memory = caller.memory
            check(memory, result, 4)
            room = window(memory, at, size_bytes)
            if directory.listing is None or not cookie:
                directory.listing = _listing(directory)
            used = 0
            if cookie >= 0:
                for number, (name, ino, kind) in enumerate(directory.listing[cookie:], cookie + 1):
                    record = DIRENT.pack(number, ino, len(name), kind) + name
                    piece = record[: len(room) - used]
                    room[used : used + len(piece)] = piece
                    used += len(piece)
                    if used == len(room):
                        break
            U32.pack_into(memory, result & MASK32, used)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS


def _listing(directory: Directory) -> list[Entry]:
    # The parent of a directory is not the guest's to know.
    ino = directory.stat().ino
    dots = [Entry(name, ino, FileType.DIRECTORY) for name in (b".", b"..")]
    return dots + directory.entries()


def _check_offset(offset: int) -> None:
    # preadv2(2) and pwritev2(2) take -1 for the position.
    if offset < 0:
        raise Refused(Errno.INVAL)
