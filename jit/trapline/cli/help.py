"""Help, printed from the tables of cli/options.py."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

from trapline.cli.options import Command, Kind, Option, Setting, metavar
from trapline.cli.style import Style

__all__ = ["help_text", "listed", "settings_text"]

_LEFT: Final = 30
"""Columns of the names."""


def _rows(rows: Iterable[tuple[str, str]], style: Style, width: int) -> list[str]:
    """Names in the left column, their help in the right one, wrapped."""
    lines = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, max(width - _LEFT - 2, 30)) or [""]
        start = f"  {style.bold(name)}{' ' * (_LEFT - len(name) - 2)}"
        if len(name) > _LEFT - 4:
            lines.append(f"  {style.bold(name)}")
            start = " " * _LEFT
        lines.append((start + wrapped[0]).rstrip())
        lines += [" " * _LEFT + line for line in wrapped[1:]]
    return lines


def listed(rows: Sequence[tuple[str, str]], style: Style) -> str:
    """Names with a line on each."""
    return "\n".join(_rows(rows, style, _width()))


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 110)


def _named(option: Option) -> str:
    names = ", ".join(option.names)
    if option.settings:
        return f"{names} {option.metavar}"
    return names if option.kind == Kind.FLAG else f"{names} {metavar(option)}"


def _setting_name(setting: Setting) -> str:
    value = metavar(setting)
    return f"{setting.name}{value if setting.kind == Kind.FLAG and not setting.choices else '=' + value}"


def usage(command: Command) -> str:
    """The first line of the help."""
    words = ["trapline", command.name]
    if command.options:
        words.append("[OPTIONS]")
    for positional in command.positionals:
        name = positional.name.upper()
        words.append(f"[{name}...]" if positional.rest else f"[{name}]" if positional.optional else name)
    return " ".join(words)


def help_text(command: Command, style: Style) -> str:
    """The help of a command."""
    width = _width()
    lines = [f"{style.head('Usage:')} {usage(command)}", ""]
    lines += textwrap.wrap(command.description or command.summary, width)
    if command.examples:
        lines += ["", style.head("Examples:")]
        longest = max(len(line) for line, _ in command.examples)
        for line, what in command.examples:
            lines.append(f"  {style.bold(line)}{' ' * (longest - len(line))}   {style.dim('# ' + what)}")
    if command.positionals:
        lines += ["", style.head("Arguments:")]
        lines += _rows([(one.name.upper(), one.help) for one in command.positionals], style, width)
    groups: dict[str, list[tuple[str, str]]] = {}
    for option in command.options:
        groups.setdefault(option.group, []).append((_named(option), option.help))
    groups.setdefault("Options", []).append(("-h, --help", "print this"))
    for group, rows in groups.items():
        lines += ["", style.head(f"{group}:"), *_rows(rows, style, width)]
    if command.epilog is not None:
        lines += ["", command.epilog().rstrip()]
    return "\n".join(lines)


def settings_text(option: Option, style: Style) -> str:
    """What `-W help` prints: every setting of a family."""
    name = option.names[0]
    rows = [(f"{name} {_setting_name(one)}", one.help) for one in option.settings if not one.refusal]
    heading = option.help.partition(" (")[0]
    return "\n".join([style.head(f"{heading[0].upper()}{heading[1:]}:"), *_rows(rows, style, _width())])
