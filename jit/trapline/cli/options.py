"""The tables that commands are made of: each is parser, help and shell completion in one.

A `Command` has `Option`s; an option may be a family of `Setting`s, as in `-W max-wasm-stack=64K,unknown-imports-trap`.
`parse` reads a command line by them, `help_text` (cli/help.py) and `script` (cli/completion.py) print them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from trapline.errors import TraplineError

__all__ = ["Command", "Kind", "Option", "Parsed", "Positional", "Setting", "UsageError", "nearest", "parse"]


class UsageError(TraplineError):
    """A command line that cannot be read; the exit status is 2."""


class Kind(enum.Enum):
    """What an option or a setting takes; the value is how the help writes it where the table has no word of its own."""

    FLAG = "[=y|n]"
    """Nothing or, for a setting, y or n."""
    TEXT = "TEXT"
    NUMBER = "N"
    SIZE = "BYTES"
    """A number, or one with K, M or G: powers of 1024."""
    FILE = "FILE"
    FOLDER = "DIR"


class Setting(NamedTuple):
    """One word of a family. `refusal`: said of settings that other programs have and that mean nothing here."""

    name: str
    help: str = ""
    kind: Kind = Kind.FLAG
    metavar: str = ""
    choices: tuple[str, ...] = ()
    refusal: str = ""


class Option(NamedTuple):
    """`names` are like `--dir` or `-o`; the value is found under the last one without its dashes.

    `settings` make it a family: their values are found under their own names. `repeats`: all values are kept.
    """

    names: tuple[str, ...]
    help: str
    kind: Kind = Kind.TEXT
    metavar: str = ""
    choices: tuple[str, ...] = ()
    default: Any = None
    repeats: bool = False
    group: str = "Options"
    settings: tuple[Setting, ...] = ()

    @property
    def key(self) -> str:
        return self.names[-1].lstrip("-")


class Positional(NamedTuple):
    """`rest`: takes everything that follows, options included."""

    name: str
    help: str
    kind: Kind = Kind.FILE
    optional: bool = False
    rest: bool = False
    choices: tuple[str, ...] = ()


class Command(NamedTuple):
    """`run` is given what was parsed and returns the exit status. `examples` are (command line, what it does)."""

    name: str
    summary: str
    run: Callable[[Parsed], int]
    positionals: tuple[Positional, ...] = ()
    options: tuple[Option, ...] = ()
    description: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    epilog: Callable[[], str] | None = None

    @property
    def spelled(self) -> dict[str, Option]:
        """Every option by each of its names."""
        return {name: option for option in self.options for name in option.names}


class Parsed:
    """What a command line says. Values are of the type of their kind: text, int, bool; lists of them where they repeat.

    `wants_help` is `--help`, or the option whose settings are to be listed.
    """

    __slots__ = ("values", "wants_help")

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.wants_help: bool | Option = False

    def text(self, key: str) -> str | None:
        found = self.values.get(key)
        assert found is None or isinstance(found, str), f"{key} is {found!r}, expected text"
        return found

    def texts(self, key: str) -> list[str]:
        return list(self.values.get(key, ()))

    def number(self, key: str) -> int | None:
        found = self.values.get(key)
        assert found is None or isinstance(found, int), f"{key} is {found!r}, expected a number"
        return found

    def flag(self, key: str, default: bool = False) -> bool:
        return bool(self.values.get(key, default))


_HELP: Final = ("-h", "--help")
_UNITS: Final = {"k": 10, "m": 20, "g": 30}
_YES: Final = {"": True, "y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}


def nearest(word: str, words: Sequence[str]) -> str:
    """`; did you mean ...?` where one of the words is like it, else nothing.

    >>> nearest("--invok", ["--invoke", "--dir"])
    '; did you mean --invoke?'
    """
    from difflib import get_close_matches  # seldom needed

    found = get_close_matches(word, words, 1, 0.6)
    return f"; did you mean {found[0]}?" if found else ""


def parse(command: Command, argv: Sequence[str]) -> Parsed:
    """Read the arguments behind a command's name. Raises UsageError."""
    parsed = Parsed({option.key: option.default for option in command.options if option.default is not None})
    spelled = command.spelled
    words = iter(argv)
    left = list(command.positionals)
    found: list[str] = []
    for word in words:
        if word == "--":
            found += words
        elif word in _HELP:
            parsed.wants_help = True
            return parsed
        elif not word.startswith("-") or word == "-":
            found.append(word)
            if len(left) > len(found) and left[len(found)].rest:
                found += words
        else:
            listed = _option(command, spelled, word, words, parsed)
            if listed is not None:
                parsed.wants_help = listed
                return parsed
    _assign(command, left, found, parsed)
    return parsed


