"""What the variables TRAPLINE_DUMP, TRAPLINE_ONLY and TRAPLINE_CHECK ask for, and the command `trapline dump`."""

from __future__ import annotations

import io
import platform
from pathlib import Path

import pytest

from tests.conftest import RunPython
from tests.reference.generate import generate
from trapline import dump
from trapline.cli import main
from trapline.dump import Request, Stage, Watch, legend, parse_range, parse_requests
from trapline.errors import TraplineError
from trapline.wasm.text import parse_text

pytest.importorskip("wasmtime", reason="the text format needs wasmtime")

SOURCE = """
(module
  (import "host" "log" (func $log (param i32)))
  (func $double (export "twice") (param i32) (result i32)
    local.get 0
    i32.const 2
    i32.mul)
  (func $nothing))
"""


@pytest.fixture
def module_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.wasm"
    path.write_bytes(parse_text(SOURCE))
    return path


def test_stages_are_legend_and_parser() -> None:
    """Each stage has its line in the help, and its word asks for it."""
    assert len(legend().splitlines()) == len(Stage)
    for stage, line in zip(Stage, legend().splitlines(), strict=True):
        assert line.startswith(f"{stage.value} ")
        assert parse_requests(stage.value) == (Request(stage, None),)


def test_requests() -> None:
    assert parse_requests(" lower , emit@fib,,") == (Request(Stage.LOWER, None), Request(Stage.EMIT, "fib"))
    assert [request.stage for request in parse_requests("all@7")] == list(Stage)
    assert Request(Stage.LOWER, "7").concerns(7, "fib")
    assert Request(Stage.LOWER, "fib").concerns(7, "fib")
    assert Request(Stage.LOWER, None).concerns(None, None)
    assert not Request(Stage.LOWER, "fib").concerns(7, None)
    assert not Request(Stage.LOWER, "None").concerns(None, None)


@pytest.mark.parametrize("text", ["foo", "lower,foo@3", "lower@", "@3", "Lower "])
def test_requests_refused(text: str) -> None:
    if text == "@3":
        assert parse_requests(text) == ()
        return
    with pytest.raises(TraplineError, match="TRAPLINE_DUMP: found"):
        parse_requests(text)


def test_ranges() -> None:
    assert parse_range("3..7") == range(3, 7)
    assert 10**9 in parse_range("3..")
    assert list(parse_range("..2")) == [0, 1]
    for text in ("3", "a..b", "3...7", "-1..2", "1..2..3"):
        with pytest.raises(TraplineError, match="TRAPLINE_ONLY: found"):
            parse_range(text)


def test_a_watch_makes_only_what_is_asked_for() -> None:
    stream = io.StringIO()
    watch = Watch([Stage.EMIT], "function 1", stream)
    watch(Stage.LOWER, lambda: pytest.fail("not asked for"))
    watch(Stage.EMIT, lambda: "text")
    assert stream.getvalue() == "== emit: function 1\ntext\n"


def test_nothing_is_asked_for_by_default() -> None:
    assert dump.optimised(0)
    assert dump.optimised(10**6)


@pytest.mark.parametrize("level", ["full", "live"])
@pytest.mark.parametrize("stage", [stage.value for stage in list(Stage)[:9]])
def test_the_command(module_file: Path, stage: str, level: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", str(module_file), "--stage", stage, "--debug", level]) == 0
    out = capsys.readouterr().out
    assert f"== {stage}: function 1 (double)\n" in out
    assert f"== {stage}: function 2 (nothing)\n" in out
    for wanted in ("double", "$double", "twice", "1"):
        assert main(["dump", str(module_file), "--stage", stage, "--debug", level, "--function", wanted]) == 0
        assert capsys.readouterr().out == out[: out.index(f"== {stage}: function 2")]


def test_the_command_on_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.wat"
    path.write_text(SOURCE, encoding="utf-8")
    assert main(["dump", str(path), "--function", "double"]) == 0
    assert "i32.mul\n" in capsys.readouterr().out
    assert main(["dump", str(path), "--stage", "all"]) == 0
    assert main(["compile", str(path), "--longest", "5"]) == 0
    assert "2 functions, 5 opcodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--function", "treble"], "function treble: found no function of that name"),
        (["--function", "doub"], "there is double"),
        (["--function", "0"], "function 0: found no body under that index, expected one from 1 to 2"),
        (["--function", "3"], "function 3: found no body"),
    ],
)
def test_functions_that_are_not_there(
    module_file: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dump", str(module_file), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("trapline: ")


def test_files_that_are_no_modules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr and status 1, for a file that is not there, no module, no text, or invalid."""
    files = {
        "absent.wasm": None,
        "folder.wasm": "folder",
        "empty.wasm": b"",
        "other.wasm": b"\x7fELF" * 9,
        "bad.wat": b"(module (func (result i32) i32.cnst 3))",
        "bytes.wat": b"(module \xff)",
        "invalid.wat": b"(module (func (result i32)))",
    }
    for name, content in files.items():
        path = tmp_path / name
        if content == "folder":
            path.mkdir()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        for command in ("dump", "compile"):
            assert main([command, str(path)]) == 1, name
            error = capsys.readouterr().err
            assert error.startswith(f"trapline: {path}: "), name
            assert "Traceback" not in error


def test_wrong_command_lines(module_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--stage", "place"], ["--stage", "foo"], ["--debug", "none"], ["one", "two"]):
        assert main(["dump", str(module_file), *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("trapline: dump: "), error
        assert error.count("\n") == 1
    assert main(["dump", "--help"]) == 0
    assert legend() in capsys.readouterr().out


COMPILE = """
import sys
from trapline.cli import main
sys.exit(main(["compile", sys.argv[1]]))
"""


def test_the_environment(module_file: Path, run_python: RunPython) -> None:
    def run(**env: str) -> str:
        finished = run_python(COMPILE, str(module_file), env=env)
        assert finished.returncode == 0, finished
        return finished.stderr

    assert run() == ""
    assert run(TRAPLINE_DUMP="lower@treble") == ""
    text = run(TRAPLINE_DUMP="lower,emit@double")
    headings = [line for line in text.splitlines() if line.startswith("==")]
    assert headings == [
        "== lower: function 1 (double)",
        "== emit: function 1 (double)",
        "== lower: function 2 (nothing)",
    ]
    assert run(TRAPLINE_DUMP="lower,emit@double") == text, "dumps hold nothing that changes from run to run"
    assert run(TRAPLINE_DUMP="dead", TRAPLINE_ONLY="2..") == run(TRAPLINE_DUMP="dead@nothing")
    assert run(TRAPLINE_DUMP="emit", TRAPLINE_ONLY="..0").count("== emit") == 2


CHECKED = """
import sys
from trapline.cli import main
from trapline.compile import pipeline
proved = []
prove = getattr(pipeline, "check", None)
pipeline.check = lambda func, *rest: (prove(func, *rest), proved.append(func.index))
assert main(["compile", sys.argv[1]]) == 0
print(proved)
"""


@pytest.mark.parametrize(("value", "proved"), [("1", "[1, 2]"), ("0", "[]"), ("", "[]")])
def test_checking(module_file: Path, run_python: RunPython, value: str, proved: str) -> None:
    finished = run_python(CHECKED, str(module_file), env={"TRAPLINE_CHECK": value})
    assert finished.returncode == 0, finished
    assert finished.stdout.splitlines()[-1] == proved


RUN = """
import sys, trapline
engine = trapline.Engine()
module = trapline.Module(engine, open(sys.argv[1], "rb").read())
linker = trapline.Linker(engine)
linker.define_func("host", "log", None, print)
exports = linker.instantiate(trapline.Store(engine), module).exports
assert exports["twice"](21) == 42
try:
    exports["fail"]()
except trapline.WasmTrap:
    pass
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")
def test_code_that_runs(tmp_path: Path, run_python: RunPython) -> None:
    """What TRAPLINE_DUMP shows of a program: a function when it is compiled and placed, a trap when it stops."""
    path = tmp_path / "small.wasm"
    path.write_bytes(parse_text(SOURCE.replace("(func $nothing)", '(func (export "fail") unreachable)')))
    finished = run_python(RUN, str(path), env={"TRAPLINE_DUMP": "lower@double,place,trap"})
    assert finished.returncode == 0, finished
    assert [line for line in finished.stderr.splitlines() if line.startswith("==")] == [
        "== lower: function 1 (double)",
        "== place: function 1 (double)",
        "== place: function 2 (fail)",
        "== trap: function 2 (fail)",
    ]
    assert "\nunreachable at 0x" in finished.stderr


def test_an_environment_that_cannot_be_read(module_file: Path, run_python: RunPython) -> None:
    for env in ({"TRAPLINE_DUMP": "foo"}, {"TRAPLINE_ONLY": "foo"}):
        finished = run_python(COMPILE, str(module_file), env=env)
        assert finished.returncode == 1, finished
        assert f"{next(iter(env))}: found 'foo'" in finished.stderr
        assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("level", ["full", "live"])
def test_every_stage_prints_whatever_there_is(
    tmp_path: Path, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Generated modules hold every opcode and value type."""
    for seed in range(12):
        path = tmp_path / f"{seed}.wasm"
        path.write_bytes(generate(seed, 60).content)
        assert main(["dump", str(path), "--stage", "all", "--debug", level]) == 0
        first = capsys.readouterr().out
        assert first.count("\n== emit: ") == first.count("\n== table: ") > 0
        assert "(bad)" not in first
        assert main(["dump", str(path), "--stage", "all", "--debug", level]) == 0
        assert capsys.readouterr().out == first
