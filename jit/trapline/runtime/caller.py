"""What a host function may know of the code that called it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from trapline.errors import WasmFrameInfo

if TYPE_CHECKING:
    from trapline.runtime.instance import Exports, Instance
    from trapline.runtime.memory import Memory
    from trapline.runtime.store import Store

__all__ = ["Caller"]


class Caller:
    """Who called a host function: asked for by annotating its first parameter so.

    >>> import trapline
    >>> from trapline import Caller, i32
    >>> def log(caller: Caller, text: i32, size: i32) -> None:
    ...     print(bytes(caller.memory[text : text + size]).decode())
    """

    is_wasm_caller: ClassVar = True
    __slots__ = ("_instance", "_memory", "store")

    def __init__(self, store: Store, instance: Instance | None) -> None:
        self.store = store
        self._instance = instance
        self._memory = instance.memories[0] if instance is not None and instance.memories else None

    @property
    def instance(self) -> Instance:
        """The instance whose code made the call. Raises LookupError where Python itself did."""
        if self._instance is None:
            raise LookupError("this host function was called from Python, not from an instance")
        return self._instance

    @property
    def exports(self) -> Exports:
        """What that instance exports."""
        return self.instance.exports

    @property
    def memory(self) -> Memory:
        """That instance's first memory, exported or not. Raises LookupError if it has none."""
        if self._memory is None:
            raise LookupError(f"{self.instance.module.name} has no memory")
        return self._memory

    def frames(self) -> list[WasmFrameInfo]:
        """The WebAssembly frames of this thread, innermost first."""
        return self.store.backtrace()
