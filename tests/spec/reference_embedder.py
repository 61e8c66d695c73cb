"""The reference interpreter as an engine for the official test scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.reference.binary import FunctionType, GlobalType, Limits, MemoryType, TableType
from tests.reference.interpreter import Interpreter
from tests.reference.store import Extern, Function, Global, HostFunction, Instance, Memory, Table
from tests.reference.traps import LinkError, Trap
from tests.spec.embedder import HostModule, LinkFailed, Refused, Trapped, TypedValue

__all__ = ["ReferenceEmbedder"]


@contextmanager
def in_the_words_of_scripts() -> Iterator[None]:
    try:
        yield
    except Trap as trap:
        raise Trapped(str(trap.kind)) from trap
    except LinkError as error:
        raise LinkFailed(str(error)) from error


class ReferenceEmbedder:
    """`interpreter` may be given hooks before a script runs."""

    validates = False

    def __init__(self) -> None:
        self.interpreter = Interpreter()

    def validate(self, content: bytes) -> None:
        raise Refused("the reference does not validate")

    def host_module(self, definition: HostModule) -> Mapping[str, Extern]:
        exports: dict[str, Extern] = {}
        for name, params in definition.functions.items():
            exports[name] = HostFunction(FunctionType(params, ()), lambda arguments: ())
        for name, value in definition.globals.items():
            exports[name] = Global(GlobalType(value.type, False), value.bits)
        for name, (minimum, maximum) in definition.tables.items():
            exports[name] = Table(TableType("funcref", Limits(minimum, maximum)))
        for name, (minimum, maximum) in definition.memories.items():
            exports[name] = Memory(MemoryType(Limits(minimum, maximum)))
        return exports

    def instantiate(self, content: bytes, imports: Mapping[tuple[str, str], Extern]) -> Mapping[str, Extern]:
        with in_the_words_of_scripts():
            instance: Instance = self.interpreter.instantiate(content, imports)
        return instance.exports

    def exports(self, instance: Mapping[str, Extern]) -> Mapping[str, Extern]:
        return instance

    def invoke(
        self, instance: Mapping[str, Extern], name: str, arguments: Sequence[TypedValue]
    ) -> list[TypedValue]:
        function = instance[name]
        assert isinstance(function, Function | HostFunction)
        with in_the_words_of_scripts():
            results = self.interpreter.invoke(function, [bits for _, bits in arguments])
        return list(map(TypedValue, function.type.results, results))

    def get_global(self, instance: Mapping[str, Extern], name: str) -> TypedValue:
        found = instance[name]
        assert isinstance(found, Global)
        return TypedValue(found.type.type, found.value)