def _option(
    command: Command, spelled: dict[str, Option], word: str, words: Iterator[str], parsed: Parsed
) -> Option | None:
    """Read an option that begins with a word; returns it when its settings are asked for."""
    name, equals, value = word.partition("=")
    option = spelled.get(name)
    if option is None and not word.startswith("--"):
        name, value = word[:2], word[2:]
        option, equals = spelled.get(name), "=" if value else ""
        value = value.removeprefix("=")
    if option is None:
        raise UsageError(f"found {word.partition('=')[0]!r}, which is no option{nearest(word, [*spelled, '--help'])}")
    if option.kind == Kind.FLAG and not option.settings:
        if equals:
            raise UsageError(f"{name}: found a value, {value!r}; it takes none")
        parsed.values[option.key] = True
        return None
    if not equals:
        following = next(words, None)
        if following is None:
            raise UsageError(f"{name}: found nothing behind it, expected {metavar(option)}")
        value = following
    if option.settings:
        if value == "help":
            return option
        for item in value.split(","):
            _setting(name, option, item, parsed)
        return None
    read = _value(name, option, value)
    if option.repeats:
        parsed.values.setdefault(option.key, []).append(read)
    else:
        parsed.values[option.key] = read
    return None


def _setting(name: str, option: Option, item: str, parsed: Parsed) -> None:
    word, equals, value = item.partition("=")
    word = word.strip()
    known = {setting.name: setting for setting in option.settings}
    setting = known.get(word)
    if setting is None and not equals:
        for one in option.settings:  # `live` for `level=live`
            if word in one.choices:
                parsed.values[one.name] = word
                return
    if setting is None:
        raise UsageError(f"{name} {word}: no such setting{nearest(word, list(known))} ({name} help lists them)")
    if setting.refusal:
        raise UsageError(f"{name} {word}: {setting.refusal}")
    if not equals and (setting.choices or setting.kind != Kind.FLAG):
        raise UsageError(f"{name} {word}: found no value, expected {word}={metavar(setting)}")
    parsed.values[word] = _value(f"{name} {word}", setting, value)


def metavar(of: Option | Setting) -> str:
    """What stands for the value in the help."""
    return of.metavar or "|".join(of.choices) or of.kind.value


def _value(name: str, of: Option | Setting, text: str) -> Any:
    if of.choices and text not in of.choices:
        raise UsageError(f"{name}: found {text!r}, expected {' or '.join(of.choices)}{nearest(text, of.choices)}")
    if of.choices:
        return text
    match of.kind:
        case Kind.FLAG:
            if text.lower() not in _YES:
                raise UsageError(f"{name}: found {text!r}, expected y or n")
            return _YES[text.lower()]
        case Kind.NUMBER | Kind.SIZE:
            return _number(name, of.kind, text)
    return text


def _number(name: str, kind: Kind, text: str) -> int:
    digits, shift = text, 0
    if kind == Kind.SIZE and text[-1:].lower() in _UNITS:
        digits, shift = text[:-1], _UNITS[text[-1:].lower()]
    try:
        number = int(digits, 0) << shift
    except ValueError:
        number = -1
    if number < 0:
        what = "a number of bytes, like 65536, 64K or 1M" if kind == Kind.SIZE else "a number"
        raise UsageError(f"{name}: found {text!r}, expected {what}")
    return number


def _assign(command: Command, left: Sequence[Positional], found: list[str], parsed: Parsed) -> None:
    """Give the words that are no options to the positionals."""
    for positional in left:
        if positional.rest:
            parsed.values[positional.name] = found
            return
        if not found:
            if positional.optional:
                return
            raise UsageError(f"found no {positional.name.upper()}: {positional.help}")
        word = found.pop(0)
        if positional.choices and word not in positional.choices:
            hint = nearest(word, positional.choices)
            raise UsageError(f"found {word!r}, expected {', '.join(positional.choices)}{hint}")
        parsed.values[positional.name] = word
    if found:
        raise UsageError(f"found {found[0]!r}, expected nothing more")
