"""`trapline completion`: scripts with which shells complete command lines, made from the tables of the commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from trapline.cli import COMMANDS, command
from trapline.cli.options import Command, Kind, Option, Parsed, Positional

__all__ = ["COMMAND", "script"]

_PROGRAMS: Final = "*.(wasm|wat|cwasm)"
_OPTIONS: Final = ("-h", "--help")


def script(shell: str) -> str:
    """The script for bash, zsh or fish."""
    tables = [command(name) for name in COMMANDS]
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](tables)


def _words(option: Option) -> list[str]:
    """What may stand behind an option: choices, or settings with `=` where they need a value."""
    words = list(option.choices)
    for one in option.settings:
        if not one.refusal:
            words += [f"{one.name}={choice}" for choice in one.choices]
            words += [] if one.choices else [one.name if one.kind == Kind.FLAG else f"{one.name}="]
    return [*words, "help"] if option.settings else words


def _takes_value(option: Option) -> bool:
    return option.kind != Kind.FLAG or bool(option.settings)


# ---- bash ----


def _bash(tables: list[Command]) -> str:
    lines = [
        "# bash completion of trapline: source <(trapline completion bash)",
        "_trapline() {",
        '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}',
        "    COMPREPLY=()",
        "    if (( COMP_CWORD == 1 )); then",
        f'        COMPREPLY=($(compgen -W "{" ".join(COMMANDS)} --help --version" -- "$cur"))',
        "        return",
        "    fi",
        '    case "$command $prev" in',
    ]
    for table in tables:
        for option in table.options:
            if _takes_value(option):
                patterns = " | ".join(f'"{table.name} {name}"' for name in option.names)
                lines.append(f"        {patterns})")
                lines += [f"            {line}" for line in _bash_values(option)]
                lines.append("            return ;;")
    lines += ["    esac", '    case "$command" in']
    for table in tables:
        lines.append(f"        {table.name})")
        named = " ".join([*(name for option in table.options for name in option.names), *_OPTIONS])
        lines.append(f'            [[ $cur == -* ]] && COMPREPLY=($(compgen -W "{named}" -- "$cur"))')
        lines += [
            f'            [[ $cur == -* ]] || COMPREPLY=($(compgen -W "{" ".join(one.choices)}" -- "$cur"))'
            for one in table.positionals
            if one.choices
        ]
        lines.append("            ;;")
    return "\n".join([*lines, "    esac", "}", "complete -o default -F _trapline trapline"])


def _bash_values(option: Option) -> Iterator[str]:
    words = _words(option)
    if words:
        yield f'COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$cur"))'
        if option.settings:
            yield "compopt -o nospace"
    elif option.kind == Kind.FOLDER or option.key == "dir":
        yield 'COMPREPLY=($(compgen -d -- "$cur"))'


# ---- zsh ----


def _zsh(tables: list[Command]) -> str:
    lines = [
        "#compdef trapline",
        "# zsh completion of trapline: trapline completion zsh > ~/.zfunc/_trapline, with ~/.zfunc in fpath",
        "_trapline() {",
        "    local -a commands=(",
        *(f"        {_quoted(f'{name}:{summary}')}" for name, summary in COMMANDS.items()),
        "    )",
        "    if (( CURRENT == 2 )); then",
        "        _describe command commands",
        f"        _files -g {_quoted(_PROGRAMS)}",
        "        return",
        "    fi",
        "    local command=$words[2]",
        "    shift words",
        "    (( CURRENT-- ))",
        "    case $command in",
    ]
    for table in tables:
        lines.append(f"        {table.name})")
        lines.append("            _arguments -S \\")
        specs = [spec for option in table.options for spec in _zsh_option(option)]
        specs += ["'(- *)'{-h,--help}'[print the help]'", *map(_zsh_positional, table.positionals)]
        lines += [f"                {spec} \\" for spec in specs[:-1]]
        lines += [f"                {specs[-1]}", "            ;;"]
    return "\n".join([*lines, "    esac", "}", '_trapline "$@"'])


def _zsh_option(option: Option) -> Iterator[str]:
    help_ = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
    repeats = "*" if option.repeats or option.settings else ""
    value = ""
    if _takes_value(option):
        words = _words(option)
        if words:
            action = f"({' '.join(words)})"
        elif option.kind == Kind.FOLDER or option.key == "dir":
            action = "_files -/"
        else:
            action = "_files" if option.kind == Kind.FILE else " "
        value = f":{option.key}:{action}"
    for name in option.names:
        yield _quoted(f"{repeats}{name}[{help_}]{value}")


def _zsh_positional(one: Positional) -> str:
    if one.choices:
        return _quoted(f":{one.name}:({' '.join(one.choices)})")
    if one.rest:
        return _quoted(f"*::{one.name}:_files")
    return _quoted(f":{one.name}:_files -g {_zsh_glob()}")


def _zsh_glob() -> str:
    return f'"{_PROGRAMS}"'


def _quoted(text: str) -> str:
    """A word in single quotes, as every shell here reads it but for quotes inside."""
    return "'" + text.replace("'", "'\\''") + "'"


# ---- fish ----


def _fish(tables: list[Command]) -> str:
    lines = [
        "# fish completion of trapline: trapline completion fish > ~/.config/fish/completions/trapline.fish",
        *(
            f"complete -c trapline -n __fish_use_subcommand -a {name} -d {_fish_quoted(summary)}"
            for name, summary in COMMANDS.items()
        ),
        "complete -c trapline -n __fish_use_subcommand -l version -s V -d 'print the version'",
        "complete -c trapline -l help -s h -d 'print the help'",
    ]
    for table in tables:
        seen = f"complete -c trapline -n '__fish_seen_subcommand_from {table.name}'"
        for option in table.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            words = _words(option)
            value = " -x -a " + _fish_quoted(" ".join(words)) if words else " -r" if _takes_value(option) else ""
            lines.append(f"{seen} {names}{value} -d {_fish_quoted(option.help)}")
        lines += [f"{seen} -f -a {_fish_quoted(' '.join(one.choices))}" for one in table.positionals if one.choices]
    return "\n".join(lines)


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _run(parsed: Parsed) -> int:
    print(script(parsed.text("shell") or ""))
    return 0


COMMAND: Final = Command(
    "completion",
    "print the completion script of a shell",
    _run,
    positionals=(Positional("shell", "bash, zsh or fish", Kind.TEXT, choices=("bash", "zsh", "fish")),),
    description="Print the script with which a shell completes commands, options and settings of trapline.",
    examples=(
        ("source <(trapline completion bash)", "in ~/.bashrc"),
        ("trapline completion zsh > ~/.zfunc/_trapline", "with ~/.zfunc in fpath"),
        ("trapline completion fish > ~/.config/fish/completions/trapline.fish", "read by fish itself"),
    ),
)
