"""`trapline demo`: what it shows, and that no file given to it ends in more than words."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trapline import Config, Engine, Module, WasmTrap, WasmTrapCode
from trapline.cli import main
from trapline.cli.demo import any_file, mends, program
from trapline.cli.demo.build import encode
from trapline.cli.demo.screen import Screen

WIDTH = 100
SUNSET = (program.FOLDER / "sunset.qoi").read_bytes()
DAMAGED = (program.FOLDER / "damaged.qoi").read_bytes()


def demo(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "trapline", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )


def test_the_demo_tells_its_story() -> None:
    start = time.monotonic()
    done = demo()
    assert done.returncode == 0, done
    assert time.monotonic() - start < 20  # about 1.5 s where nothing else runs
    assert not done.stderr
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= WIDTH
    position = 0
    for fact in (
        "720 x 440 pixels in",
        "out of bounds memory access: write of 4 bytes at 0xf0000, memory ends at 0xf0000 (15 pages)",
        "--> thumbnail.c:58:",
        "pixels[at + i] = colour;",
        "0  put_run    thumbnail.c:58:",
        "1  decode     thumbnail.c:95:",
        "2  thumbnail  thumbnail.c:17",
        "Locals of put_run:",
        "983040  0xf0000",
        "0xf0000  ends here",
        "Locals of decode, which waits for it:",
        "-> 0x",
        "mov dword ptr [r14 + ",
        "width=700  height=440  channels=3  colour_space=7",
        "memory.grow(missing // 65536 + 1)",
        "983,040 -> 1,310,720 bytes",
        "undefined element",
        "converters[image->colour_space](image);",
        "event.frames[0].operands[-1] = from_srgb",
        "integer divide by zero",
        "return sum / count;",
        "event.skip(0)",
        "and 263 more empty boxes",
        "thumbnail(72, 44) -> 0  done: 266 traps, 3 bugs, one call.",
        "compile all of it",
        "trap, mended and resumed",
    ):
        found = done.stdout.find(fact, position)
        assert found >= 0, f"{fact!r} is not behind {done.stdout[:position][-300:]!r}"
        position = found + len(fact)


def test_the_mended_picture_is_the_right_one() -> None:
    """Every box that holds pixels has the colour that the undamaged file gives."""
    engine = program.engine()
    module = Module(engine, program.wasm())
    whole = bytearray(DAMAGED)
    whole[12:14] = 4, 0
    wanted = program.Run(engine, module, bytes(whole), 70, 44)
    assert wanted.call() == 0
    run = program.Run(engine, module, DAMAGED, 72, 44)
    handlers = {
        WasmTrapCode.MEMORY_BOUNDS: mends.no_room,
        WasmTrapCode.UNDEFINED_ELEMENT: mends.wild_pointer,
        WasmTrapCode.DIVIDE_BY_ZERO: mends.empty_box,
    }
    run.store.set_trap_handler(lambda event: handlers[event.reason](event, run))
    assert run.call() == 0
    assert [row[:70] for row in run.pixels()] == wanted.pixels()
    run.store.set_trap_handler(None)
    with pytest.raises(WasmTrap, match="out of bounds memory access"):
        program.Run(engine, module, DAMAGED, 72, 44).call()


def test_the_statements_that_are_shown_are_those_that_run() -> None:
    assert mends.statements(mends.empty_box) == ["event.skip(0)"]
    assert len(mends.statements(mends.no_room)) == 4


def test_the_core_demo() -> None:
    done = demo("--core")
    assert done.returncode == 0, done
    for fact in ("the same as zlib's", "average = 42", "interrupt at", "fib(15) = 610"):
        assert fact in done.stdout


def test_another_machine_gets_the_core_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert main(["demo"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "x86-64 only" in lines[0]


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    done = demo("--input", str(empty))
    assert (done.returncode, "not a QOI picture" in done.stdout) == (0, True), done
    done = demo("--input", str(tmp_path / "absent"))
    assert done.returncode == 1
    assert "No such file" in done.stderr
    done = demo("--input", "/dev/zero")
    assert done.returncode == 1
    assert "more than 67,108,864 bytes" in done.stderr


def read(path: Path, data: bytes, capsys: pytest.CaptureFixture[str]) -> str:
    path.write_bytes(data)
    start = time.monotonic()
    assert any_file.read_any(Screen(), path) == 0
    assert time.monotonic() - start < 60
    output = capsys.readouterr().out
    assert re.search(r"[\d,]+ x [\d,]+ pixels, [\d,]+ traps", output), output
    return output


def header(width: int, height: int, channels: int = 4, colour_space: int = 0) -> bytes:
    return b"qoif" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((channels, colour_space))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (header(0, 5), "done"),
        (header(5, 0), "done"),
        (header(0, 0, 0, 255), "done"),
        (header(4096, 4096), "done"),
        (header(4096, 4096, 255) + b"\xfd" * 5000, ""),
        (header(4096, 4096, 0) + b"\xfd" * 300_000, "done"),
        (header(1 << 24, 1, 1) + b"\xfe\1\2\3" * 1000, ""),
        (header(1, 1 << 24, 3) + b"\xfe\1\2\3" * 1000, ""),
        (header(0xFFFF_FFFF, 0xFFFF_FFFF), "more than 16,777,216"),
        (header(3, 3)[:13], "not a QOI picture"),
        *((header(64, 64, 4, space) + b"\xff\1\2\3\4", "done") for space in range(2, 256, 23)),
    ],
)
def test_strange_headers(data: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in read(tmp_path / "strange.qoi", data, capsys)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes changed in header and data, pieces cut out or off: nothing is raised, hangs or dies."""
    source = random.Random(seed)
    data = bytearray(source.choice((SUNSET, DAMAGED)))
    for _ in range(source.randrange(3)):
        data[source.choice((6, 7, 10, 11, 12, 13))] = source.choice((0, 1, 2, 127, 255, source.randrange(256)))
    for _ in range(source.choice((0, 1, 20, 1000))):
        data[source.randrange(4, len(data))] = source.randrange(256)
    if source.random() < 0.4:
        start = source.randrange(14, len(data))
        del data[start : source.choice((len(data), start + source.randrange(2000)))]
    read(tmp_path / "damaged.qoi", bytes(data), capsys)


