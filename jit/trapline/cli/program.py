"""Files that hold programs: binary modules, text, artifacts of `trapline compile`; and what else a file may be."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trapline.errors import TraplineError

if TYPE_CHECKING:
    from trapline.runtime.engine import Engine
    from trapline.runtime.module import Module

__all__ = ["ARTIFACT_SUFFIX", "bytecode", "contents", "is_artifact", "load", "to_binary"]

ARTIFACT_SUFFIX: Final = ".cwasm"
_ARTIFACT: Final = b"\0trapline artifact\n"
_MODULE: Final = b"\0asm\1\0\0\0"
_COMPONENT: Final = b"\0asm\x0d\0\1\0"
_ELF: Final = b"\x7fELF"
_TEXT_SUFFIXES: Final = (".wat", ".wast")
_NEAR: Final = (".wasm", ".wat", ARTIFACT_SUFFIX)


def contents(file: str) -> bytes:
    """The bytes of a file, of standard input for `-`. Raises TraplineError, with the file's name."""
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except FileNotFoundError:
        raise TraplineError(f"{file}: no such file{_near(file)}") from None
    except IsADirectoryError:
        raise TraplineError(f"{file}: found a directory, expected a module in it{_near(file)}") from None
    except (OSError, ValueError) as error:
        raise TraplineError(f"{file}: {getattr(error, 'strerror', None) or error}") from None


def _near(file: str) -> str:
    """A module that may have been meant: one in the directory, or of a name like it beside it."""
    from trapline.cli.options import nearest

    path = Path(file)
    try:
        if path.is_dir():
            found = sorted(one.name for one in path.iterdir() if one.suffix in _NEAR)
            return f", such as {path / found[0]}" if found else ""
        beside = {str(path.with_name(one.name)) for one in path.parent.iterdir() if one.suffix in _NEAR}
        if beside.intersection(completed := [file + suffix for suffix in _NEAR]):
            return f"; did you mean {next(one for one in completed if one in beside)}?"
        return nearest(file, sorted(beside))
    except OSError:
        return ""


def is_artifact(data: bytes) -> bool:
    """Whether it is what `trapline compile` writes."""
    return data.startswith(_ARTIFACT)


def bytecode(file: str, data: bytes) -> bytes:
    """The module that an artifact was made of; anything else as it is. Raises TraplineError, with the file's name."""
    if not is_artifact(data):
        return data
    from trapline.runtime import artifact
    from trapline.runtime.engine import Config

    try:
        return artifact.decode(data, Config(), False).bytecode
    except TraplineError as error:
        raise TraplineError(f"{file}: {error}") from None


def _is_text(file: str, data: bytes) -> bool:
    return Path(file).suffix in _TEXT_SUFFIXES or data.lstrip()[:1] == b"(" or data.lstrip()[:2] == b";;"


def to_binary(file: str, data: bytes) -> bytes:
    """The binary format of a module in either format. Raises TraplineError, with the file's name."""
    if data.startswith(_MODULE[:4]) and not data.startswith(_COMPONENT):
        return data
    if data.startswith(_COMPONENT):
        raise TraplineError(
            f"{file}: found a component, expected a core module: build for WASI preview 1 (wasm32-wasip1)"
        )
    if data.startswith(_ELF):
        raise TraplineError(f"{file}: found an ELF file, such as wasmtime's own .cwasm, expected a WebAssembly module")
    if _is_text(file, data):
        from trapline.wasm.text import parse_text

        try:
            return parse_text(data)
        except TraplineError as error:
            raise TraplineError(f"{file}: {error}") from None
    found = f"{data[:8]!r}" if data else "an empty file"
    raise TraplineError(
        f"{file}: found {found}, expected a WebAssembly module (\\0asm), its text, or what trapline compile wrote"
    )


def load(engine: Engine, file: str) -> Module:
    """A module from a file of any kind. Raises TraplineError, with the file's name."""
    from trapline.runtime.module import Module

    data = contents(file)
    try:
        if is_artifact(data):
            return Module.deserialize(engine, data)
        name = "stdin" if file == "-" else os.path.basename(file)
        binary = to_binary(file, data)
        return Module(engine, binary, name=name)
    except TraplineError as error:
        if str(error).startswith(f"{file}: "):
            raise
        raise TraplineError(f"{file}: {error}") from None
