"""Arguments, environment, clocks, random bytes, streams, poll_oneoff, the end of programs; and every bad pointer."""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunPython
from tests.wasi.support import BAD, READ, ROOT, WRITE, Guest, errno
from trapline import (
    Engine,
    ExitTrap,
    FuncType,
    Instance,
    Linker,
    LinkError,
    Module,
    Store,
    TraplineError,
    Wasi,
    WasiConfig,
    WasiError,
    parse_text,
)
from trapline.runtime.func import annotated_type
from trapline.wasi.abi import EVENT, FDSTAT, PREVIEW0, PREVIEW1, FdFlags, FileType

# The core types of each function by its witx: s i32, S i64; all but proc_exit return an i32.
SIGNATURES = """
args_get ss args_sizes_get ss environ_get ss environ_sizes_get ss clock_res_get ss clock_time_get sSs
fd_advise sSSs fd_allocate sSS fd_close s fd_datasync s fd_fdstat_get ss fd_fdstat_set_flags ss
fd_fdstat_set_rights sSS fd_filestat_get ss fd_filestat_set_size sS fd_filestat_set_times sSSs fd_pread sssSs
fd_prestat_get ss fd_prestat_dir_name sss fd_pwrite sssSs fd_read ssss fd_readdir sssSs fd_renumber ss fd_seek sSss
fd_sync s fd_tell ss fd_write ssss path_create_directory sss path_filestat_get sssss
path_filestat_set_times ssssSSs path_link sssssss path_open sssssSSss path_readlink ssssss
path_remove_directory sss path_rename ssssss path_symlink sssss path_unlink_file sss poll_oneoff ssss proc_exit s
proc_raise s sched_yield - random_get ss sock_accept sss sock_recv ssssss sock_send sssss sock_shutdown ss
""".split()
TYPES = {
    name: FuncType.of(
        [{"s": "i32", "S": "i64"}[letter] for letter in letters.strip("-")], [] if name == "proc_exit" else ["i32"]
    )
    for name, letters in zip(SIGNATURES[::2], SIGNATURES[1::2], strict=True)
}


def type_of(function: Any) -> FuncType:
    annotated = annotated_type(function)[1]
    assert annotated is not None
    return FuncType.of(annotated[0], [] if annotated[1] is type(None) else [annotated[1]])


def test_every_function_with_its_type() -> None:
    wasi = Wasi()
    assert len(TYPES) == 46
    assert {name: type_of(function) for name, function in wasi["wasi_snapshot_preview1"].items()} == TYPES
    old = {name: type_of(function) for name, function in wasi["wasi_unstable"].items()}
    assert old == {name: type_ for name, type_ in TYPES.items() if name != "sock_accept"}
    assert list(wasi) == ["wasi_snapshot_preview1", "wasi_unstable"]
    with pytest.raises(KeyError):
        wasi["wasi_snapshot_preview9"]


# ---- guests that make mistakes ----


def full_config(tmp_path: Path) -> WasiConfig:
    config = WasiConfig()
    config.argv = ["program", "argument"]
    config.env = {"NAME": "value"}
    config.stdin_bytes = b"input"
    config.capture_stdout()
    config.deterministic_clock()
    config.deterministic_random()
    config.preopen_dir(tmp_path, "host")
    config.mount("memory", {"f": b"content", "d": {"g": b""}})
    return config


POINTERS = {
    "args_get": (BAD, 0),
    "args_sizes_get": (BAD, 0),
    "environ_get": (0, BAD),
    "environ_sizes_get": (0, BAD),
    "clock_res_get": (0, BAD),
    "clock_time_get": (0, 0, BAD),
    "fd_fdstat_get": (ROOT, BAD),
    "fd_filestat_get": (ROOT, BAD),
    "fd_pread": (5, BAD, 1, 0, 64),
    "fd_prestat_get": (ROOT, BAD),
    "fd_prestat_dir_name": (ROOT, BAD, 9),
    "fd_pwrite": (5, BAD, 1, 0, 64),
    "fd_read": (0, BAD, 1, 64),
    "fd_readdir": (ROOT, BAD, 100, 0, 64),
    "fd_seek": (5, 0, 0, BAD),
    "fd_tell": (5, BAD),
    "fd_write": (1, BAD, 1, 64),
    "path_create_directory": (ROOT, BAD, 1),
    "path_filestat_get": (ROOT, 0, BAD, 1, 64),
    "path_filestat_set_times": (ROOT, 0, BAD, 1, 0, 0, 0),
    "path_link": (ROOT, 0, 64, 1, ROOT, BAD, 1),
    "path_open": (ROOT, 0, BAD, 1, 0, 0, 0, 0, 64),
    "path_readlink": (ROOT, BAD, 1, 64, 10, 64),
    "path_remove_directory": (ROOT, BAD, 1),
    "path_rename": (ROOT, BAD, 1, ROOT, 64, 1),
    "path_symlink": (BAD, 1, ROOT, 64, 1),
    "path_unlink_file": (ROOT, 64, -1),
    "poll_oneoff": (BAD, 64, 1, 64),
    "random_get": (64, -1),
}


