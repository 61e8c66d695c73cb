"""Modules as files on the command line, for the commands that look at them; and the options that those share."""

from __future__ import annotations

from typing import Final

from trapline.cli import program
from trapline.cli.level import LEVEL
from trapline.cli.options import Kind, Option, Parsed, Positional, nearest
from trapline.errors import TraplineError
from trapline.wasm.decode import decode
from trapline.wasm.module import Module
from trapline.wasm.validate import validate

__all__ = ["DEBUG", "FILE", "FUNCTION", "find_function", "is_full", "read_module", "shown_name"]

DEBUG: Final = Option(
    ("-D", "--debug"),
    "full keeps every value of every state (the default), live those that the code still needs",
    metavar="full|live",
    settings=(LEVEL,),
)
FILE: Final = Positional(
    "file", "a module (.wasm), its text (.wat, with the package wasmtime), or what trapline compile wrote"
)
FUNCTION: Final = Option(
    ("-f", "--function"), "only this function (default: every one)", Kind.TEXT, metavar="NAME|INDEX"
)


def is_full(parsed: Parsed) -> bool:
    """Whether every state keeps its values."""
    return parsed.text("level") != "live"


def read_module(file: str) -> Module:
    """The module of a file, valid outside its function bodies. Raises TraplineError, with the file's name."""
    data = program.to_binary(file, program.bytecode(file, program.contents(file)))
    try:
        module = decode(data)
        validate(module)
    except TraplineError as error:
        raise TraplineError(f"{file}: {error}") from None
    return module


def shown_name(module: Module, index: int) -> str:
    """A function with its index and, where it has one, its name."""
    from trapline.debug.demangle import demangle

    name = module.function_name(index)
    return f"function {index}" if name is None else f"function {index} ({demangle(name)})"


def find_function(module: Module, wanted: str) -> int:
    """The index of a function that the module defines, by its name or its index. Raises TraplineError."""
    imported = module.imported_functions
    count = imported + len(module.code)
    if wanted.isdecimal():
        index = int(wanted)
        if imported <= index < count:
            return index
        defined = f"one from {imported} to {count - 1}" if module.code else "a module that defines functions"
        raise TraplineError(f"function {index}: found no body under that index, expected {defined}")
    name = wanted.removeprefix("$")
    for index in range(imported, count):
        if module.function_name(index) == name:
            return index
    for export in module.exports:
        if export.kind == 0 and export.name == name and export.index >= imported:
            return export.index
    names = [found for index in range(imported, count) if (found := module.function_name(index))]
    near = [found for found in names if name in found]
    hint = f"; there is {', '.join(near[:5])}" if near else nearest(name, names)
    raise TraplineError(f"function {wanted}: found no function of that name with a body{hint}")
