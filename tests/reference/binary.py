"""The binary format of WebAssembly modules, from the specification's chapter "Binary format".

`decode` takes valid modules: what the format forbids raises MalformedError where it is noticed, but nothing here
validates. Function bodies stay bytes; `predecode` reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from tests.reference.numeric import Opcode

__all__ = [
    "Body",
    "ConstExpression",
    "Data",
    "Element",
    "Export",
    "FunctionType",
    "GlobalType",
    "Import",
    "Limits",
    "MalformedError",
    "MemoryType",
    "Module",
    "Reader",
    "TableType",
    "decode",
]

T = TypeVar("T")

# A later feature adds its types and, in predecode.py, its instructions.
VALUE_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x70: "funcref", 0x6F: "externref"}
EXTERNAL_KINDS = ("func", "table", "memory", "global")


class MalformedError(Exception):
    """The bytes are not a module, or use a feature that the reference does not have."""


class FunctionType(NamedTuple):
    params: tuple[str, ...]
    results: tuple[str, ...]


class Limits(NamedTuple):
    minimum: int
    maximum: int | None


class TableType(NamedTuple):
    element: str
    limits: Limits


class MemoryType(NamedTuple):
    limits: Limits  # in pages of 64 KiB


class GlobalType(NamedTuple):
    type: str
    mutable: bool


ConstExpression = tuple[tuple[Opcode, int | str], ...]  # (opcode, immediate), without the closing `end`


class Import(NamedTuple):
    module: str
    name: str
    kind: str  # one of EXTERNAL_KINDS
    type: FunctionType | TableType | MemoryType | GlobalType


@dataclass(frozen=True)
class Export:
    name: str
    kind: str
    index: int


class Element(NamedTuple):
    mode: str  # "active", "passive" or "declarative"
    type: str
    table: int
    offset: ConstExpression
    items: tuple[ConstExpression, ...]


class Data(NamedTuple):
    mode: str  # "active" or "passive"
    memory: int
    offset: ConstExpression
    content: bytes


class Body(NamedTuple):
    locals: tuple[str, ...]  # without the parameters
    start: int  # byte offset of the first opcode from the start of the module
    stop: int  # byte offset after the closing `end`


@dataclass
class Module:
    """A decoded module. The lists of functions, tables, memories and globals hold only what it defines itself."""

    content: bytes
    types: list[FunctionType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)  # type indices
    tables: list[tuple[TableType, ConstExpression]] = field(default_factory=list)
    memories: list[MemoryType] = field(default_factory=list)
    globals: list[tuple[GlobalType, ConstExpression]] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    start: int | None = None
    elements: list[Element] = field(default_factory=list)
    data: list[Data] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    customs: list[tuple[str, bytes]] = field(default_factory=list)
    # Whole index spaces, imports first.
    function_types: list[FunctionType] = field(default_factory=list)
    table_types: list[TableType] = field(default_factory=list)
    memory_types: list[MemoryType] = field(default_factory=list)
    global_types: list[GlobalType] = field(default_factory=list)

    @property
    def imported_functions(self) -> int:
        return len(self.function_types) - len(self.functions)


class Reader:
    """A position in the bytes of a module; positions count from its start."""

    def __init__(self, content: bytes, at: int = 0, stop: int | None = None) -> None:
        self.content = content
        self.at = at
        self.stop = len(content) if stop is None else stop

    def byte(self) -> int:
        if self.at >= self.stop:
            raise MalformedError(f"at {self.at:#x}: unexpected end")
        self.at += 1
        return self.content[self.at - 1]

    def bytes(self, count: int) -> bytes:
        start = self.at
        if count > self.stop - start:
            raise MalformedError(f"at {start:#x}: unexpected end")
        self.at = start + count
        return self.content[start : self.at]

    def unsigned(self, bits: int = 32) -> int:
        start, value, shift = self.at, 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if value >> bits or shift >= bits + 7:
            raise MalformedError(f"at {start:#x}: integer too large")
        return value

    def signed(self, bits: int) -> int:
        start, value, shift = self.at, 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if value >> (shift - 1):
            value -= 1 << shift
        if not -(1 << (bits - 1)) <= value < 1 << (bits - 1) or shift >= bits + 7:
            raise MalformedError(f"at {start:#x}: integer too large")
        return value

    def name(self) -> str:
        return self.bytes(self.unsigned()).decode("utf-8")

    def vector(self, item: Callable[[], T]) -> list[T]:
        return [item() for _ in range(self.unsigned())]

    def opcode(self) -> Opcode:
        byte = self.byte()
        # 0xFC is the only prefix so far; 0xFB, 0xFD and 0xFE belong to later features.
        return (byte, self.unsigned()) if 0xFB <= byte <= 0xFE else byte

    # Types

    def value_type(self) -> str:
        byte = self.byte()
        if byte not in VALUE_TYPES:
            raise MalformedError(f"at {self.at - 1:#x}: value type {byte:#04x}")
        return VALUE_TYPES[byte]

    def function_type(self) -> FunctionType:
        if self.byte() != 0x60:
            raise MalformedError(f"at {self.at - 1:#x}: not a function type")
        params = self.vector(self.value_type)
        return FunctionType(tuple(params), tuple(self.vector(self.value_type)))

    def limits(self) -> Limits:
        flag = self.byte()
        if flag > 1:
            raise MalformedError(f"at {self.at - 1:#x}: limits flag {flag:#04x}")
        minimum = self.unsigned()
        return Limits(minimum, self.unsigned() if flag else None)

    def table_type(self) -> TableType:
        element = self.value_type()
        return TableType(element, self.limits())

    def memory_type(self) -> MemoryType:
        return MemoryType(self.limits())

    def global_type(self) -> GlobalType:
        content = self.value_type()
        return GlobalType(content, bool(self.byte()))

    def block_type(self, types: list[FunctionType]) -> FunctionType:
        byte = self.content[self.at]
        if byte == 0x40:
            self.at += 1
            return FunctionType((), ())
        if byte in VALUE_TYPES:
            self.at += 1
            return FunctionType((), (VALUE_TYPES[byte],))
        return types[self.signed(33)]

    # Constant expressions

    def const_expression(self) -> ConstExpression:
        found: list[tuple[Opcode, int | str]] = []
        while (opcode := self.opcode()) != 0x0B:
            immediate: int | str = 0
            if opcode == 0x41:
                immediate = self.signed(32) & 0xFFFF_FFFF
            elif opcode == 0x42:
                immediate = self.signed(64) & 0xFFFF_FFFF_FFFF_FFFF
            elif opcode == 0x43:
                immediate = int.from_bytes(self.bytes(4), "little")
            elif opcode == 0x44:
                immediate = int.from_bytes(self.bytes(8), "little")
            elif opcode == 0xD0:
                immediate = self.value_type()
            elif opcode in (0x23, 0xD2):
                immediate = self.unsigned()
            elif opcode not in (0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E):  # add, sub, mul: the extended constants
                raise MalformedError(f"at {self.at - 1:#x}: opcode {opcode} in a constant expression")
            found.append((opcode, immediate))
        return tuple(found)

    # Entries of sections

    def import_(self, module: Module) -> Import:
        from_module, name, kind = self.name(), self.name(), self.byte()
        if kind == 0:
            function_type = module.types[self.unsigned()]
            module.function_types.append(function_type)
            return Import(from_module, name, "func", function_type)
        if kind == 1:
            module.table_types.append(self.table_type())
            return Import(from_module, name, "table", module.table_types[-1])
        if kind == 2:
            module.memory_types.append(self.memory_type())
            return Import(from_module, name, "memory", module.memory_types[-1])
        if kind == 3:
            module.global_types.append(self.global_type())
            return Import(from_module, name, "global", module.global_types[-1])
        raise MalformedError(f"at {self.at - 1:#x}: import kind {kind}")

    def export(self) -> Export:
        name = self.name()
        return Export(name, EXTERNAL_KINDS[self.byte()], self.unsigned())

    def table(self) -> tuple[TableType, ConstExpression]:
        table_type = self.table_type()
        return table_type, ((0xD0, table_type.element),)

    def global_(self) -> tuple[GlobalType, ConstExpression]:
        global_type = self.global_type()
        return global_type, self.const_expression()

    def element(self) -> Element:
        # Bit 0: not active. Bit 1: an explicit table if active, else declarative. Bit 2: expressions, not indices.
        flags = self.unsigned()
        if flags > 7:
            raise MalformedError(f"element segment with flags {flags}")
        active = not flags & 1
        table = self.unsigned() if active and flags & 2 else 0
        offset = self.const_expression() if active else ()
        element_type = "funcref"
        items: list[ConstExpression]
        if flags & 4:
            if flags & 3:
                element_type = self.value_type()
            items = self.vector(self.const_expression)
        else:
            if flags & 3 and self.byte() != 0:
                raise MalformedError(f"at {self.at - 1:#x}: element kind")
            items = self.vector(lambda: ((0xD2, self.unsigned()),))
        mode = "active" if active else "declarative" if flags & 2 else "passive"
        return Element(mode, element_type, table, offset, tuple(items))

    def data(self) -> Data:
        flags = self.unsigned()
        if flags > 2:
            raise MalformedError(f"data segment with flags {flags}")
        memory = self.unsigned() if flags == 2 else 0
        offset = self.const_expression() if flags != 1 else ()
        return Data("passive" if flags == 1 else "active", memory, offset, self.bytes(self.unsigned()))

    def body(self) -> Body:
        size = self.unsigned()
        stop = self.at + size
        declared: list[str] = []
        for _ in range(self.unsigned()):
            count = self.unsigned()
            declared += [self.value_type()] * count
        start, self.at = self.at, stop
        return Body(tuple(declared), start, stop)


def read_section(number: int, reader: Reader, module: Module) -> None:
    if number == 0:
        name = reader.name()
        module.customs.append((name, reader.bytes(reader.stop - reader.at)))
    elif number == 1:
        module.types = reader.vector(reader.function_type)
    elif number == 2:
        module.imports = reader.vector(lambda: reader.import_(module))
    elif number == 3:
        module.functions = reader.vector(reader.unsigned)
        module.function_types += [module.types[index] for index in module.functions]
    elif number == 4:
        module.tables = reader.vector(reader.table)
        module.table_types += [table_type for table_type, _ in module.tables]
    elif number == 5:
        module.memories = reader.vector(reader.memory_type)
        module.memory_types += module.memories
    elif number == 6:
        module.globals = reader.vector(reader.global_)
        module.global_types += [global_type for global_type, _ in module.globals]
    elif number == 7:
        module.exports = reader.vector(reader.export)
    elif number == 8:
        module.start = reader.unsigned()
    elif number == 9:
        module.elements = reader.vector(reader.element)
    elif number == 10:
        module.bodies = reader.vector(reader.body)
    elif number == 11:
        module.data = reader.vector(reader.data)
    elif number == 12:
        reader.unsigned()  # the count of data segments, for validation in one pass
    else:
        raise MalformedError(f"section {number}")
    if reader.at != reader.stop:
        raise MalformedError(f"section {number} ends at {reader.stop:#x}, its content at {reader.at:#x}")


def decode(content: bytes) -> Module:
    """Decodes a valid module. Raises MalformedError for what is no module or needs a feature that is not here."""
    if content[:8] != b"\0asm\1\0\0\0":
        raise MalformedError("no magic number and version 1")
    module = Module(content)
    reader = Reader(content, 8)
    while reader.at < len(content):
        number, size = reader.byte(), reader.unsigned()
        section = Reader(content, reader.at, reader.at + size)
        reader.bytes(size)
        read_section(number, section, module)
    return module
