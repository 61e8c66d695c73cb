"""WebAssembly functions as Python callables, and Python callables as WebAssembly functions."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from trapline import native, tuning
from trapline.errors import CallError
from trapline.runtime.engine import expected, first_time, thunks, type_number
from trapline.runtime.fiber import Fiber, FiberState
from trapline.runtime.store import Store
from trapline.wasm.types import (
    EXTERNREF,
    F32,
    F64,
    FUNCREF,
    I32,
    I64,
    FuncType,
    ValueType,
    value_type_name,
    value_type_of,
)

if TYPE_CHECKING:
    from trapline.runtime.wasm_trap import TrapEvent

__all__ = ["Call", "Func", "annotated_type", "codes"]

_CODES: Final = {I32: b"i", I64: b"l", F32: b"f", F64: b"d", EXTERNREF: b"r", FUNCREF: b"R"}
MOST_VALUES: Final = 1000
"""Parameters or results of a function, as many as modules may have."""
_LOOSE: Final[dict[object, frozenset[ValueType]]] = {int: frozenset([I32, I64]), float: frozenset([F32, F64])}


def codes(types: tuple[ValueType, ...]) -> bytes:
    """Value types as the native core's type codes."""
    return b"".join([_CODES[type_] for type_ in types])


class Func(native.WasmFunction):
    """A WebAssembly function of a store: one that an instance exports, or a Python callable made into one.

    Calling it takes a Python value for each parameter and returns None, a value, or a tuple of them: i32 and i64 are
    ints (taken signed or unsigned, returned signed), f32 and f64 floats, externref any object (None is null), funcref a
    `Func` or None. Raises CallError for arguments that do not fit, WasmTrap when the program traps, and whatever a host
    function raises. Other Python threads run meanwhile; Ctrl-C ends it with KeyboardInterrupt.

    ``Func(store, type, callable)`` makes one from a Python callable: `type` is a `FuncType`, or None when the callable
    is annotated with `i32`, `i64`, `f32`, `f64`, `externref`, `funcref`, or with a tuple of them for several results. A
    callable whose first parameter is annotated `Caller` gets one in front of its arguments.

    >>> import trapline
    >>> from trapline import i32
    >>> def add(a: i32, b: i32) -> i32:
    ...     return i32(a + b)
    >>> trapline.Func(trapline.Store(), None, add)(40, 2)
    42
    """

    __slots__ = ("_host", "store", "type")

    def __init__(
        self,
        store: Store,
        type: FuncType | None,
        function: Callable[..., Any],
        *,
        name: str | None = None,
    ) -> None:
        first_time(self, "store")
        expected("store", store, Store)
        if type is not None:
            expected("type", type, FuncType)
        if not callable(function):
            raise CallError(f"found {function!r}, expected something to call")
        label = name or getattr(function, "__name__", None) or repr(function)
        wants_caller, annotated = annotated_type(function)
        if type is None:
            type = exact_type(label, annotated)
        if max(len(type.params), len(type.results)) > MOST_VALUES:
            raise CallError(f"{label}: found {type}, expected at most {MOST_VALUES} parameters and results")
        self._host = native.HostFunction(
            thunks.host(type),
            codes(type.params),
            codes(type.results),
            type_number(type),
            label,
            function,
            store,
            store.caller if wants_caller else None,
        )
        self._bind(store, type, self._host.record, label)
        store.know_function(self)

    @classmethod
    def of_record(cls, store: Store, type_: FuncType, record: int, name: str) -> Func:
        """The function of a record that an instance of the store owns."""
        self = cls.__new__(cls)
        self._bind(store, type_, record, name)
        return self

    def _bind(self, store: Store, type_: FuncType, record: int, name: str) -> None:
        config = store.engine.config
        self.store = store
        self.type = type_
        native.WasmFunction.__init__(
            self,
            thunks.entry(type_),
            record,
            codes(type_.params),
            codes(type_.results),
            name,
            store,
            store.on_event,
            store,
            tuning.PATHS[config.path],
            tuning.GIL_MODES[config.gil],
            config.stack_bytes,
            config.max_stack_bytes,
        )

    def call_words(self, *words: int) -> tuple[int, ...]:
        """The same call bit by bit: arguments and results as 64-bit words, i32 and f32 in the low half.

        Floats keep their very NaN; a funcref is the address of a record, an externref the store's number. Raises
        CallError, WasmTrap, and whatever a host function raises.
        """
        for number, (type_, word) in enumerate(zip(self.type.params, words, strict=False)):
            if type_ in (FUNCREF, EXTERNREF) and not self.store.is_reference(type_, word):
                raise CallError(f"{self.name}: argument {number}: found {word!r}, which stands for no reference")
        config = self.store.engine.config
        raw = native.WasmFunction(
            thunks.entry(self.type),
            self.record,
            b"l" * len(self.type.params),
            b"l" * len(self.type.results),
            self.name,
            self.store,
            self.store.on_event,
            self.store,
            tuning.PATHS[config.path],
            tuning.GIL_MODES[config.gil],
            config.stack_bytes,
            config.max_stack_bytes,
        )
        found = raw(*words)
        results = () if found is None else found if isinstance(found, tuple) else (found,)
        masks = [0xFFFF_FFFF if type_ in (I32, F32) else 0xFFFF_FFFF_FFFF_FFFF for type_ in self.type.results]
        return tuple([word & mask for word, mask in zip(results, masks, strict=True)])

    def fiber(self, *args: Any) -> Fiber:
        """The same call as a fiber that is ready to run. Raises CallError."""
        fiber: Fiber = super().fiber(*args)
        self.store.know_fiber(fiber)
        return fiber

    def start(self, *args: Any) -> Call:
        """The same call as an iterator over its traps, each of which may be mended; see `Call`. Raises CallError."""
        return Call(self, self.fiber(*args))

    def __repr__(self) -> str:
        return f"<Func {self.name} {self.type}>"


