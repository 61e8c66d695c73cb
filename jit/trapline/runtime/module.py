"""Compiled modules: the bytes, what they mean, and native code for them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from trapline.compile.instance import InstanceLayout
from trapline.compile.x86_64.target import Target
from trapline.errors import DecodeError, TextError
from trapline.runtime import artifact
from trapline.runtime.cache import Cache, default_folder
from trapline.runtime.engine import Config, Engine, expected, first_time
from trapline.runtime.module_code import ModuleCode
from trapline.runtime.weak import fork_lock
from trapline.wasm.decode import decode
from trapline.wasm.module import Module as WasmModule
from trapline.wasm.text import parse_text
from trapline.wasm.types import Export, ExternKind, ExternType
from trapline.wasm.validate import validate

__all__ = ["ExportType", "ImportType", "Module"]


class ImportType(NamedTuple):
    """An import as a module declares it."""

    module: str
    name: str
    type: ExternType


class ExportType(NamedTuple):
    """An export as a module declares it."""

    name: str
    type: ExternType


class Module:
    """A WebAssembly module, decoded and validated; its functions are compiled when they are first called.

    `wasm` is the binary format as bytes, or the text format as a string (for which the package wasmtime must be
    installed); `Module.from_file` reads either. Immutable, shared by any number of stores and threads.

    Raises DecodeError, ValidationError, UnsupportedError, all of them ModuleError, with the byte, section, function and
    opcode, what was found and what was expected.

    >>> import trapline
    >>> module = trapline.Module(trapline.Engine(), bytes.fromhex("0061736d01000000"))
    >>> module.imports, module.exports, module.bytecode() == bytes.fromhex("0061736d01000000")
    ([], [], True)
    """

    __slots__ = ("__weakref__", "_cache", "_codes", "_exports", "_lock", "_ready", "decoded", "engine", "name")

    def __init__(self, engine: Engine, wasm: bytes | bytearray | memoryview | str, *, name: str | None = None) -> None:
        self._load(engine, _binary(wasm), name)
        validate(self.decoded, bodies=True)

    def _load(self, engine: Engine, data: bytes, name: str | None) -> None:
        first_time(self, "engine")
        self.engine = expected("engine", engine, Engine)
        self.decoded: WasmModule = decode(data, engine.config.limits)
        self.name = name or self.decoded.names.module or "module"
        self._lock = fork_lock()
        self._exports: dict[str, Export] | None = None
        self._codes: dict[bool, ModuleCode] = {}
        self._ready: dict[bool, artifact.Functions] = {}
        cache = engine.config.cache
        self._cache = Cache(default_folder() if cache is True else cache) if cache else None

    @classmethod
    def from_file(cls, engine: Engine, path: str | os.PathLike[str]) -> Module:
        """A module from a file in the binary or the text format. Raises OSError, and what `Module` does."""
        data = Path(path).read_bytes()
        text = not data.startswith(b"\0") and Path(path).suffix in (".wat", ".wast")
        return cls(engine, _decoded(data) if text else data, name=Path(path).name)

    @classmethod
    def validate(cls, engine: Engine, wasm: bytes | bytearray | memoryview | str) -> None:
        """Decode and validate, no more. Raises what `Module` does."""
        validate(decode(_binary(wasm), engine.config.limits), bodies=True)

    def bytecode(self) -> bytes:
        """The module in the binary format, byte for byte as it was given."""
        return self.decoded.bytecode

    @property
    def imports(self) -> list[ImportType]:
        """What it imports, in order."""
        return [ImportType(entry.module, entry.name, entry.type) for entry in self.decoded.imports]

    @property
    def exports(self) -> list[ExportType]:
        """What it exports, in order."""
        spaces: dict[ExternKind, list[ExternType]] = {
            ExternKind.FUNCTION: list(self.decoded.function_types),
            ExternKind.TABLE: list(self.decoded.tables),
            ExternKind.MEMORY: list(self.decoded.memories),
            ExternKind.GLOBAL: list(self.decoded.globals),
        }
        return [ExportType(export.name, spaces[export.kind][export.index]) for export in self.decoded.exports]

    @property
    def exports_by_name(self) -> Mapping[str, Export]:
        """What it exports, by name, as indices."""
        if self._exports is None:
            self._exports = {export.name: export for export in self.decoded.exports}
        return self._exports

    def custom_sections(self, name: str) -> list[bytes]:
        """The contents of every custom section of a name."""
        return self.decoded.custom_sections(name)

    # ---- native code ----

    def code(self, *, checked: bool) -> ModuleCode:
        """The native code, for memories whose accesses must be checked or for others."""
        with self._lock:
            found = self._codes.get(checked)
            if found is None:
                config = self.engine.config
                target = Target(InstanceLayout(self.decoded), config.features, checked)
                ready = self._ready.get(checked)
                if ready is None and self._cache is not None:
                    ready = self._cache.load(self.decoded.bytecode, config, checked)
                found = ModuleCode(self.decoded, self.name, target, self.engine.full, ready)
                self._codes[checked] = found
                if self._cache is not None:
                    known = 0 if ready is None else len(ready)
                    weakref.finalize(self, _keep, self._cache, config, checked, found, known)
            return found

    def compile(self) -> None:
        """Compile every function now instead of at its first call."""
        code = self.code(checked=self.engine.config.memories == "checked")
        for index in range(self.decoded.imported_functions, len(self.decoded.function_types)):
            code.entry(index)

    def serialize(self) -> bytes:
        """The compiled module as bytes for `deserialize`: native code of every function, and the original bytes."""
        checked = self.engine.config.memories == "checked"
        code = self.code(checked=checked)
        functions = {defined: code.function_code(defined) for defined in range(len(self.decoded.code))}
        return artifact.encode(self.engine.config, checked, self.name, self.decoded.bytecode, functions)

    @classmethod
    def deserialize(cls, engine: Engine, data: bytes) -> Module:
        """A module from what `serialize` gave: without validating or compiling anything again.

        Where its code is of no use here (another version, machine or options) the original bytes are compiled instead.
        Raises DecodeError when the data is damaged. Only data that this program or one like it made may be given:
        native code is run as it is.
        """
        checked = engine.config.memories == "checked"
        found = artifact.decode(data, engine.config, checked)
        self = cls.__new__(cls)
        self._load(engine, found.bytecode, found.name)
        validate(self.decoded, bodies=found.functions is None)
        if found.functions is not None:
            if not all(0 <= defined < len(self.decoded.code) for defined in found.functions):
                raise DecodeError(
                    "damaged artifact", expected=f"{len(self.decoded.code)} functions", found=str(max(found.functions))
                )
            self._ready[checked] = found.functions
        return self

    @classmethod
    def deserialize_file(cls, engine: Engine, path: str | os.PathLike[str]) -> Module:
        """`deserialize` from a file. Raises OSError, DecodeError."""
        return cls.deserialize(engine, Path(path).read_bytes())

    def __repr__(self) -> str:
        return f"<Module {self.name}: {len(self.decoded.code)} functions, {len(self.decoded.bytecode)} bytes>"


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise TextError(f"malformed UTF-8 encoding at byte {error.start:#x} of the file") from None


def _keep(cache: Cache, config: Config, checked: bool, code: ModuleCode, known: int) -> None:
    """The module goes, or the process ends: what was compiled since it came from the cache joins it."""
    if len(code.ready) > known:
        cache.store(code.module.bytecode, code.name, config, checked, dict(code.ready))


def _binary(wasm: bytes | bytearray | memoryview | str) -> bytes:
    if isinstance(wasm, str):
        return parse_text(wasm)
    if not isinstance(wasm, bytes | bytearray | memoryview):
        raise DecodeError("not a module", expected="bytes, or text as a string", found=type(wasm).__name__)
    return bytes(wasm)

