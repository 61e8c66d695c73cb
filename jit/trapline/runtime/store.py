"""A store: everything that instances of it share, and where their traps arrive. Core specification 4.2.3."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline import native
from trapline.errors import CallError, WasmFrameInfo
from trapline.runtime.backtrace import activations, frames_of, infos
from trapline.runtime.caller import Caller
from trapline.runtime.engine import Engine, expected, first_time
from trapline.runtime.fiber import Fiber, FiberState
from trapline.runtime.references import Externals
from trapline.runtime.table import Table
from trapline.runtime.traceback import with_frames
from trapline.runtime.trap import Event, StopReason
from trapline.runtime.variable import Global
from trapline.runtime.wasm_trap import TrapEvent
from trapline.runtime.weak import Members
from trapline.wasm.types import EXTERNREF, ValueType

if TYPE_CHECKING:
    from trapline.runtime.func import Func
    from trapline.runtime.instance import Instance

__all__ = ["Store"]


class Store:
    """Owns instances, memories, tables, globals and functions, and keeps them until it is dropped itself.

    One thread at a time may run code of a store; stores are independent of each other. `data` is the user's own.

    >>> import trapline
    >>> trapline.Store().engine.config.debug
    'full'
    """

    __slots__ = (
        "__weakref__",
        "_externals",
        "_fibers",
        "_functions",
        "_instances",
        "_kept",
        "_linked",
        "_stops",
        "_trap_handler",
        "data",
        "engine",
    )

    def __init__(self, engine: Engine | None = None, data: Any = None) -> None:
        first_time(self, "engine")
        self.engine = Engine() if engine is None else expected("engine", engine, Engine)
        self.data = data
        self._externals = Externals()
        self._functions: dict[int, Func] = {}
        """Record -> the function, once Python has seen it; host functions always."""
        self._instances: dict[int, Instance] = {}
        """Block -> instance."""
        self._kept: list[Global | Table] = []
        self._fibers: Members[Fiber] = Members()
        """Those of calls that somebody else than the caller resumes."""
        self._linked: weakref.WeakKeyDictionary[object, dict[Any, Any]] = weakref.WeakKeyDictionary()
        self._stops = 0
        """How many traps are being looked at."""
        self._trap_handler: Callable[[TrapEvent], None] | None = None

    # ---- what it owns ----

    def keep(self, item: Global | Table) -> None:
        """Keeps what compiled code may hold an address of."""
        self._kept.append(item)

    def know_function(self, func: Func) -> None:
        """Keeps a function, so that its record leads back to it."""
        self._functions[func.record] = func

    def know_fiber(self, fiber: Fiber) -> None:
        """Keeps an eye on a call that may stand still."""
        self._fibers.add(fiber)

    def linked(self, linker: object) -> dict[Any, Any]:
        """What a linker has made for this store; here, since it refers to the store and must not outlive it."""
        return self._linked.setdefault(linker, {})

    def know_instance(self, instance: Instance) -> None:
        """Keeps an instance, so that its block leads back to it."""
        self._instances[instance.block.address] = instance

    def instance_at(self, block: int) -> Instance | None:
        """The instance with its block at an address."""
        return self._instances.get(block)

    def caller(self, instance: Instance | None) -> Caller:
        """What a host function gets that asks for its caller."""
        return Caller(self, instance)

    # ---- references ----

    def function_word(self, value: object, what: str) -> int:
        """A funcref as a word. Raises CallError."""
        if value is None:
            return 0
        store = getattr(value, "store", None)
        if not isinstance(value, native.WasmFunction) or store is None:
            raise CallError(f"{what}: found {value!r}, expected a Func or None (funcref)")
        if store is not self:
            raise CallError(f"{what}: found a function of another store, expected one of this store")
        return value.record

    def function_of(self, word: int) -> Func | None:
        """The function whose record is at an address; None for null."""
        if not word:
            return None
        found = self._functions.get(word)
        if found is None:
            block = native.read_word(word + 8)
            found = self._instances[block].func_of_record(word)
            self._functions[word] = found
        return found

    def is_reference(self, type_: ValueType, word: object) -> bool:
        """Whether a word is a reference that this store gave: null, the record of a function, an object's number."""
        if not isinstance(word, int):
            return False
        if type_ == EXTERNREF:
            return self._externals.knows(word)
        if not word or word in self._functions:
            return True
        return any(instance.owns_record(word) for instance in self._instances.values())

    def external_word(self, value: object) -> int:
        """An externref as a word."""
        return 0 if value is None else self._externals.number(value)

    def external_of(self, word: int) -> object:
        """The object of a word; None for null."""
        return self._externals.object(word)

    def to_word(self, value: object, code: str) -> int:
        """For the native core: a reference as a word, by type code."""
        return self.external_word(value) if code == "r" else self.function_word(value, "reference")

    def from_word(self, word: int, code: str) -> object:
        """For the native core: the reference that a word stands for, by type code."""
        return self.external_of(word) if code == "r" else self.function_of(word)

    def gc(self) -> int:
        """Forget Python objects that no externref in a global or table of the store stands for any more.

        Returns how many. Raises CallError while a call is under way in this thread, or stands at a trap: its frames
        may hold references.
        """
        if native.wasm_frames() or self._stops or any(fiber.state <= FiberState.SUSPENDED for fiber in self._fibers):
            raise CallError("Store.gc: found a call under way, expected none")
        live: set[int] = set()
        for item in self._kept:
            if isinstance(item, Table) and item.element == EXTERNREF:
                live.update(item.get_word(index) for index in range(item.count))
            elif isinstance(item, Global) and item.type.value == EXTERNREF:
                live.add(item.word)
        for instance in self._instances.values():
            live.update(instance.external_words())
        return self._externals.sweep(live)

    # ---- traps ----

    def set_trap_handler(self, handler: Callable[[TrapEvent], None] | None) -> None:
        """Have a function called at each trap of this store's code, before it becomes an exception.

        It gets a `TrapEvent`, and may mend what it likes and call the event's `retry` or `skip`; where it does neither,
        the trap is raised. An exception of the handler itself is raised in the trap's place. None takes it away.
        """
        if handler is not None and not callable(handler):
            raise CallError(f"set_trap_handler: found {handler!r}, expected a callable or None")
        self._trap_handler = handler

    def trap_event(self, event: Event) -> TrapEvent:
        """The trap that a stop of native code is; raises the exception that a host function raised."""
        if event.kind == StopReason.EXCEPTION:
            fiber = event.fiber
            error = fiber.exception
            assert error is not None
            raise with_frames(error, infos(frames_of(fiber)))
        return TrapEvent(self, event)

    def on_event(self, event: Event) -> None:
        """For the native core: a stop of a call that it does not deal with itself."""
        self._stops += 1
        try:
            trap = self.trap_event(event)
            if self._trap_handler is not None:
                self._trap_handler(trap)
            trap.finish()
        finally:
            self._stops -= 1

    def backtrace(self) -> list[WasmFrameInfo]:
        """The WebAssembly frames of this thread's calls, innermost first; those of other stores too."""
        return infos(activations())

