"""Compiled programs: what they print equals what they print when compiled for this machine, and under wasmtime.

Deviations from wasmtime 50 in errnos are a table here, each with its reason.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import wasmtime

from tests.wasi.compiled import needs_zig, program
from trapline import Config, Engine, Linker, Module, Store, WasiConfig

pytestmark = [needs_zig, pytest.mark.limit(900)]

ARGUMENTS = ["first", "", "third with spaces", "größe"]
ENV = {"GREETING": "hello there", "EMPTY": ""}
PLAIN = ("files.c", "system.c", "large.c")
EVERY = [(name, level) for name in (*PLAIN, "streams.cc", "hello.zig") for level in ("-O0", "-O2")]


class Result(NamedTuple):
    code: int
    stdout: bytes
    stderr: bytes


def stdin_of(name: str) -> bytes:
    if name == "system.c":
        return b"".join(b"%d\n" % number for number in range(10_000))
    return b"one two three two one two\n"


def run_native(name: str, level: str, folder: Path) -> Result:
    done = subprocess.run(
        [program(name, level, native=True), *ARGUMENTS], cwd=folder, env=ENV, input=stdin_of(name), capture_output=True
    )
    return Result(done.returncode, done.stdout, done.stderr)


def run_here(wasm: Path, folder: Path, stdin: bytes, debug: str = "full", *, in_memory: bool = False) -> Result:
    engine = Engine(Config(debug=debug))
    config = WasiConfig()
    config.argv = ["program", *ARGUMENTS]
    config.env = ENV
    config.stdin_bytes = stdin
    config.capture_stdout()
    config.capture_stderr()
    if in_memory:
        config.mount(".", {})
    else:
        config.preopen_dir(folder, ".")
    linker = Linker(engine)
    with linker.define_wasi(config) as wasi:
        module = Module(engine, wasm.read_bytes(), name=wasm.name)
        code = wasi.run(linker.instantiate(Store(engine), module))
        return Result(code, wasi.stdout, wasi.stderr)


def run_wasmtime(wasm: Path, folder: Path, stdin: bytes, streams: Path) -> Result:
    (streams / "in").write_bytes(stdin)
    config = wasmtime.WasiConfig()
    config.argv = ["program", *ARGUMENTS]
    config.env = list(ENV.items())
    config.stdin_file = str(streams / "in")
    config.stdout_file = str(streams / "out")
    config.stderr_file = str(streams / "err")
    config.preopen_dir(str(folder), ".")
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    store.set_wasi(config)
    start = linker.instantiate(store, wasmtime.Module.from_file(engine, str(wasm))).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    code = 0
    try:
        start(store)
    except wasmtime.ExitTrap as end:
        code = end.code
    store.close()
    return Result(code, (streams / "out").read_bytes(), (streams / "err").read_bytes())


@pytest.mark.parametrize(("name", "level"), EVERY)
def test_like_the_native_program(name: str, level: str, tmp_path: Path) -> None:
    folders = [tmp_path / kind for kind in ("native", "here", "memory")]
    for folder in folders:
        folder.mkdir()
    expected = run_native(name, level, folders[0])
    wasm = program(name, level)
    assert run_here(wasm, folders[1], stdin_of(name)) == expected
    assert sorted(os.listdir(folders[1])) == sorted(os.listdir(folders[0]))
    assert run_here(wasm, folders[2], stdin_of(name), "live", in_memory=True) == expected
    assert os.listdir(folders[2]) == []


@pytest.mark.parametrize(("name", "level"), EVERY)
def test_like_wasmtime(name: str, level: str, tmp_path: Path) -> None:
    for kind in ("wasmtime", "here", "streams"):
        (tmp_path / kind).mkdir()
    wasm = program(name, level)
    expected = run_wasmtime(wasm, tmp_path / "wasmtime", stdin_of(name), tmp_path / "streams")
    assert run_here(wasm, tmp_path / "here", stdin_of(name)) == expected


# name: (ours, wasmtime's, why)
DEVIATIONS = {
    "open-synchronous": (0, 58, "files can be opened synchronously here"),
    "allocate": (0, 58, "fd_allocate is implemented here"),
    "sync-directory": (0, 8, "fsync(2) works on directories, and databases need it"),
    "flags-stdin": (0, 8, "streams have flags too, of the guest's own"),
    "rights-file": (0, 58, "rights can be given up, as the witx says"),
    "rmdir-link-slash": (54, 28, "rmdir(2): a link is no directory"),
    "unlink-link-slash": (54, 31, "unlink(2): a link followed by a slash is no directory"),
    "rmdir-slash": (0, 28, "rmdir(2) takes a slash at the end"),
    "link-follow": (0, 28, "links to what a link names can be made here"),
    "clock-cpu": (0, 8, "the clocks of CPU time are implemented here"),
    "clock-cpu-resolution": (0, 8, "the clocks of CPU time are implemented here"),
    "poll-no-file": (0, 8, "an event with the errno tells which subscription is wrong, as the witx says"),
    "poll-directory": (0, 8, "an event with the errno, as above"),
    "poll-cpu": (0, 28, "an event with the errno, as above"),
}


def make_directory(folder: Path) -> Path:
    (folder / "full").mkdir(parents=True)
    (folder / "full" / "x").touch()
    (folder / "d").mkdir()
    (folder / "f").write_bytes(b"content")
    (folder / "absolute").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to("loop")
    (folder / "dl").symlink_to("d")
    return folder


def numbers(result: Result) -> dict[str, int]:
    assert result.code == 0
    return {name: int(number) for name, number in map(str.split, result.stdout.decode().splitlines())}


def test_errnos_equal_those_of_wasmtime(tmp_path: Path) -> None:
    wasm = program("errors.c")
    (tmp_path / "streams").mkdir()
    theirs = numbers(run_wasmtime(wasm, make_directory(tmp_path / "theirs"), b"", tmp_path / "streams"))
    ours = numbers(run_here(wasm, make_directory(tmp_path / "ours"), b""))
    assert len(ours) >= 130
    different = {name: (ours[name], theirs[name]) for name in theirs if ours[name] != theirs[name]}
    assert different == {name: (mine, wasmtimes) for name, (mine, wasmtimes, _) in DEVIATIONS.items()}
    left = [set(os.listdir(tmp_path / kind)) for kind in ("ours", "theirs")]
    assert left[0] ^ left[1] == {"followed", "made"}  # by link-follow and rmdir-slash
