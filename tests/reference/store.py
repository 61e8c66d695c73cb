"""What lives while modules run: functions, tables, memories, globals and instances.

Values are bits as in `numeric`; a null reference is None, a function reference the function itself, an external
reference any other Python object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.reference.binary import FunctionType, GlobalType, Limits, MemoryType, Module, TableType

__all__ = [
    "PAGE_BYTES",
    "Extern",
    "Frame",
    "Function",
    "Global",
    "HostFunction",
    "Instance",
    "Memory",
    "Table",
    "TypedValue",
    "Value",
    "zero",
]

PAGE_BYTES = 65536
Value = Any


class TypedValue(NamedTuple):
    type: str
    bits: Value


def zero(kind: str) -> Value:
    """The value that a local of this type starts with."""
    return None if kind.endswith("ref") else 0


class Function:
    """A function of an instance. `code` is made by the interpreter when the function is first called."""

    __slots__ = ("code", "defined_index", "index", "instance", "type")

    def __init__(self, function_type: FunctionType, instance: Instance, index: int, defined_index: int) -> None:
        self.type = function_type
        self.instance = instance
        self.index = index  # in the instance's function index space
        self.defined_index = defined_index  # the same without imports
        self.code: Any = None


class HostFunction:
    """A function of the embedder: it takes and returns a sequence of values as bits."""

    __slots__ = ("call", "type")

    def __init__(self, function_type: FunctionType, call: Callable[[Sequence[Value]], Sequence[Value]]) -> None:
        self.type = function_type
        self.call = call


class Memory:
    """A linear memory. `cap_pages` bounds it beside its own maximum: the specification lets any growth fail."""

    __slots__ = ("cap_pages", "data", "maximum")

    def __init__(self, memory_type: MemoryType, cap_pages: int = 65536) -> None:
        self.maximum = memory_type.limits.maximum
        self.cap_pages = cap_pages
        if memory_type.limits.minimum > cap_pages:
            raise MemoryError(f"a memory of {memory_type.limits.minimum} pages; the cap is {cap_pages}")
        self.data = bytearray(memory_type.limits.minimum * PAGE_BYTES)

    @property
    def pages(self) -> int:
        return len(self.data) // PAGE_BYTES

    @property
    def type(self) -> MemoryType:
        return MemoryType(Limits(self.pages, self.maximum))

    def grow(self, delta_pages: int) -> int:
        """The size before, in pages, or -1 where it may not grow so far."""
        before = self.pages
        most = self.cap_pages if self.maximum is None else min(self.cap_pages, self.maximum)
        if before + delta_pages > most:
            return -1
        self.data.extend(bytes(delta_pages * PAGE_BYTES))
        return before


class Table:
    __slots__ = ("cap", "element", "items", "maximum")

    def __init__(self, table_type: TableType, value: Value = None, cap: int = 0xFFFF_FFFF) -> None:
        self.element = table_type.element
        self.maximum = table_type.limits.maximum
        self.cap = cap
        if table_type.limits.minimum > cap:
            raise MemoryError(f"a table of {table_type.limits.minimum} elements; the cap is {cap}")
        self.items: list[Value] = [value] * table_type.limits.minimum

    @property
    def type(self) -> TableType:
        return TableType(self.element, Limits(len(self.items), self.maximum))

    def grow(self, delta: int, value: Value) -> int:
        """The size before, or -1 where it may not grow so far."""
        before = len(self.items)
        most = self.cap if self.maximum is None else min(self.cap, self.maximum)
        if before + delta > most:
            return -1
        self.items.extend([value] * delta)
        return before


class Global:
    __slots__ = ("type", "value")

    def __init__(self, global_type: GlobalType, value: Value) -> None:
        self.type = global_type
        self.value = value


Extern = Function | HostFunction | Memory | Table | Global


class Instance:
    """An instantiated module: whole index spaces, imports first; dropped segments are empty."""

    __slots__ = ("data", "elements", "exports", "functions", "globals", "memories", "module", "tables")

    def __init__(self, module: Module) -> None:
        self.module = module
        self.functions: list[Function | HostFunction] = []
        self.tables: list[Table] = []
        self.memories: list[Memory] = []
        self.globals: list[Global] = []
        self.elements: list[list[Value]] = []
        self.data: list[bytes] = []
        self.exports: dict[str, Extern] = {}


class Frame:
    """A function being executed.

    pc: index of the current opcode in `code`; kept up to date only when something looks: at a step, a trap, a call.
    arguments: those of the call that the frame is in, which no longer count as its operands; else empty.
    """

    __slots__ = ("activation", "arguments", "code", "function", "instance", "locals", "pc", "stack")

    def __init__(self, function: Function, values: list[Value], activation: int) -> None:
        self.function = function
        self.instance = function.instance
        self.code = function.code
        self.locals = values
        self.stack: list[Value] = []
        self.pc = 0
        self.arguments: list[Value] = []
        self.activation = activation
