"""sock_*: listening sockets of the host, connections to them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.wasi.support import READ, WRITE, Guest, errno
from tests.wasi.test_process import clock, file, poll
from trapline import WasiConfig
from trapline.wasi.abi import FDSTAT, FdFlags, FileType

LISTENING = 3
RD, WR = 1, 2


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def guest(listening: socket.socket) -> Guest:
    config = WasiConfig()
    config.preopen_socket(listening)
    return Guest(config)


def accept(guest: Guest, flags: int = 0) -> tuple[str, int]:
    return errno(guest.sock_accept(LISTENING, flags, 64)), guest.memory.read_u32(64)


def receive(guest: Guest, fd: int, size_bytes: int = 100, flags: int = 0) -> tuple[str, bytes]:
    result = guest.sock_recv(fd, *guest.vectors((1024, size_bytes)), flags, 64, 68)
    return errno(result), b"" if result else guest.memory.read(1024, guest.memory.read_u32(64))


def send(guest: Guest, fd: int, data: bytes) -> str:
    return errno(guest.sock_send(fd, *guest.vectors(guest.put(data)), 0, 64))


def test_a_connection(guest: Guest, listening: socket.socket) -> None:
    with socket.create_connection(listening.getsockname()) as client:
        result, fd = accept(guest)
        assert (result, fd) == ("SUCCESS", 4)
        assert guest.fd_fdstat_get(fd, 64) == 0
        assert FDSTAT.unpack_from(guest.memory, 64)[0] == FileType.SOCKET_STREAM
        assert guest.fstat(fd)[1].filetype == FileType.SOCKET_STREAM
        client.sendall(b"hello there")
        assert poll(guest, file(1, fd), clock(2, 10**11)) == [(1, "SUCCESS", 1, 11, 0)]
        assert receive(guest, fd, 5, 1) == ("SUCCESS", b"hello")
        assert receive(guest, fd, 5, 2) == ("SUCCESS", b"hello")
        assert guest.read(fd, 100) == ("SUCCESS", b" there")
        assert send(guest, fd, b"answer") == "SUCCESS"
        assert guest.write(fd, b"!") == ("SUCCESS", 1)
        assert client.recv(7, socket.MSG_WAITALL) == b"answer!"
        assert errno(guest.sock_shutdown(fd, WR)) == "SUCCESS"
        assert client.recv(100) == b""
        client.close()
        assert receive(guest, fd) == ("SUCCESS", b"")
        assert send(guest, fd, b"x") == "PIPE"
        assert errno(guest.fd_close(fd)) == "SUCCESS"


def test_without_waiting(guest: Guest, listening: socket.socket) -> None:
    assert errno(guest.fd_fdstat_set_flags(LISTENING, FdFlags.NONBLOCK)) == "SUCCESS"
    assert accept(guest)[0] == "AGAIN"
    assert listening.getblocking()
    with socket.create_connection(listening.getsockname()) as client:
        assert poll(guest, file(1, LISTENING))[0][:2] == (1, "SUCCESS")
        fd = accept(guest, FdFlags.NONBLOCK)[1]
        assert receive(guest, fd)[0] == guest.read(fd)[0] == "AGAIN"
        written = 0
        while (answer := guest.write(fd, bytes(50_000)))[0] == "SUCCESS":
            written += answer[1]
        assert answer[0] == "AGAIN"
        assert written > 0
        assert errno(guest.fd_fdstat_set_flags(fd, 0)) == "SUCCESS"
        threading.Timer(0.05, client.sendall, (b"late",)).start()
        assert receive(guest, fd) == ("SUCCESS", b"late")


def test_a_listening_socket_that_does_not_block_in_the_host(guest: Guest, listening: socket.socket) -> None:
    listening.setblocking(False)
    clients: list[socket.socket] = []
    connect = threading.Timer(0.05, lambda: clients.append(socket.create_connection(listening.getsockname())))
    connect.start()
    assert accept(guest) == ("SUCCESS", 4)
    connect.join()
    clients[0].close()


def test_datagrams_are_cut_off() -> None:
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with first, second:
        config = WasiConfig()
        config.preopen_socket(first)
        guest = Guest(config)
        second.send(b"0123456789")
        assert receive(guest, LISTENING, 4) == ("SUCCESS", b"0123")
        assert guest.memory.read_u16(68) == 1
        second.send(b"all")
        assert receive(guest, LISTENING, 4) == ("SUCCESS", b"all")
        assert guest.memory.read_u16(68) == 0


def test_what_is_refused(guest: Guest, listening: socket.socket) -> None:
    for fd, expected in ((1, "NOTSOCK"), (99, "BADF")):
        assert errno(guest.sock_accept(fd, 0, 64)) == expected
        assert receive(guest, fd)[0] == send(guest, fd, b"x") == errno(guest.sock_shutdown(fd, RD)) == expected
    assert accept(guest, FdFlags.APPEND)[0] == accept(guest, 64)[0] == "INVAL"
    assert errno(guest.sock_accept(LISTENING, 0, -4)) == "FAULT"
    assert receive(guest, LISTENING, flags=8)[0] == "INVAL"
    assert receive(guest, LISTENING)[0] == "NOTCONN"
    for how in (0, 4, -1):
        assert errno(guest.sock_shutdown(LISTENING, how)) == "INVAL"
    assert guest.seek(LISTENING, 0)[0] == guest.pread(LISTENING, 0)[0] == "SPIPE"
    assert errno(guest.fd_fdstat_set_flags(LISTENING, FdFlags.SYNC)) == "INVAL"
    assert guest.open("x", READ | WRITE, fd=LISTENING)[0] == "BADF"
    rights = FDSTAT.unpack_from(guest.memory, 64)[2] if guest.fd_fdstat_get(LISTENING, 64) == 0 else 0
    assert errno(guest.fd_fdstat_set_rights(LISTENING, rights & ~(1 << 29), 0)) == "SUCCESS"
    assert accept(guest)[0] == "NOTCAPABLE"
