"""Sockets: those that the host hands to the guest, connections accepted from them, and the functions sock_*.

Source: wasi_snapshot_preview1.witx, the functions of these names. A guest cannot make sockets of its own.

Annotations are evaluated here, since they are read as types each time a module is linked.
"""

import os
import select
import socket
from typing import Final

from trapline.runtime.caller import Caller
from trapline.wasi.abi import SOCKET_RIGHTS, U16, U32, FdFlags, FileType, RiFlags, Rights, SdFlags, Stat
from trapline.wasi.descriptor import Descriptor, Table
from trapline.wasi.errno import ERRORS, SUCCESS, Errno, Refused, errno_of
from trapline.wasi.guest import MASK32, buffers, check, flags_in
from trapline.wasi.host import available_at, wait
from trapline.wasm.types import i32

__all__ = ["Socket", "Sockets"]

_HOW: Final = {SdFlags.RD: socket.SHUT_RD, SdFlags.WR: socket.SHUT_WR, SdFlags.ALL: socket.SHUT_RDWR}


class Socket(Descriptor):
    """An open socket. Whether it blocks is the guest's own affair: the host's flags stay as they are."""

    not_seekable = Errno.SPIPE

    def __init__(self, host: socket.socket, flags: int = 0) -> None:
        super().__init__()
        self._socket = host
        self.flags = flags
        self.rights = SOCKET_RIGHTS
        self.inheriting = SOCKET_RIGHTS
        datagrams = host.type == socket.SOCK_DGRAM
        self.filetype = FileType.SOCKET_DGRAM if datagrams else FileType.SOCKET_STREAM

    @classmethod
    def of(cls, host: socket.socket) -> "Socket":
        """A socket that the host keeps too."""
        return cls(socket.socket(host.family, host.type, host.proto, fileno=os.dup(host.fileno())))

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int | None:
        return self._socket.fileno()

    def available_bytes(self) -> int:
        return available_at(self._socket.fileno(), self.filetype)

    def stat(self) -> Stat:
        return Stat(0, 0, self.filetype, 1, 0, 0, 0, 0)

    def set_flags(self, flags: int) -> None:
        if flags & ~FdFlags.NONBLOCK:
            raise Refused(Errno.INVAL)
        self.flags = flags

    def _wait(self, events: int) -> None:
        """Until the socket may be tried. Raises Refused where the guest does not want to wait."""
        if self.flags & FdFlags.NONBLOCK:
            raise Refused(Errno.AGAIN)
        wait(self._socket.fileno(), events)

    def accept(self, flags: int) -> "Socket":
        """The next connection."""
        while True:
            if self.flags & FdFlags.NONBLOCK:
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                if not poll.poll(0):
                    raise Refused(Errno.AGAIN)
            try:
                return Socket(self._socket.accept()[0], flags)
            except BlockingIOError:
                self._wait(select.POLLIN)

    def receive(self, views: list[memoryview], flags: int) -> tuple[int, bool]:
        """How many bytes have come, and whether a datagram was cut off."""
        host_flags = (socket.MSG_PEEK if flags & RiFlags.RECV_PEEK else 0) | (
            socket.MSG_WAITALL if flags & RiFlags.RECV_WAITALL else 0
        )
        if self.flags & FdFlags.NONBLOCK:
            host_flags |= socket.MSG_DONTWAIT
        while True:
            try:
                found, _, answer, _ = self._socket.recvmsg_into(views, 0, host_flags)
                return found, bool(answer & socket.MSG_TRUNC)
            except BlockingIOError:
                self._wait(select.POLLIN)

    def read(self, views: list[memoryview]) -> int:
        return self.receive(views, 0)[0]

    def write(self, views: list[memoryview]) -> int:
        flags = socket.MSG_NOSIGNAL | (socket.MSG_DONTWAIT if self.flags & FdFlags.NONBLOCK else 0)
        while True:
            try:
                return self._socket.sendmsg(views, (), flags)
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def shutdown(self, how: int) -> None:
        """End one direction or both."""
        self._socket.shutdown(_HOW[how])


class Sockets:
    """The functions of sockets, over a table of open files."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def _socket(self, fd: int, rights: int) -> "Socket":
        found = self._table[fd]
        if not isinstance(found, Socket):
            raise Refused(Errno.NOTSOCK)
        found.need(rights)
        return found

    def sock_accept(self, caller: Caller, fd: i32, flags: i32, result: i32) -> i32:
        try:
            listening = self._socket(fd, Rights.SOCK_ACCEPT)
            memory = caller.memory
            check(memory, result, 4)
            wanted = flags_in(flags, FdFlags.ALL)
            if wanted & ~FdFlags.NONBLOCK:
                return i32(Errno.INVAL)
            self._table.room()
            U32.pack_into(memory, result & MASK32, self._table.add(listening.accept(wanted)))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def sock_recv(
        self, caller: Caller, fd: i32, vectors: i32, count: i32, flags: i32, result: i32, result_flags: i32
    ) -> i32:
        try:
            connection = self._socket(fd, Rights.FD_READ)
            memory = caller.memory
            check(memory, result, 4)
            check(memory, result_flags, 2)
            views = buffers(memory, vectors, count)
            found, cut = connection.receive(views, flags_in(flags, RiFlags.ALL))
            U32.pack_into(memory, result & MASK32, found)
            U16.pack_into(memory, result_flags & MASK32, RiFlags.RECV_DATA_TRUNCATED if cut else 0)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def sock_send(self, caller: Caller, fd: i32, vectors: i32, count: i32, flags: i32, result: i32) -> i32:
        try:
            connection = self._socket(fd, Rights.FD_WRITE)
            memory = caller.memory
            check(memory, result, 4)
            flags_in(flags, 0)
            U32.pack_into(memory, result & MASK32, connection.write(buffers(memory, vectors, count)))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def sock_shutdown(self, fd: i32, how: i32) -> i32:
        try:
            connection = self._socket(fd, Rights.SOCK_SHUTDOWN)
            wanted = flags_in(how, SdFlags.ALL)
            if not wanted:
                return i32(Errno.INVAL)
            connection.shutdown(wanted)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS
