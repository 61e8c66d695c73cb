"""`trapline compile`, `objdump` and `completion`."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.programs import FUNCTIONS
from tests.reference.generate import generate
from trapline.cli import COMMANDS, command, main
from trapline.cli.completion import script
from trapline.wasm.text import parse_text

pytest.importorskip("wasmtime", reason="the text format needs wasmtime")
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("functions.wat").write_text(FUNCTIONS)
    Path("functions.wasm").write_bytes(parse_text(FUNCTIONS))
    return "functions.wasm"


# ---- compile ----


def test_an_artifact_runs(module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiler, that is."""
    assert main(["compile", module]) == 0
    out = capsys.readouterr().out
    assert out.startswith("functions.cwasm: 7 functions, ")
    monkeypatch.setattr("trapline.runtime.module_code.compile_defined", lambda *_: pytest.fail("compiled again"))
    assert main(["run", "-C", "cache=n", "--invoke", "add", "functions.cwasm", "40", "2"]) == 0
    assert capsys.readouterr().out == "42\n"


def test_an_artifact_for_others_is_compiled_again(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "-D", "live", "-o", "live.cwasm", module]) == 0
    capsys.readouterr()
    assert main(["run", "-C", "cache=n", "--invoke", "add", "live.cwasm", "40", "2"]) == 0
    assert capsys.readouterr().out == "42\n"
    assert main(["objdump", "-f", "add", "live.cwasm"]) == 0
    shown = capsys.readouterr().out
    assert main(["objdump", "-f", "add", module]) == 0
    assert capsys.readouterr().out == shown


def test_artifacts_that_cannot_be_written(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    for output, message in (("absent/x", "absent/x: No such file or directory"), (module, "found the module itself")):
        assert main(["compile", "-o", output, module]) == 1
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["functions.wasm", "functions.wat"], "nothing is left"


def test_statistics(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--stats", "--longest", "2", module]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("7 functions, ")
    assert len(lines) == 5
    assert not Path("functions.cwasm").exists()


# ---- objdump ----


def test_objdump(module: str, capsys: pytest.CaptureFixture[str], golden: Callable[[str | Path, str], None]) -> None:
    assert main(["objdump", module]) == 0
    text = capsys.readouterr().out
    golden("expected/objdump.txt", text)
    assert main(["objdump", "functions.wat"]) == 0
    assert capsys.readouterr().out == text
    assert main(["objdump", "-f", "divide", module]) == 0
    assert capsys.readouterr().out in text


@pytest.mark.parametrize("level", ["full", "live"])
def test_objdump_of_whatever_there_is(level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Generated modules hold every opcode; every opcode with code is shown, and so is every instruction."""
    for seed in range(8):
        path = tmp_path / f"{seed}.wasm"
        path.write_bytes(generate(seed, 60).content)
        assert main(["objdump", "-D", level, str(path)]) == 0
        text = capsys.readouterr().out
        assert text.count(" bytes of code") == text.count("\nfunction ") + 1
        assert text.count("    ret\n") + text.count("    ret  ;") + text.count("    ret ") >= 1


def test_functions_that_are_not_there(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["objdump", "-f", "dvide", module]) == 1
    assert "did you mean divide?" in capsys.readouterr().err


# ---- completion ----


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_name_everything(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text == script(shell) + "\n"
    for name in COMMANDS:
        assert name in text
        for option in command(name).options:
            assert option.names[-1].lstrip("-") in text
            assert all(setting.name in text for setting in option.settings if not setting.refusal)
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["obj"], ["objdump"]),
        (["run", "--inv"], ["--invoke"]),
        (["run", "-W", "unknown"], ["unknown-imports-default", "unknown-imports-trap"]),
        (["run", "-D", "level"], ["level=full", "level=live"]),
        (["dump", "--stage", "em"], ["emit"]),
        (["completion", "z"], ["zsh"]),
    ],
)
@pytest.mark.client("bash")
def test_bash_completes(words: list[str], wanted: list[str]) -> None:
    quoted = " ".join(f"'{word}'" for word in words)
    asked = f"COMP_WORDS=(trapline {quoted}); COMP_CWORD={len(words)}; _trapline; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    text = f"compopt() {{ :; }}\n{script('bash')}\n{asked}"
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == wanted, done.stderr