@pytest.mark.parametrize("name", POINTERS)
def test_a_bad_pointer_is_a_fault(name: str, tmp_path: Path) -> None:
    guest = Guest(full_config(tmp_path))
    assert guest.opened("f", READ | WRITE, fd=4) == 5
    assert errno(getattr(guest, name)(*POINTERS[name])) == "FAULT"


@pytest.mark.parametrize("name", ["fd_read", "fd_write", "fd_pread", "fd_pwrite"])
def test_bad_vectors_are_faults(name: str, tmp_path: Path) -> None:
    guest = Guest(full_config(tmp_path))
    fd = guest.opened("f", READ | WRITE, fd=4)
    more = (0,) if name.startswith("fd_p") else ()
    size = len(guest.memory)
    for vectors in (
        (size - 8, 2),
        (0, -1),
        (4, 1 << 29),
        guest.vectors((size, 1)),
        guest.vectors((0, 1), (size - 1, 2)),
        guest.vectors((0xFFFF_FFFF, 0xFFFF_FFFF)),
    ):
        assert errno(getattr(guest, name)(fd, *vectors, *more, 64)) == "FAULT", vectors


@pytest.mark.parametrize("seed", range(8))
def test_no_arguments_raise_anything(seed: int, tmp_path: Path) -> None:
    """Every function with numbers that programs get wrong: an errno comes back, whatever they are."""
    guest = Guest(full_config(tmp_path))
    choose = random.Random(seed)
    numbers = (0, 1, 2, 3, 4, 5, 6, 7, 64, 99, 4096, 65536, -1, -8, -(1 << 31), (1 << 31) - 1, len(guest.memory) - 4)
    wide = (*numbers, 1 << 40, -(1 << 63), (1 << 63) - 1)
    guest.memory.write(0, b"d/g\0" * 64)
    for _ in range(600):
        name, type_ = choose.choice(list(TYPES.items()))
        args = [choose.choice(numbers if value == 0x7F else wide) for value in type_.params]
        if name == "random_get" and args[1] > 1 << 20:
            continue
        try:
            found = getattr(guest, name)(*args)
        except ExitTrap:
            continue
        assert 0 <= found <= 76, (name, args)


# ---- arguments and environment ----


@pytest.mark.parametrize("prefix", ["args", "environ"])
def test_strings(prefix: str, tmp_path: Path) -> None:
    config = WasiConfig()
    config.argv = ["a", "", "größer"]
    config.env = [("A", "1"), ("B", "")]
    guest = Guest(config)
    expected = {"args": [b"a", b"", "größer".encode()], "environ": [b"A=1", b"B="]}[prefix]
    assert getattr(guest, f"{prefix}_sizes_get")(64, 68) == 0
    size_bytes = sum(map(len, expected)) + len(expected)
    assert guest.memory.unpack(64, "II") == (len(expected), size_bytes)
    assert getattr(guest, f"{prefix}_get")(1024, 2048) == 0
    addresses = guest.memory.unpack(1024, f"{len(expected)}I")
    assert [guest.memory.read_string(at).encode() for at in addresses] == expected


def test_configs_are_checked() -> None:
    config = WasiConfig()
    for wrong in (["a\0b"], [b"\0"]):
        with pytest.raises(WasiError, match="zero byte"):
            config.argv = wrong
    for variables in ({"": "x"}, {"A=B": "x"}, {"A": "x\0"}):
        with pytest.raises(WasiError):
            config.env = variables
    with pytest.raises(WasiError, match="expected a directory"):
        config.preopen_dir("/nonexistent", "/")
    with pytest.raises(WasiError, match="can be opened"):
        config.stdin_file = "/nonexistent"
    with pytest.raises(WasiError, match="can be opened"):
        config.stdout_file = "/nonexistent/x"
    with pytest.raises(WasiError, match="call"):
        config.stderr_custom = 5
    wrong_trees: list[Any] = [{"a/b": b""}, {"..": {}}, {"": b""}, {"a": 5}, {"a": {"b": "text"}}, 5]
    for tree in wrong_trees:
        with pytest.raises(WasiError):
            config.mount("/", tree)
    with pytest.raises(WasiError, match="negative"):
        config.deterministic_clock(-1)
    with pytest.raises(WasiError, match="not captured"):
        Wasi(config).stdout  # noqa: B018
    with pytest.raises(WasiError, match="in memory"):
        Wasi(config).files("/")
    assert issubclass(WasiError, TraplineError)


