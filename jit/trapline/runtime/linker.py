"""Linkers: definitions by name that modules are instantiated with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from trapline.errors import LinkError, WasmTrap, WasmTrapCode
from trapline.runtime.caller import Caller
from trapline.runtime.engine import Engine, expected
from trapline.runtime.func import Func, annotated_type, exact_type
from trapline.runtime.instance import Instance, described
from trapline.runtime.module import Module
from trapline.runtime.store import Store
from trapline.wasm.types import FuncType, Import

__all__ = ["Linker"]

Function = TypeVar("Function", bound=Callable[..., Any])
System = TypeVar("System", bound=Mapping[str, Mapping[str, Callable[..., Any]]], covariant=True)


class WasiSource(Protocol[System]):
    """What a guest's system comes from: `WasiConfig`, or `Wasi` itself."""

    def as_wasi(self) -> System:
        """The system, a mapping of imports."""


class Linker:
    """Definitions by module and name, from which the imports of modules are taken.

    Python callables belong to no store: each store that they are used in gets a function of its own. Defining a name
    twice raises LinkError unless `allow_shadowing` is set.

    >>> import trapline
    >>> engine = trapline.Engine()
    >>> linker = trapline.Linker(engine)
    >>> @linker.func("env", "twice")
    ... def twice(x):
    ...     return 2 * x
    >>> module = trapline.Module(engine, trapline.parse_text('''
    ...     (module (import "env" "twice" (func $twice (param i32) (result i32)))
    ...             (func (export "run") (result i32) (call $twice (i32.const 21))))'''))
    >>> linker.instantiate(trapline.Store(engine), module).exports.run()
    42
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = Engine() if engine is None else expected("engine", engine, Engine)
        self.allow_shadowing = False
        self._items: dict[tuple[str, str], Any] = {}
        self._types: dict[tuple[str, str], FuncType] = {}
        self._unknown: Callable[[Import], Any] | None = None

    def define(self, module: str, name: str, item: Any) -> None:
        """Anything an import can be: see `Instance`. Raises LinkError when the name is taken."""
        if (module, name) in self._items and not self.allow_shadowing:
            raise LinkError(
                "defined twice", module=module, name=name, found=repr(self._items[module, name]), expected="nothing"
            )
        self._items[module, name] = item
        self._types.pop((module, name), None)

    def define_func(self, module: str, name: str, type: FuncType | None, function: Callable[..., Any]) -> None:
        """A Python callable; without a type it gets the one of each import it is linked to. Raises LinkError."""
        self.define(module, name, function)
        if type is not None:
            self._types[module, name] = type

    def func(
        self,
        module: str,
        name: str | None = None,
        type: FuncType | None = None,
    ) -> Callable[[Function], Function]:
        """`define_func` as a decorator; without a name the function's own."""

        def define(function: Function) -> Function:
            self.define_func(module, function.__name__ if name is None else name, type, function)
            return function

        return define

    def define_instance(self, name: str, exports: Instance | Mapping[str, Any]) -> None:
        """Everything an instance exports, under a module name. Raises LinkError."""
        items = exports.exports if isinstance(exports, Instance) else exports
        for item_name, item in items.items():
            self.define(name, item_name, item)

    def define_wasi(self, source: WasiSource[System]) -> System:
        """The functions of WASI preview 1, for one guest: of a `WasiConfig`, or of a `Wasi` made before.

        Returns the `Wasi`, which has what the guest writes. All instances from here share it. Raises LinkError,
        WasiError.

        >>> import trapline
        >>> wasi = trapline.Linker().define_wasi(trapline.WasiConfig())
        >>> len(wasi["wasi_snapshot_preview1"])
        46
        """
        system = source.as_wasi()
        for module, functions in system.items():
            for name, function in functions.items():
                self.define_func(module, name, _type_of(name, function), function)
        return system

    def define_unknown_imports_as_traps(self) -> None:
        """Functions that nothing defines trap when they are called."""
        self._unknown = _trapping

    def define_unknown_imports_as_default_values(self) -> None:
        """Functions that nothing defines do nothing and return zeros."""
        self._unknown = _returning_zeros

    def get(self, store: Store, module: str, name: str) -> Any:
        """What is defined under a name, as it is in the store. Raises LinkError."""
        if (module, name) not in self._items:
            raise LinkError("unknown import", module=module, name=name, found="nothing", expected="a definition")
        return self._in_store(store, (module, name))

    def _in_store(self, store: Store, key: tuple[str, str]) -> Any:
        type_, item = self._types.get(key), self._items[key]
        if type_ is None:
            return item
        made = store.linked(self)
        before, func = made.get(key, (None, None))
        if before != (type_, id(item)):  # a name can be defined anew; the function keeps what has the id
            func = Func(store, type_, item, name=f"{key[0]}.{key[1]}")
            made[key] = (type_, id(item)), func
        return func

    def instantiate(self, store: Store, module: Module) -> Instance:
        """An instance with its imports from here. Raises LinkError, WasmTrap; see `Instance`."""
        items = []
        for entry in expected("module", module, Module).decoded.imports:
            key = (entry.module, entry.name)
            if key in self._items:
                items.append(self._in_store(store, key))
            elif self._unknown is not None and isinstance(entry.type, FuncType):
                items.append(Func(store, entry.type, self._unknown(entry), name=f"{entry.module}.{entry.name}"))
            else:
                raise LinkError(
                    "unknown import",
                    module=entry.module,
                    name=entry.name,
                    found="nothing",
                    expected=described(entry.type),
                )
        return Instance(store, module, items)


_method_types: dict[Any, FuncType] = {}


def _type_of(name: str, function: Callable[..., Any]) -> FuncType:
    """The type that a function's annotations spell; looked at once for all bound methods of one function."""
    key = getattr(function, "__func__", function)
    found = _method_types.get(key)
    if found is None:
        found = _method_types[key] = exact_type(name, annotated_type(function)[1])
    return found


def _trapping(entry: Import) -> Callable[..., Any]:
    def trap(caller: Caller, *args: Any) -> None:
        what = f"{entry.module}.{entry.name} was called and is not defined"
        raise WasmTrap(WasmTrapCode.UNREACHABLE, caller.store.backtrace(), detail=what)

    return trap


def _returning_zeros(entry: Import) -> Callable[..., Any]:
    assert isinstance(entry.type, FuncType)
    zeros: tuple[Any, ...] = tuple(None if type_ in (0x70, 0x6F) else 0 for type_ in entry.type.results)
    result = None if not zeros else zeros[0] if len(zeros) == 1 else zeros
    return lambda *args: result
