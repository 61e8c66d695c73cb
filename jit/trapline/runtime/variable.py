"""Global variables. (`global` is a keyword of Python, so the file has the plain word.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline import native
from trapline.errors import CallError
from trapline.runtime.engine import first_time
from trapline.runtime.values import from_bits, to_bits
from trapline.wasm.types import GlobalType, value_type_name

if TYPE_CHECKING:
    from trapline.runtime.store import Store

__all__ = ["Global"]


class Global:
    """A global variable: `value` reads it, and writes it where it is mutable.

    ``Global(store, type, value)`` makes one.

    >>> import trapline
    >>> counter = trapline.Global(trapline.Store(), trapline.GlobalType.of("i64", mutable=True), 41)
    >>> counter.value += 1
    >>> counter.value
    42
    """

    __slots__ = ("_block", "_offset", "store", "type")

    def __init__(self, store: Store, type: GlobalType, value: Any) -> None:
        first_time(self, "store")
        block = native.Block(16)
        self._bind(store, type, block, 0)
        block.set(0, to_bits(store, type.value, value, "global"))

    @classmethod
    def of_cell(cls, store: Store, type_: GlobalType, block: native.Block, offset: int) -> Global:
        """The global whose cell lies in a block, at an offset in bytes."""
        self = cls.__new__(cls)
        self._bind(store, type_, block, offset)
        return self

    def _bind(self, store: Store, type_: GlobalType, block: native.Block, offset: int) -> None:
        self.store = store
        self.type = type_
        self._block = block
        self._offset = offset
        store.keep(self)

    @property
    def cell(self) -> int:
        """The address of its 16 bytes."""
        return self._block.address + self._offset

    @property
    def word(self) -> int:
        """Its value as compiled code keeps it."""
        return self._block.get(self._offset)

    @property
    def value(self) -> Any:
        """The value now. Assigning raises CallError for one that does not fit, or where the global is immutable."""
        return from_bits(self.store, self.type.value, self.word)

    @value.setter
    def value(self, value: Any) -> None:
        if not self.type.mutable:
            what = value_type_name(self.type.value)
            raise CallError(f"found an immutable global {what} to set, expected a mutable one")
        self._block.set(self._offset, to_bits(self.store, self.type.value, value, "global"))

    def __repr__(self) -> str:
        return f"<Global {self.type}: {self.value!r}>"
