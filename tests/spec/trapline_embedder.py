"""trapline as an engine for the official test scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.spec.embedder import HostModule, LinkFailed, Refused, Trapped, TypedValue
from trapline import (
    Config,
    Engine,
    Func,
    FuncType,
    Global,
    GlobalType,
    Instance,
    LinkError,
    Memory,
    Module,
    ModuleError,
    Store,
    Table,
    TableType,
    WasmTrap,
)
from trapline.wasm.types import value_type_name

__all__ = ["TraplineEmbedder"]


@contextmanager
def in_the_words_of_scripts() -> Iterator[None]:
    try:
        yield
    except WasmTrap as trap:
        raise Trapped(trap.reason.value) from trap
    except LinkError as error:
        raise LinkFailed(error.reason) from error
    except ModuleError as error:
        raise Refused(str(error)) from error


class TraplineEmbedder:
    """`config` as of an engine."""

    validates = True

    def __init__(self, config: Config | None = None) -> None:
        self.engine = Engine(config)
        self.store = Store(self.engine)

    def validate(self, content: bytes) -> None:
        with in_the_words_of_scripts():
            Module.validate(self.engine, content)

    def host_module(self, definition: HostModule) -> Mapping[str, Any]:
        exports: dict[str, Any] = {}
        for name, params in definition.functions.items():
            exports[name] = Func(self.store, FuncType.of(params), lambda *arguments: None, name=name)
        for name, value in definition.globals.items():
            type_ = GlobalType.of(value.type)
            exports[name] = made = Global(self.store, type_, None if "ref" in value.type else 0)
            made._block.set(0, self._word(value))
        for name, (minimum, maximum) in definition.tables.items():
            exports[name] = Table(self.store, TableType.of("funcref", minimum, maximum))
        for name, (minimum, maximum) in definition.memories.items():
            exports[name] = Memory(self.store, minimum, maximum)
        return exports

    def instantiate(self, content: bytes, imports: Mapping[tuple[str, str], Any]) -> Mapping[str, Any]:
        by_module: dict[str, dict[str, Any]] = {}
        for (module, name), item in imports.items():
            by_module.setdefault(module, {})[name] = item
        with in_the_words_of_scripts():
            instance = Instance(self.store, Module(self.engine, content), by_module)
        return instance.exports

    def exports(self, instance: Mapping[str, Any]) -> Mapping[str, Any]:
        return instance

    def invoke(self, instance: Mapping[str, Any], name: str, arguments: Sequence[TypedValue]) -> list[TypedValue]:
        func = instance[name]
        assert isinstance(func, Func)
        with in_the_words_of_scripts():
            results = func.call_words(*map(self._word, arguments))
        names = map(value_type_name, func.type.results)
        return list(map(self._value, names, results))

    def get_global(self, instance: Mapping[str, Any], name: str) -> TypedValue:
        found = instance[name]
        assert isinstance(found, Global)
        return self._value(value_type_name(found.type.value), found.word)

    # Externrefs of the scripts are numbers: here the Python int of that number.

    def _word(self, value: TypedValue) -> int:
        if value.type == "externref":
            return 0 if value.bits is None else self.store.external_word(("externref", value.bits))
        if value.type == "funcref":
            return self.store.function_word(value.bits, "argument")
        assert isinstance(value.bits, int)
        return value.bits

    def _value(self, type_: str, word: int) -> TypedValue:
        if type_ == "externref":
            found: Any = self.store.external_of(word)
            return TypedValue(type_, None if found is None else found[1])
        if type_ == "funcref":
            return TypedValue(type_, self.store.function_of(word))
        return TypedValue(type_, word & 0xFFFF_FFFF if type_ in ("i32", "f32") else word)