@pytest.mark.parametrize("level", ["full", "live"])
def test_another_runtime_computes_the_same(level: str) -> None:
    """On damaged files, without mending: status or backtrace, and every byte of the memory."""
    wasmtime = pytest.importorskip("wasmtime")
    theirs = wasmtime.Engine()
    compiled = wasmtime.Module(theirs, program.wasm())
    engine = Engine(Config(debug=level))
    module = Module(engine, program.wasm())
    source = random.Random(level)
    for _ in range(60):
        data = bytearray(source.choice((SUNSET, DAMAGED)))
        for _ in range(source.randrange(3)):
            data[source.choice((6, 7, 10, 11, 12, 13))] = source.choice((0, 1, 2, 3, 255, source.randrange(256)))
        for _ in range(source.choice((0, 5, 3000))):
            data[source.randrange(14, len(data))] = source.randrange(256)
        columns, rows = source.choice((72, 36, 100)), source.choice((44, 22, 60))
        store = wasmtime.Store(theirs)
        exports = wasmtime.Instance(store, compiled, []).exports(store)
        exports["memory"].write(store, data, exports["reserve"](store, len(data)))
        try:
            wanted = exports["thumbnail"](store, columns, rows)
        except wasmtime.Trap as trap:
            wanted = [frame.module_offset for frame in trap.frames]
        run = program.Run(engine, module, bytes(data), columns, rows)
        try:
            found = run.call()
        except WasmTrap as trap:
            found = [frame.pc for frame in trap.frames]
        assert found == wanted
        assert bytes(run.memory) == bytes(exports["memory"].read(store, 0, exports["memory"].data_len(store)))


def test_a_program_that_does_not_end_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(any_file, "_MOST_S", 0.0)
    output = read(tmp_path / "slow.qoi", header(4096, 4096, 4, 1) + b"\xfd" * 300_000, capsys)
    assert "left after" in output or "done" in output
    monkeypatch.setattr(any_file, "_MOST_S", 5.0)
    monkeypatch.setattr(any_file, "_MOST_TRAPS", 10)
    assert "left after" in read(tmp_path / "traps.qoi", DAMAGED, capsys)


def test_the_encoder_and_the_program_agree() -> None:
    """What build.py encodes is what thumbnail.c decodes, for pixels of every kind of difference."""
    source = random.Random(1)
    pixels = [(0, 0, 0)]
    for _ in range(64 * 64 - 1):
        reach = source.choice((0, 1, 6, 200))
        red, green, blue = ((level + source.randint(-reach, reach)) % 256 for level in pixels[-1])
        pixels.append(source.choice((source.choice(pixels[-9:]), (red, green, blue))))
    engine = program.engine()
    data = encode(pixels, 64, channels=4, colour_space=0)
    run = program.Run(engine, Module(engine, program.wasm()), data, 64, 64)
    assert run.call() == 0
    assert [pixel for row in run.pixels() for pixel in row] == pixels


@pytest.mark.parametrize(("depth", "code"), [("truecolor", "38;2;"), ("", "38;5;")])
def test_colours_on_a_terminal(depth: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", depth)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    screen = Screen()
    (line,) = screen.picture([[(255, 0, 0)] * 3, [(0, 0, 255)] * 3])
    assert line.count("▀") == 3
    assert code in line
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in Screen().picture([[(255, 0, 0)], [(0, 0, 255)]])[0]
