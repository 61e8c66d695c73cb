"""The command line: `trapline COMMAND`, also `python -m trapline COMMAND`.

Each command is a module here with a `COMMAND`, a table of cli/options.py, which is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from trapline.cli.options import Command, Option, UsageError, nearest, parse
from trapline.cli.style import Style
from trapline.errors import TraplineError

__all__ = ["COMMANDS", "command", "main"]

COMMANDS: Final = {
    "run": "run a program, or one function of a module",
    "compile": "compile a module ahead of time, into an artifact that starts at once",
    "objdump": "opcodes, native code and the places of values side by side",
    "dump": "what each stage of the compiler makes of a module",
    "demo": "a C program that traps on a damaged file, is looked into, mended and resumed",
    "completion": "print the completion script of a shell",
}
"""Every command in the order of the help, with its summary."""

_PROGRAMS: Final = (".wasm", ".wat", ".cwasm")
_FAILED: Final = 1
_WRONG: Final = 2
_INTERRUPTED: Final = 130


def command(name: str) -> Command:
    """The table of a command."""
    found: Command = importlib.import_module(f"trapline.cli.{name}").COMMAND
    return found


def _overview(style: Style) -> str:
    from trapline.cli.help import listed

    return "\n".join(
        [
            f"{style.head('Usage:')} trapline COMMAND [OPTIONS] ...",
            f"       trapline [OPTIONS] FILE.wasm [ARGS...]      {style.dim('the same as trapline run')}",
            "",
            "Run WebAssembly and native code, stop it anywhere, look inside, mend it and go on.",
            "",
            style.head("Commands:"),
            listed(list(COMMANDS.items()), style),
            "",
            style.head("Options:"),
            listed([("-h, --help", "print this"), ("-V, --version", "print the version")], style),
            "",
            "trapline COMMAND --help tells more, with examples.",
        ]
    )


def _print_help(table: Command, wanted: bool | Option) -> None:
    from trapline.cli.help import help_text, settings_text

    style = Style.of(sys.stdout)
    print(settings_text(wanted, style) if isinstance(wanted, Option) else help_text(table, style))


def _named(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command and what follows it: `run` where a file or an option of its comes first. Raises UsageError."""
    first = argv[0]
    if first in COMMANDS:
        return first, argv[1:]
    if first.startswith("-") or first.endswith(_PROGRAMS) or os.path.isfile(first):
        return "run", argv
    hint = nearest(first, list(COMMANDS)) or f"; there is {', '.join(COMMANDS)}"
    raise UsageError(f"found {first!r}, which is no command{hint}")


def _execute(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        if len(argv) > 1 and argv[1] in COMMANDS:
            return _execute([argv[1], "--help"])
        print(_overview(Style.of(sys.stdout if argv else sys.stderr)), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else _WRONG
    if argv[0] in ("-V", "--version"):
        import trapline

        print(f"trapline {trapline.__version__}")
        return 0
    named, rest = _named(argv)
    table = command(named)
    try:
        parsed = parse(table, rest)
        if parsed.wants_help:
            _print_help(table, parsed.wants_help)
            return 0
        return table.run(parsed)
    except UsageError as error:
        more = "" if "help" in str(error) else f" (trapline {named} --help tells more)"
        raise UsageError(f"{named}: {error}{more}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: its own, 1 for an error (said on stderr), 2 for a wrong command line."""
    try:
        status = _execute(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except TraplineError as error:
        print(f"{Style.of(sys.stderr).error('trapline')}: {error}", file=sys.stderr)
        return _WRONG if isinstance(error, UsageError) else _FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has gone
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status