def test_inherited_arguments_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "y"])
    monkeypatch.setenv("WASI_TEST", "here")
    config = WasiConfig()
    config.inherit_argv()
    config.inherit_env()
    assert config.argv == ["x", "y"]
    assert config.env["WASI_TEST"] == "here"


# ---- clocks and random bytes ----


def now(guest: Guest, clock: int) -> int:
    assert guest.clock_time_get(clock, 0, 64) == 0
    return guest.memory.read_u64(64)


def test_clocks_of_the_host() -> None:
    guest = Guest()
    assert abs(now(guest, 0) - time.time_ns()) < 10**9
    assert now(guest, 1) <= now(guest, 1) <= time.monotonic_ns()
    for clock in (2, 3):
        assert 0 <= now(guest, clock) < 10**12
    for clock in range(4):
        assert guest.clock_res_get(clock, 64) == 0
        assert 1 <= guest.memory.read_u64(64) <= 10**8
    for clock in (4, -1):
        assert errno(guest.clock_time_get(clock, 0, 64)) == errno(guest.clock_res_get(clock, 64)) == "INVAL"


def test_made_up_clocks() -> None:
    config = WasiConfig()
    config.deterministic_clock(10**18, 1000)
    for _ in range(2):
        guest = Guest(config)
        assert [now(guest, clock) for clock in (0, 0, 1, 2)] == [10**18 + 1000, 10**18 + 2000, 3000, 4000]
        assert guest.clock_res_get(0, 64) == 0
        assert guest.memory.read_u64(64) == 1000
        assert errno(guest.clock_time_get(4, 0, 64)) == errno(guest.clock_res_get(4, 64)) == "INVAL"


def test_random_bytes() -> None:
    def draw(config: WasiConfig | None) -> bytes:
        guest = Guest(config, pages=50)
        assert guest.random_get(0, 3_000_000) == 0
        return guest.memory.read(0, 3_000_000)

    config = WasiConfig()
    config.deterministic_random(7)
    assert draw(config) == draw(config)
    assert draw(None) != draw(None)
    assert len(set(draw(None))) == 256
    assert Guest().random_get(0, 0) == 0


# ---- streams ----


def test_stdin_of_bytes_and_nothing() -> None:
    config = WasiConfig()
    config.stdin_bytes = b"abcdef"
    guest = Guest(config)
    assert guest.fd_read(0, *guest.vectors((1024, 2), (2048, 3)), 64) == 0
    assert guest.memory.read_u32(64) == 5
    assert guest.memory.read(2048, 3) == b"cde"
    assert guest.read(0) == ("SUCCESS", b"f")
    assert guest.read(0) == ("SUCCESS", b"")
    assert Guest().read(0) == ("SUCCESS", b"")
    assert guest.write(0, b"x")[0] == guest.read(1)[0] == "BADF"
    for fd in range(3):
        assert guest.seek(fd, 0)[0] == guest.pread(fd, 0)[0] == guest.pwrite(fd, b"", 0)[0] == "SPIPE"
        assert guest.fstat(fd)[1].size == 0
        assert errno(guest.fd_fdstat_set_flags(fd, FdFlags.NONBLOCK)) == "SUCCESS"
        assert errno(guest.fd_fdstat_set_flags(fd, FdFlags.SYNC)) == "INVAL"


def test_captured_and_custom_output() -> None:
    config = WasiConfig()
    config.capture_stderr()
    pieces: list[bytes] = []

    def take_three(data: bytes) -> int:
        pieces.append(data)
        return min(len(data), 3)

    config.stdout_custom = take_three
    guest = Guest(config)
    assert guest.write(1, b"hello") == ("SUCCESS", 3)
    assert guest.write(2, b"error") == ("SUCCESS", 5)
    assert (pieces, guest.wasi.stderr) == ([b"hello"], b"error")
    config.stdout_custom = lambda data: -1
    assert Guest(config).write(1, b"x")[0] == "IO"
    config.stdout_custom = pieces.append
    assert Guest(config).write(1, b"all") == ("SUCCESS", 3)