class Call:
    """A call that stops at each trap: iterate over it, mend and go on, then read `result`.

    A trap that is neither retried nor skipped is raised by the next iteration, as it would be by a plain call, and so
    is what a host function raises (StopIteration, which would pass for the end, as RuntimeError). That unwinds it.

    >>> import trapline
    >>> store = trapline.Store()
    >>> module = trapline.Module(store.engine, trapline.parse_text('''
    ...     (module (func (export "half") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0))))'''))
    >>> call = trapline.Instance(store, module).exports["half"].start(0)
    >>> for event in call:
    ...     print(event.reason.value)
    ...     event.skip(7)
    integer divide by zero
    >>> call.result
    7
    """

    __slots__ = ("_event", "fiber", "func")

    def __init__(self, func: Func, fiber: Fiber) -> None:
        self.func = func
        self.fiber = fiber
        self._event: TrapEvent | None = None

    def __iter__(self) -> Iterator[TrapEvent]:
        return self

    def __next__(self) -> TrapEvent:
        event, self._event = self._event, None
        try:
            if event is not None:
                event.finish()
            stopped = None if self._is_over else self.fiber.resume()
            if stopped is not None:
                self._event = self.func.store.trap_event(stopped)
        except BaseException as error:
            if self.fiber.state in (FiberState.READY, FiberState.SUSPENDED):
                self.fiber.unwind()
            if isinstance(error, StopIteration):
                raise RuntimeError(f"{self.func.name}: a host function raised StopIteration") from error
            raise
        if self._event is None:
            raise StopIteration
        return self._event

    @property
    def _is_over(self) -> bool:
        return self.fiber.state in (FiberState.FINISHED, FiberState.UNWOUND)

    @property
    def result(self) -> Any:
        """What the function returned. Raises FiberError before that."""
        return self.fiber.result


Annotated = tuple[list[object], object]


def annotated_type(function: Callable[..., Any]) -> tuple[bool, Annotated | None]:
    """Whether a callable wants a `Caller` first, and the annotations of its parameters and result if it has all."""
    if isinstance(function, FunctionType) and not function.__annotations__:
        return False, None
    try:
        hints = typing.get_type_hints(function if inspect.isroutine(function) else type(function).__call__)
        parameters = list(inspect.signature(function).parameters.values())
    except Exception:  # annotations that are text for readers are evaluated, and may raise anything
        return False, None
    found = [hints.get(parameter.name) for parameter in parameters]
    wants_caller = bool(found) and isinstance(found[0], type) and getattr(found[0], "is_wasm_caller", False) is True
    if wants_caller:
        del found[0], parameters[0]
    if "return" not in hints or None in found or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return wants_caller, None
    return wants_caller, (list(found), hints["return"])


def _results(annotation: object) -> list[object]:
    if annotation is type(None):
        return []
    if typing.get_origin(annotation) is tuple:
        return list(typing.get_args(annotation))
    return [annotation]


def exact_type(name: str, annotated: Annotated | None) -> FuncType:
    """The type that a callable's annotations spell. Raises CallError."""
    if annotated is None:
        raise CallError(f"{name}: found no type; expected a FuncType, or annotations of all parameters and the result")
    try:
        return FuncType.of(annotated[0], _results(annotated[1]))
    except TypeError as error:
        raise CallError(f"{name}: {error}; `int` and `float` do not say how wide they are") from None


def agrees(type_: FuncType, annotated: Annotated) -> str | None:
    """None if a callable annotated so can be a function of this type, else what does not fit, in words.

    `int` and `float` stand for either width, `object` and `Any` for anything.
    """
    for what, declared, found in (
        ("parameter", type_.params, annotated[0]),
        ("result", type_.results, _results(annotated[1])),
    ):
        if len(declared) != len(found):
            return f"{len(found)} {what}s annotated for {len(declared)}"
        for number, (value_type, annotation) in enumerate(zip(declared, found, strict=True)):
            if annotation in (object, Any) or value_type in _LOOSE.get(annotation, ()):
                continue
            try:
                if value_type_of(annotation) == value_type:
                    continue
            except TypeError:
                if annotation not in _LOOSE:
                    continue  # an annotation for Python's readers
            return f"{what} {number} annotated {annotation!r} for {value_type_name(value_type)}"
    return None
