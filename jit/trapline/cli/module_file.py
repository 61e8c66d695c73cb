"""Modules as files on the command line: binary, or text where the name ends in `.wat`."""

from __future__ import annotations

import argparse
from pathlib import Path

from trapline.errors import TraplineError
from trapline.wasm.decode import decode
from trapline.wasm.module import Module
from trapline.wasm.text import parse_text
from trapline.wasm.validate import validate

__all__ = ["add_level", "add_module", "find_function", "read_module"]


def add_module(parser: argparse.ArgumentParser) -> None:
    """Add the argument FILE."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a module: .wasm, or .wat with `pip install wasmtime`")


def add_level(parser: argparse.ArgumentParser) -> None:
    """Add the option --debug."""
    parser.add_argument(
        "--debug",
        choices=("full", "live"),
        default="full",
        help="keep every value of every state (full, the default), or only those that the code still needs (live)",
    )


def read_module(path: Path) -> Module:
    """The module of a file, valid outside its function bodies. Raises TraplineError, with the file's name."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TraplineError(f"{path}: {error.strerror}") from None
    try:
        if path.suffix == ".wat":
            content = parse_text(content)
        module = decode(content)
        validate(module)
    except TraplineError as error:
        raise TraplineError(f"{path}: {error}") from None
    return module


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
    near = [found for index in range(imported, count) if (found := module.function_name(index)) and name in found]
    hint = f"; there is {', '.join(near[:5])}" if near else ""
    raise TraplineError(f"function {wanted}: found no function of that name with a body{hint}")
