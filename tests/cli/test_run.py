"""`trapline run`: what it runs, what it prints, its exit statuses, and what it says of mistakes."""

from __future__ import annotations

import gc
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.programs import FUNCTIONS, GREETING, compiled
from trapline import Linker, Module, Store, WasiConfig
from trapline.cli import main
from trapline.cli.values import parse_arguments, result_text
from trapline.errors import TraplineError
from trapline.wasm.text import parse_text
from trapline.wasm.types import FuncType

pytest.importorskip("wasmtime", reason="the text format needs wasmtime")
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(argument, ...) -> (status, stdout, stderr) of `trapline run`, in a folder with the programs."""
    monkeypatch.setenv("TRAPLINE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("functions.wat").write_text(FUNCTIONS)
    Path("hello.wasm").write_bytes(parse_text(GREETING.format(end="")))

    def call(*argv: str) -> tuple[int, str, str]:
        status = main(["run", *argv])
        gc.collect()  # as the end of the process does, it lets the module go, which keeps its code in the cache
        return status, *capfd.readouterr()

    return call


def process(*argv: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "trapline", *argv], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


# ---- programs ----


def test_a_program(run: Run) -> None:
    assert run("hello.wasm") == (0, "hello\n", "")
    assert run("hello.wasm") == (0, "hello\n", ""), "again, from the cache"
    assert list(Path("cache").glob("*.trapline")), "the cache is on by default"


def test_the_cache_can_be_elsewhere_or_off(run: Run) -> None:
    assert run("-C", "cache=n", "hello.wasm")[0] == 0
    assert not Path("cache").exists()
    assert run("-C", "cache-dir=other", "hello.wasm")[0] == 0
    assert list(Path("other").glob("*.trapline"))


def test_the_program_s_own_status(run: Run) -> None:
    Path("exit.wat").write_text(GREETING.format(end="(call $exit (i32.const 7))"))
    assert run("exit.wat") == (7, "hello\n", "")


def test_a_program_without_the_word_run(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["hello.wasm", "--help"]) == 0
    assert capfd.readouterr().out == "hello\n"
    assert main(["-C", "cache=n", "hello.wasm"]) == 0


def test_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("functions.wat") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert run("--invoke", "add", "-", "40", "2") == (0, "42\n", "")


def test_arguments_environment_and_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    program = str(compiled(Path(__file__).with_name("show.c"), "-O1"))
    monkeypatch.setenv("FROM_HERE", "b c")
    assert run(program, "-x", "--dir")[1] == f"[{Path(program).name}][-x][--dir]no file\n"
    Path("folder").mkdir()
    Path("folder/note").write_text("")
    argv = ["--argv0", "me", "--env", "A=1", "--env", "FROM_HERE", "--env", "NOT_HERE", "--dir", "folder::/in", program]
    assert run(*argv)[1] == "[me]{A=1}{FROM_HERE=b c}file\n"
    assert "{FROM_HERE=b c}" in run("-S", "inherit-env", program)[1]


def test_preloaded_modules(run: Run) -> None:
    Path("user.wat").write_text(
        """(module (import "math" "add" (func $add (param i32 i32) (result i32)))
             (func (export "more") (param i32) (result i32) (call $add (local.get 0) (i32.const 2))))"""
    )
    assert run("--preload", "math=functions.wat", "--invoke", "more", "user.wat", "40") == (0, "42\n", "")
    status, _, error = run("--invoke", "more", "user.wat", "40")
    assert status == 1
    assert "unknown import: math.add" in error
    assert "--preload math=FILE" in error


def test_unknown_imports(run: Run) -> None:
    Path("user.wat").write_text(
        """(module (import "env" "f" (func $f (result i32))) (func (export "g") (result i32) (call $f)))"""
    )
    assert run("--invoke", "g", "user.wat")[0] == 1
    assert run("-W", "unknown-imports-default=y", "--invoke", "g", "user.wat") == (0, "0\n", "")
    status, _, error = run("-W", "unknown-imports-trap", "--invoke", "g", "user.wat")
    assert status == 134
    assert error.startswith("trap: unreachable: env.f was called and is not defined\n")
    assert "user.wat!g" in error
    assert run("-W", "unknown-imports-trap,unknown-imports-default", "--invoke", "g", "user.wat")[0] == 2


def test_reactors_are_initialized(run: Run) -> None:
    Path("reactor.wat").write_text(
        """(module (global $g (mut i32) (i32.const 0)) (func (export "_initialize") (global.set $g (i32.const 5)))
             (func (export "get") (result i32) (global.get $g)))"""
    )
    assert run("--invoke", "get", "reactor.wat") == (0, "5\n", "")


def test_limits(run: Run) -> None:
    assert run("-W", "max-memory-size=64K", "--invoke", "add", "functions.wat", "1", "2")[0] == 0
    status, _, error = run("-W", "max-memory-size=65535", "--invoke", "add", "functions.wat", "1", "2")
    assert status == 1
    assert "a memory that starts with 65,536 bytes" in error
    assert run("-W", "max-wasm-stack=1000", "functions.wat")[0] == 2
    few = run("-W", "max-wasm-stack=64K", "--invoke", "down", "functions.wat", "0")[2]
    many = run("-W", "max-wasm-stack=4M", "--invoke", "down", "functions.wat", "0")[2]
    assert few.count("call stack exhausted") == many.count("call stack exhausted") == 1
    assert few != many, "more calls fit"


# ---- one function ----


@pytest.mark.parametrize(
    ("argv", "out"),
    [
        (["add", "40", "2"], "42\n"),
        (["add", "0xffffffff", "-1"], "-2\n"),
        (["pair", "0.1", "-7"], "0.1\n3\n-7\n"),
        (["pair", "-inf", "0x8000000000000000"], "-inf\n3\n-9223372036854775808\n"),
        (["null", "null"], "null\n"),
    ],
)
def test_invoke(run: Run, argv: list[str], out: str) -> None:
    for options in ([], ["-D", "level=live"], ["-O", "memories=checked"]):
        assert run(*options, "--invoke", argv[0], "functions.wat", *argv[1:]) == (0, out, "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["add", "1"], "--invoke add: found 1 arguments, expected 2: i32, i32"),
        (["add", "1", "x"], "argument 2: found 'x', expected an integer (i32)"),
        (["add", "1", "4294967296"], "expected an integer of 32 bits (i32)"),
        (["pair", "x", "1"], "argument 1: found 'x', expected a number (f32)"),
        (["null", "1"], "expected null, the only externref that can be written"),
        (["ad", "1"], "--invoke ad: found nothing, expected an exported function; did you mean add?"),
        (["zzzzz"], "expected an exported function; it exports outer, add, pair"),
        (["memory"], "--invoke memory: found a "),
    ],
)
def test_wrong_invocations(run: Run, argv: list[str], message: str) -> None:
    status, out, error = run("--invoke", argv[0], "functions.wat", *argv[1:])
    assert (status, out) == (1, "")
    assert message in error
    assert error.count("\n") == 1


def test_floats_as_wasmtime_prints_them() -> None:
    for value, shown in ((1e21, "1000000000000000000000"), (5e-324, None), (-0.0, "-0"), (float("nan"), "NaN")):
        text = result_text(0x7C, value)
        assert shown is None or text == shown
        assert "e" not in text
    assert result_text(0x7D, 16777216.0) == "16777216"
    assert float(result_text(0x7C, 5e-324)) == 5e-324
    assert parse_arguments("f", FuncType.of(["f64"]), ["0x1.8p1"]) == [3.0]
    with pytest.raises(TraplineError, match="argument 1"):
        parse_arguments("f", FuncType.of(["f64"]), ["0x1.8p99999"])


# ---- mistakes ----


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["functions.wa"], 1, "functions.wa: no such file; did you mean functions.wat?"),
        (["functions"], 1, "functions: no such file; did you mean functions.wat?"),
        (["."], 1, ".: found a directory, expected a module in it, such as artifact.cwasm"),
        (["functions.wat"], 1, "functions.wat: exports no _start; --invoke NAME calls one of outer, add"),
        (["words.txt"], 1, "expected a WebAssembly module (\\0asm), its text, or what trapline compile wrote"),
        (["empty.wasm"], 1, "empty.wasm: found an empty file"),
        (["component.wasm"], 1, "component.wasm: found a component, expected a core module"),
        (["elf.cwasm"], 1, "elf.cwasm: found an ELF file"),
        (["short.wasm"], 1, "short.wasm: "),
        (["artifact.cwasm"], 1, "artifact.cwasm: "),
        (["bad.wat"], 1, "bad.wat: line 1, column "),
        (["--dir", "absent", "hello.wasm"], 2, "--dir absent: found nothing at 'absent', expected a directory"),
        (["--dir", "words.txt", "hello.wasm"], 2, "found a file at 'words.txt', expected a directory"),
        (["--env", "=1", "hello.wasm"], 2, "--env: found '=1', expected NAME=VALUE or NAME"),
        (["--preload", "x", "hello.wasm"], 2, "--preload: found 'x', expected NAME=FILE"),
        (["-O", "opt-level=2", "hello.wasm"], 2, "-O opt-level: trapline has one level of optimization"),
        (["-W", "fuel=9", "hello.wasm"], 2, "-W fuel: trapline counts no fuel"),
        (["--invok", "f", "hello.wasm"], 2, "found '--invok', which is no option; did you mean --invoke?"),
        ([], 2, "found no FILE"),
    ],
)
def test_one_line_says_what_is_wrong(run: Run, argv: list[str], status: int, message: str) -> None:
    Path("words.txt").write_text("words")
    Path("empty.wasm").write_bytes(b"")
    Path("component.wasm").write_bytes(b"\0asm\x0d\0\1\0")
    Path("elf.cwasm").write_bytes(b"\x7fELF\2\1\1")
    Path("short.wasm").write_bytes(b"\0asm\1\0\0\0\1")
    Path("artifact.cwasm").write_bytes(b"\0trapline artifact\n" + bytes(90))
    Path("bad.wat").write_text("(module (func i32.cnst))")
    found, out, error = run(*argv)
    assert (found, out) == (status, "")
    assert message in error
    assert error.startswith("trapline: ")
    assert "Traceback" not in error


# ---- whole processes ----


def test_traps_end_with_134_and_leave_what_was_printed(tmp_path: Path) -> None:
    path = tmp_path / "trap.wat"
    path.write_text(GREETING.format(end="unreachable"))
    with process("run", "-C", f"cache-dir={tmp_path / 'cache'}", str(path)) as program:
        out, error = program.communicate(timeout=60)
    assert program.returncode == 134, error
    assert out == "hello\n"
    assert error.startswith("trap: unreachable\n")
    assert "\x1b" not in error, "no colours where there is no terminal"


CALLS_FOREVER = "(loop (drop (call $write (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 8))) (br 0))"


@pytest.mark.parametrize("end", ["(loop (br 0))", CALLS_FOREVER], ids=["loop", "calls"])
def test_ctrl_c_ends_with_130(tmp_path: Path, end: str) -> None:
    path = tmp_path / "spin.wat"
    path.write_text(GREETING.format(end=end))
    with process("run", "-C", f"cache-dir={tmp_path / 'cache'}", str(path)) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "hello\n"
        program.send_signal(signal.SIGINT)
        _, error = program.communicate(timeout=60)
    assert program.returncode == 130, error
    assert "trapline: interrupted in _start (spin.wat at byte 0x" in error
    assert "Traceback" not in error
    with process("run", "-C", f"cache-dir={tmp_path / 'cache'}", str(path)) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "hello\n", "what was cached then is whole"
        program.kill()


START_UP = """
import sys
from trapline import Linker, Module, Store, WasiConfig
from trapline.cli import main
status = main(["run", *sys.argv[1:]])
unwanted = {"capstone", "keystone", "wasmtime", "argparse", "trapline.asm.assembling", "trapline.debug.lines"}
assert not unwanted & sys.modules.keys(), unwanted & sys.modules.keys()
sys.exit(status)
"""


def test_nothing_is_imported_in_vain(tmp_path: Path) -> None:
    """A program that runs to its end needs no disassembler, no assembler and no DWARF."""
    path = tmp_path / "hello.wasm"
    path.write_bytes(parse_text(GREETING.format(end="")))
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", START_UP, str(path)],
            env={**os.environ, "TRAPLINE_CHECK": "", "TRAPLINE_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_whoever_reads_may_leave(tmp_path: Path) -> None:
    """`trapline dump ... | head` ends quietly."""
    path = tmp_path / "functions.wat"
    path.write_text(FUNCTIONS)
    command = f"{sys.executable} -m trapline objdump {path} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("function 0 (inner)")
    assert done.stderr == ""


def test_a_guest_lasts_as_long_as_its_instance(capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever drops the linker and what `define_wasi` gave has not closed the guest's files."""
    store = Store()
    linker = Linker(store.engine)
    config = WasiConfig()
    config.inherit_stdio()
    linker.define_wasi(config)
    instance = linker.instantiate(store, Module(store.engine, parse_text(GREETING.format(end=""))))
    del linker
    gc.collect()
    instance.exports["_start"]()
    assert capfd.readouterr().out == "hello\n"