def test_an_exception_of_custom_output_comes_out() -> None:
    config = WasiConfig()
    config.stdout_custom = lambda data: {}[data]
    with pytest.raises(KeyError):
        Guest(config).write(1, b"x")


def test_files_as_streams(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    config = WasiConfig()
    config.stdin_file = tmp_path / "in"
    config.stdout_file = tmp_path / "out"
    guest = Guest(config)
    assert guest.read(0) == ("SUCCESS", b"from a file")
    assert guest.write(1, b"to a file") == ("SUCCESS", 9)
    assert (tmp_path / "out").read_bytes() == b"to a file"
    assert guest.fd_fdstat_get(1, 64) == 0
    assert FDSTAT.unpack_from(guest.memory, 64)[0] == FileType.UNKNOWN


def test_inherited_streams(run_python: RunPython) -> None:
    script = """
    import trapline, os
    from tests.wasi.support import Guest
    config = trapline.WasiConfig()
    config.inherit_stdio()
    print("first")
    guest = Guest(config)
    assert guest.write(1, b"second\\n")[0] == "SUCCESS"
    assert guest.write(2, b"error\\n")[0] == "SUCCESS"
    assert guest.read(0) == ("SUCCESS", b"")
    assert guest.fd_close(1) == 0
    assert guest.write(1, b"x")[0] == "BADF"
    guest.wasi.close()
    print("third")
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    run = run_python(script, env={"PYTHONPATH": path})
    assert (run.returncode, run.stdout, run.stderr) == (0, "first\nsecond\nthird\n", "error\n"), run


def test_a_terminal_is_one() -> None:
    leader, follower = os.openpty()
    saved = os.dup(0)
    os.dup2(follower, 0)
    try:
        config = WasiConfig()
        config.inherit_stdin()
        guest = Guest(config)
        assert guest.fd_fdstat_get(0, 64) == 0
        assert FDSTAT.unpack_from(guest.memory, 64)[0] == FileType.CHARACTER_DEVICE
        assert errno(guest.fd_fdstat_set_flags(0, FdFlags.NONBLOCK)) == "SUCCESS"
        assert guest.read(0)[0] == "AGAIN"
        assert os.get_blocking(follower)
        os.write(leader, b"line\n")
        assert guest.read(0) == ("SUCCESS", b"line\n")
    finally:
        os.dup2(saved, 0)
        for fd in (saved, leader, follower):
            os.close(fd)


# ---- poll_oneoff ----


def clock(userdata: int, timeout_ns: int, clock_id: int = 1, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, 0, clock_id, timeout_ns, 0, flags)


def file(userdata: int, fd: int, kind: int = 1) -> bytes:
    return struct.pack("<QB7xI28x", userdata, kind, fd & 0xFFFF_FFFF)


def poll(guest: Guest, *subscriptions: bytes) -> list[tuple[int, str, int, int, int]]:
    at, _ = guest.put(b"".join(subscriptions))
    out = guest.room(32 * len(subscriptions))
    assert errno(guest.poll_oneoff(at, out, len(subscriptions), 64)) == "SUCCESS"
    found = [EVENT.unpack_from(guest.memory, out + 32 * index) for index in range(guest.memory.read_u32(64))]
    return [(userdata, errno(error), *rest) for userdata, error, *rest in found]


def test_sleeping() -> None:
    guest = Guest()
    start = time.monotonic_ns()
    assert poll(guest, clock(7, 20_000_000)) == [(7, "SUCCESS", 0, 0, 0)]
    assert time.monotonic_ns() - start >= 20_000_000
    assert poll(guest, clock(1, 10**18), clock(2, 1_000_000)) == [(2, "SUCCESS", 0, 0, 0)]
    assert poll(guest, clock(3, time.time_ns() + 5_000_000, 0, 1)) == [(3, "SUCCESS", 0, 0, 0)]
    assert poll(guest, clock(3, time.monotonic_ns() + 5_000_000, 1, 1)) == [(3, "SUCCESS", 0, 0, 0)]
    assert poll(guest, clock(3, 5, 0, 1)) == [(3, "SUCCESS", 0, 0, 0)]


def test_sleeping_by_a_made_up_clock_takes_no_time() -> None:
    config = WasiConfig()
    config.deterministic_clock()
    guest = Guest(config)
    start = now(guest, 1)
    assert poll(guest, clock(1, 10**15)) == [(1, "SUCCESS", 0, 0, 0)]
    assert now(guest, 1) >= start + 10**15


def test_poll_refuses() -> None:
    guest = Guest()
    assert errno(guest.poll_oneoff(0, 1024, 0, 64)) == "INVAL"
    at, _ = guest.put(b"\0" * 8 + b"\x09" + b"\0" * 39)
    assert errno(guest.poll_oneoff(at, 1024, 1, 64)) == "INVAL"
    assert poll(guest, clock(5, 0, 2), clock(6, 0, 9)) == [(5, "INVAL", 0, 0, 0), (6, "INVAL", 0, 0, 0)]
    assert poll(guest, file(8, 99), file(9, -1, 2), file(10, 1, 1)) == [
        (8, "BADF", 1, 0, 0),
        (9, "BADF", 2, 0, 0),
        (10, "BADF", 1, 0, 0),
    ]


def test_poll_of_what_never_waits(tmp_path: Path) -> None:
    guest = Guest(full_config(tmp_path))
    fd = guest.opened("f", READ | WRITE, fd=4)
    assert poll(guest, file(1, fd), file(2, fd, 2), file(3, 0), file(4, 1, 2), clock(5, 10**15)) == [
        (1, "SUCCESS", 1, 7, 0),
        (2, "SUCCESS", 2, 1, 0),
        (3, "SUCCESS", 1, 5, 0),
        (4, "SUCCESS", 2, 1, 0),
    ]
    guest.read(fd)
    assert poll(guest, file(1, fd)) == [(1, "SUCCESS", 1, 0, 1)]


def test_poll_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    config = WasiConfig()
    config.preopen_dir(tmp_path, ".")
    guest = Guest(config)
    fd = guest.opened("pipe", READ | WRITE, fdflags=FdFlags.NONBLOCK)
    start = time.monotonic_ns()
    assert poll(guest, file(1, fd), clock(2, 20_000_000)) == [(2, "SUCCESS", 0, 0, 0)]
    assert time.monotonic_ns() - start >= 20_000_000
    assert poll(guest, file(1, fd), file(3, fd, 2)) == [(3, "SUCCESS", 2, 1, 0)]
    host = os.open(tmp_path / "pipe", os.O_WRONLY)
    writer = threading.Timer(0.05, os.write, (host, b"abc"))
    writer.start()
    assert poll(guest, file(1, fd), clock(2, 10**11)) == [(1, "SUCCESS", 1, 3, 0)]
    writer.join()
    os.close(host)


@pytest.mark.parametrize("call", ["poll", "read"])
def test_ctrl_c_ends_waiting(call: str, run_python: RunPython) -> None:
    script = f"""
    import os, signal, threading, trapline
    from tests.wasi.support import Guest
    from tests.wasi.test_process import clock, poll
    reader, writer = os.pipe()
    os.dup2(reader, 0)
    config = trapline.WasiConfig()
    config.inherit_stdin()
    guest = Guest(config)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        poll(guest, clock(1, 10**12)) if {call == "poll"} else guest.read(0)
    except KeyboardInterrupt:
        print("interrupted")
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    run = run_python(script, env={"PYTHONPATH": path}, timeout=30)
    assert run.stdout == "interrupted\n", run


# ---- the end ----

EXIT = """(module (import "{module}" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func $inner (call $exit (i32.const {code})))
    (func (export "_start") (call $inner) (unreachable)))"""


@pytest.mark.parametrize("module", ["wasi_snapshot_preview1", "wasi_unstable"])
@pytest.mark.parametrize("code", [0, 1, 255, -1])
def test_proc_exit_leaves_the_program(module: str, code: int) -> None:
    linker = Linker()
    wasi = linker.define_wasi(WasiConfig())
    text = parse_text(EXIT.format(module=module, code=code))
    instance = linker.instantiate(Store(linker.engine), Module(linker.engine, text))
    with pytest.raises(ExitTrap, match="exit code") as caught:
        instance.exports["_start"]()
    assert caught.value.code == code & 0xFFFF_FFFF
    assert wasi.run(instance) == code & 0xFFFF_FFFF
    assert wasi.run(instance) == code & 0xFFFF_FFFF


def test_proc_raise_and_sched_yield() -> None:
    guest = Guest()
    assert errno(guest.proc_raise(0)) == errno(guest.proc_raise(13)) == "SUCCESS"
    assert errno(guest.proc_raise(18)) == "NOTSUP"
    assert errno(guest.proc_raise(31)) == errno(guest.proc_raise(-1)) == "INVAL"
    for number in (int(signal.SIGTERM), int(signal.SIGABRT)):
        with pytest.raises(ExitTrap) as caught:
            guest.proc_raise(number)
        assert caught.value.code == 128 + number
    assert errno(guest.sched_yield()) == "SUCCESS"


# ---- Wasi and linkers ----


def test_linkers_and_mappings() -> None:
    engine = Engine()
    text = parse_text(EXIT.format(module="wasi_snapshot_preview1", code=4))
    wasi = Wasi()
    assert wasi.run(Instance(Store(engine), Module(engine, text), wasi)) == 4
    assert wasi.run(Instance(Store(engine), Module(engine, text), {**wasi, "more": {}})) == 4
    linker = Linker(engine)
    assert linker.define_wasi(wasi) is wasi
    for _ in range(2):
        assert wasi.run(linker.instantiate(Store(engine), Module(engine, text))) == 4
    with pytest.raises(LinkError, match="defined twice"):
        linker.define_wasi(WasiConfig())
    wrong = parse_text('(module (import "wasi_snapshot_preview1" "fd_close" (func (param i64) (result i32))))')
    with pytest.raises(LinkError, match="fd_close"):
        linker.instantiate(Store(engine), Module(engine, wrong))
    newer = parse_text('(module (import "wasi_unstable" "sock_accept" (func (param i32 i32 i32) (result i32))))')
    with pytest.raises(LinkError, match=r"wasi_unstable.sock_accept"):
        linker.instantiate(Store(engine), Module(engine, newer))
    empty = Instance(Store(engine), Module(engine, parse_text("(module)")))
    with pytest.raises(WasiError, match="_start"):
        wasi.run(empty)
    assert "open files" in repr(wasi)


def host_files() -> int:
    """How many descriptors this process has, but for those of compiled code, which live until they are collected."""
    targets = []
    for name in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # that of the listing itself
            continue
    return sum("memfd:" not in target for target in targets)


def test_close_gives_everything_back(tmp_path: Path) -> None:
    before = host_files()
    (tmp_path / "f").write_bytes(b"x")
    config = WasiConfig()
    config.preopen_dir(tmp_path, ".")
    config.stdin_file = tmp_path / "f"
    guest = Guest(config)
    for _ in range(10):
        guest.opened("f")
    assert host_files() == before + 12
    with guest.wasi:
        pass
    assert host_files() == before
    assert guest.open("f")[0] == "BADF"
    guest = Guest(config)
    guest.opened("f")
    del guest
    assert host_files() == before


# ---- the older version ----


def test_what_differs_in_wasi_unstable(tmp_path: Path) -> None:
    guest = Guest(full_config(tmp_path), PREVIEW0.module)
    fd = guest.opened("f", READ | WRITE, fd=4)
    assert guest.seek(fd, 2, 2) == ("SUCCESS", 2)
    assert guest.seek(fd, 1, 0) == ("SUCCESS", 3)
    assert guest.seek(fd, 0, 1) == ("SUCCESS", 7)
    assert guest.fd_filestat_get(fd, 1024) == 0
    found = struct.unpack_from("<QQB3xIQQQQ", guest.memory, 1024)
    assert found[2:5] == (FileType.REGULAR_FILE, 1, 7)
    assert guest.path_filestat_get(4, 0, *guest.put("d/g"), 1024) == 0
    assert struct.unpack_from("<QQB3xIQ", guest.memory, 1024)[2:] == (FileType.REGULAR_FILE, 1, 0)
    sleep = struct.pack("<QB7xQI4xQQH6x", 9, 0, 77, 1, 10**12, 0, 0)
    ready = struct.pack("<QB7xI36x", 8, 2, 1)
    at, _ = guest.put(sleep)
    assert guest.poll_oneoff(at, 1024, 1, 64) == 0
    assert EVENT.unpack_from(guest.memory, 1024) == (9, 0, 0, 0, 0)
    at, _ = guest.put(sleep + ready)
    assert guest.poll_oneoff(at, 1024, 2, 64) == 0
    assert EVENT.unpack_from(guest.memory, 1024) == (8, 0, 2, 1, 0)


def test_layouts_have_the_sizes_of_the_witx() -> None:
    assert [version.filestat.size for version in (PREVIEW1, PREVIEW0)] == [64, 56]
    assert [version.subscription.size for version in (PREVIEW1, PREVIEW0)] == [48, 56]
    assert (EVENT.size, FDSTAT.size) == (32, 24)
