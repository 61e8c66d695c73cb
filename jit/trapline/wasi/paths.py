"""The functions of paths: path_*.

Source: wasi_snapshot_preview1.witx, the functions of these names. Every path is relative to an open directory.

Annotations are evaluated here, since they are read as types each time a module is linked.
"""

from trapline.runtime.caller import Caller
from trapline.wasi.abi import U32, FdFlags, LookupFlags, OFlags, Rights, Version
from trapline.wasi.clocks import Clocks
from trapline.wasi.descriptor import Directory, OpenMode, Table
from trapline.wasi.errno import ERRORS, SUCCESS, Errno, Refused, errno_of
from trapline.wasi.files import times
from trapline.wasi.guest import MASK32, check, flags_in, path_at, window
from trapline.wasm.types import i32, i64

__all__ = ["Paths"]


class Paths:
    """The functions that take a path, over a table of open files."""

    def __init__(self, table: Table, clocks: Clocks, version: Version) -> None:
        self._table = table
        self._clocks = clocks
        self._filestat = version.filestat

    def path_open(
        self,
        caller: Caller,
        fd: i32,
        lookup: i32,
        path: i32,
        path_bytes: i32,
        oflags: i32,
        rights: i64,
        inheriting: i64,
        fdflags: i32,
        result: i32,
    ) -> i32:
        try:
            memory = caller.memory
            table = self._table
            parent = table[fd]
            name = path_at(memory, path, path_bytes)
            if not isinstance(parent, Directory):
                raise Refused(Errno.NOTDIR if parent.rights & Rights.FD_SEEK else Errno.BADF)
            mode = OpenMode(
                bool(flags_in(lookup, LookupFlags.ALL)),
                flags_in(oflags, OFlags.ALL),
                bool(rights & (Rights.FD_READ | Rights.FD_READDIR)),
                bool(rights & Rights.FD_WRITE),
                flags_in(fdflags, FdFlags.ALL),
            )
            if parent.denied or parent.denied_inheriting:
                _need_to_open(parent, mode)
            check(memory, result, 4)
            table.room()
            file = parent.open(name, mode)
            # What the parent may not pass on its files do not get.
            file.denied = parent.denied_inheriting & file.rights
            file.denied_inheriting = parent.denied_inheriting & file.inheriting
            U32.pack_into(memory, result & MASK32, table.add(file))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def path_create_directory(self, caller: Caller, fd: i32, path: i32, path_bytes: i32) -> i32:
        try:
            directory = self._table.directory(fd, Rights.PATH_CREATE_DIRECTORY)
            directory.make_directory(path_at(caller.memory, path, path_bytes))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def path_filestat_get(
        self, caller: Caller, fd: i32, lookup: i32, path: i32, path_bytes: i32, result: i32
    ) -> i32:
        try:
            memory = caller.memory
            directory = self._table.directory(fd, Rights.PATH_FILESTAT_GET)
            follow = bool(flags_in(lookup, LookupFlags.ALL))
            found = directory.stat_at(path_at(memory, path, path_bytes), follow)
            self._filestat.pack_into(memory, result & MASK32, *found)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def path_filestat_set_times(
        self, caller: Caller, fd: i32, lookup: i32, path: i32, path_bytes: i32, atim: i64, mtim: i64, flags: i32
    ) -> i32:
        try:
            directory = self._table.directory(fd, Rights.PATH_FILESTAT_SET_TIMES)
            name = path_at(caller.memory, path, path_bytes)
            wanted = times(self._clocks, atim, mtim, flags)
            directory.set_times_at(name, bool(flags_in(lookup, LookupFlags.ALL)), *wanted)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def path_link(
        self, caller: Caller, fd: i32, lookup: i32, path: i32, path_bytes: i32, to: i32, new: i32, new_bytes: i32
    ) -> i32:
        try:
            memory = caller.memory
            directory = self._table.directory(fd, Rights.PATH_LINK_SOURCE)
            target = self._table.directory(to, Rights.PATH_LINK_TARGET)
            name, new_name = path_at(memory, path, path_bytes), path_at(memory, new, new_bytes)
            directory.link(name, bool(flags_in(lookup, LookupFlags.ALL)), target, new_name)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def path_readlink(
        self, caller: Caller, fd: i32, path: i32, path_bytes: i32, at: i32, size_bytes: i32, result: i32
    ) -> i32:
        try:
            memory = caller.memory
            directory = self._table.directory(fd, Rights.PATH_READLINK)
            target = directory.readlink(path_at(memory, path, path_bytes))
            room = window(memory, at, size_bytes)
            used = min(len(target), len(room))
            room[:used] = target[:used]
            U32.pack_into(memory, result & MASK32, used)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def path_remove_directory(self, caller: Caller, fd: i32, path: i32, path_bytes: i32) -> i32:
        try:
            directory = self._table.directory(fd, Rights.PATH_REMOVE_DIRECTORY)
            directory.remove_directory(path_at(caller.memory, path, path_bytes))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def path_rename(
        self, caller: Caller, fd: i32, path: i32, path_bytes: i32, to: i32, new: i32, new_bytes: i32
    ) -> i32:
        try:
            memory = caller.memory
            directory = self._table.directory(fd, Rights.PATH_RENAME_SOURCE)
            target = self._table.directory(to, Rights.PATH_RENAME_TARGET)
            name, new_name = path_at(memory, path, path_bytes), path_at(memory, new, new_bytes)
            directory.rename(name, target, new_name)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def path_symlink(self, caller: Caller, old: i32, old_bytes: i32, fd: i32, path: i32, path_bytes: i32) -> i32:
        try:
            memory = caller.memory
            directory = self._table.directory(fd, Rights.PATH_SYMLINK)
            directory.symlink(path_at(memory, old, old_bytes), path_at(memory, path, path_bytes))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def path_unlink_file(self, caller: Caller, fd: i32, path: i32, path_bytes: i32) -> i32:
        try:
            directory = self._table.directory(fd, Rights.PATH_UNLINK_FILE)
            directory.unlink(path_at(caller.memory, path, path_bytes))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS


def _need_to_open(parent: Directory, mode: OpenMode) -> None:
    """Raises Refused if the guest has given up what it now asks for."""
    parent.need(Rights.PATH_OPEN)
    if mode.oflags & OFlags.CREAT:
        parent.need(Rights.PATH_CREATE_FILE)
    if mode.oflags & OFlags.TRUNC:
        parent.need(Rights.PATH_FILESTAT_SET_SIZE)
    if mode.write and parent.denied_inheriting & Rights.FD_WRITE:
        raise Refused(Errno.NOTCAPABLE)
