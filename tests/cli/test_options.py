"""The tables of commands as parser and as help."""

from __future__ import annotations

import pytest

from trapline.cli import COMMANDS, command, main
from trapline.cli.help import help_text, settings_text
from trapline.cli.options import (
    Command,
    Kind,
    Option,
    Parsed,
    Positional,
    Setting,
    UsageError,
    nearest,
    parse,
)
from trapline.cli.style import Style

TABLE = Command(
    "try",
    "tries",
    lambda parsed: 0,
    positionals=(Positional("file", "what to try"), Positional("args", "its arguments", rest=True)),
    options=(
        Option(("-o", "--output"), "where to", Kind.FILE),
        Option(("--all",), "everything", Kind.FLAG),
        Option(("--dir",), "where from", repeats=True),
        Option(("--count",), "how many", Kind.NUMBER),
        Option(("--shape",), "which", choices=("round", "square")),
        Option(
            ("-W", "--wasm"),
            "settings",
            metavar="SETTING,...",
            settings=(
                Setting("trap", "traps"),
                Setting("stack", "bytes", Kind.SIZE),
                Setting("level", "how much", choices=("full", "live")),
                Setting("fuel", refusal="there is none"),
            ),
        ),
    ),
)


def parsed(*argv: str) -> Parsed:
    return parse(TABLE, argv)


@pytest.mark.parametrize(
    ("argv", "values"),
    [
        (["-o", "x"], {"output": "x"}),
        (["-ox"], {"output": "x"}),
        (["--output=x=y"], {"output": "x=y"}),
        (["--all", "--dir", "a", "--dir=b"], {"all": True, "dir": ["a", "b"]}),
        (["--count", "0x10"], {"count": 16}),
        (["--shape", "round"], {"shape": "round"}),
        (["-W", "trap"], {"trap": True}),
        (["-Wtrap=n,stack=64K"], {"trap": False, "stack": 65536}),
        (["--wasm=stack=1m", "-W", "trap=yes"], {"trap": True, "stack": 1 << 20}),
        (["-W", "level=live"], {"level": "live"}),
        (["-W", "live"], {"level": "live"}),
    ],
)
def test_values(argv: list[str], values: dict[str, object]) -> None:
    assert parsed(*argv, "FILE").values == {**values, "file": "FILE", "args": []}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--al"], "found '--al', which is no option; did you mean --all?"),
        (["-x"], "found '-x', which is no option"),
        (["--all=1"], "--all: found a value, '1'; it takes none"),
        (["--output"], "--output: found nothing behind it, expected FILE"),
        (["--count", "few"], "--count: found 'few', expected a number"),
        (["--count", "-1"], "--count: found '-1', expected a number"),
        (["--shape", "rund"], "found 'rund', expected round or square; did you mean round?"),
        (["-W", "trp"], "-W trp: no such setting; did you mean trap? (-W help lists them)"),
        (["-W", "trap=perhaps"], "-W trap: found 'perhaps', expected y or n"),
        (["-W", "stack"], "-W stack: found no value, expected stack=BYTES"),
        (["-W", "stack=1x"], "expected a number of bytes, like 65536, 64K or 1M"),
        (["-W", "fuel=1"], "-W fuel: there is none"),
        (["-W", "level=half"], "-W level: found 'half', expected full or live"),
        ([], "found no FILE: what to try"),
    ],
)
def test_wrong_ones(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*argv)
    assert message in str(caught.value)


def test_what_follows_the_file_is_the_program_s() -> None:
    """Even options and `--`; before it, `--` ends the options."""
    assert parsed("--all", "f", "--all", "-W", "--").texts("args") == ["--all", "-W", "--"]
    assert parsed("--", "-f", "-x").values == {"file": "-f", "args": ["-x"]}
    assert parsed("-").text("file") == "-"


def test_one_too_many() -> None:
    table = Command("one", "takes one", lambda parsed: 0, positionals=(Positional("file", "the file"),))
    with pytest.raises(UsageError, match="found 'b', expected nothing more"):
        parse(table, ["a", "b"])


def test_help_is_asked_for() -> None:
    assert parsed("--help").wants_help is True
    listed = parsed("-W", "help").wants_help
    assert isinstance(listed, Option)
    assert listed.key == "wasm"


def test_help_names_everything() -> None:
    text = help_text(TABLE, Style(False))
    for word in ("-o, --output FILE", "--all", "--shape round|square", "-W, --wasm SETTING,...", "FILE", "[ARGS...]"):
        assert word in text
    settings = settings_text(TABLE.spelled["-W"], Style(False))
    for word in ("-W trap[=y|n]", "-W stack=BYTES", "-W level=full|live"):
        assert word in settings
    assert "fuel" not in settings, "what is refused is not offered"


def test_colours_do_not_change_the_text() -> None:
    coloured = help_text(TABLE, Style(True))
    assert "\x1b[" in coloured
    plain = coloured
    for code in ("1", "2", "1;33", "0"):
        plain = plain.replace(f"\x1b[{code}m", "")
    assert plain == help_text(TABLE, Style(False))


def test_nearest() -> None:
    assert nearest("fiel", ["file", "folder"]) == "; did you mean file?"
    assert nearest("something", ["file", "folder"]) == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same by `--help` and `help NAME`; lines fit a terminal, and the overview says what the table says."""
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == text
    table = command(name)
    assert table.name == name
    assert table.summary == COMMANDS[name]
    assert max(map(len, text.splitlines())) <= 112, max(text.splitlines(), key=len)
    keys = [option.key for option in table.options]
    keys += [setting.name for option in table.options for setting in option.settings]
    assert len(keys) == len(set(keys)), "values are found by these names"


def test_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert main([]) == 2
    assert capsys.readouterr().err == text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("trapline ")


def test_commands_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu", "x"]) == 2
    assert capsys.readouterr().err == "trapline: found 'rnu', which is no command; did you mean run?\n"
