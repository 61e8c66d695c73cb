"""Tables of references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trapline import native
from trapline.errors import MemoryAccessError
from trapline.runtime.engine import first_time
from trapline.runtime.values import from_bits, to_bits
from trapline.wasm.types import Limits, TableType

if TYPE_CHECKING:
    from trapline.runtime.store import Store

__all__ = ["Table"]


class Table(native.Table):
    """A table: elements are `Func` or None (funcref), or any Python objects (externref).

    ``Table(store, type, init)`` makes one. Indexing outside of it raises MemoryAccessError, an IndexError; an element
    of the wrong kind CallError.

    >>> import trapline
    >>> table = trapline.Table(trapline.Store(), trapline.TableType.of("externref", 2), "a")
    >>> table[1] = {"any": "object"}
    >>> list(table), table.grow(1), len(table)
    (['a', {'any': 'object'}], 2, 3)
    """

    __slots__ = ("element", "limit", "store")

    def __init__(self, store: Store, type_: TableType, init: object = None) -> None:
        first_time(self, "store")
        self.store = store
        self.element = type_.element
        self.limit = type_.limits.maximum
        """The maximum that its type declares, or None."""
        super().__init__(0, self.limit)
        store.keep(self)
        if type_.limits.minimum and self._grow(type_.limits.minimum, init) < 0:
            raise MemoryAccessError(f"found a table of {type_.limits.minimum} elements, more than fit")

    def _grow(self, delta: int, init: object) -> int:
        return super().grow(delta, to_bits(self.store, self.element, init, "table element"))

    @property
    def type(self) -> TableType:
        """Its type as an import would have to match it: its present size and its maximum."""
        return TableType(self.element, Limits(self.count, self.limit))

    def __len__(self) -> int:
        return self.count

    def _index(self, index: int) -> int:
        if not isinstance(index, int) or not 0 <= index < self.count:
            raise MemoryAccessError(f"found element {index!r} of a table, expected 0 .. {self.count - 1}")
        return index

    def __getitem__(self, index: int) -> Any:
        return from_bits(self.store, self.element, self.get_word(self._index(index)))

    def __setitem__(self, index: int, value: object) -> None:
        index = self._index(index)
        self.set_word(index, to_bits(self.store, self.element, value, f"element {index}"))

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while index < self.count:
            yield self[index]
            index += 1

    def grow(self, delta: int, init: object = None) -> int:
        """Add elements; returns how many there were. Raises MemoryAccessError where it may not grow so far."""
        if not isinstance(delta, int) or not 0 <= delta < 1 << 32:
            raise MemoryAccessError(f"found {delta!r} elements to grow by, expected 0 .. 2**32-1")
        before = self._grow(delta, init)
        if before < 0:
            raise MemoryAccessError(f"a table of {self.count} elements (maximum {self.limit}) cannot grow by {delta}")
        return before

    def __repr__(self) -> str:
        return f"<Table {self.type}>"
