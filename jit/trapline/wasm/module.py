"""A decoded module: its sections and index spaces, with the bytes it came from. Core specification 2.5 and 5.5."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from trapline.wasm.code import CodeDecoder
from trapline.wasm.limits import ImplementationLimits
from trapline.wasm.names import EMPTY_NAMES, Names, decode_names
from trapline.wasm.types import Export, ExternKind, FuncType, GlobalType, Import, MemoryType, TableType, ValueType

SECTION_NAMES: Final = (
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data count",
)
"""By section id. Core specification 5.5.2."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section in place: its bytes are [start, stop), its contents (behind a custom name) [contents, stop).

    `name` is that of a custom section (id 0), for the others the one in `SECTION_NAMES`.
    """

    id: int
    name: str
    start: int
    contents: int
    stop: int


@dataclass(frozen=True, slots=True)
class Expression:
    """A constant expression, its `end` included: parallel tuples as in `body.Body`."""

    opcodes: tuple[int, ...]
    immediates: tuple[object, ...]
    offsets: tuple[int, ...]


class SegmentMode(enum.Enum):
    """When a segment is used."""

    ACTIVE = "active"
    PASSIVE = "passive"
    DECLARATIVE = "declarative"


@dataclass(frozen=True, slots=True)
class ElementSegment:
    """References for tables. Exactly one of `functions` (indices) and `expressions` is not None.

    `table_index` and `position` (where in the table) are of active segments; `offset` is the segment's first byte.
    """

    mode: SegmentMode
    element: ValueType
    table_index: int
    position: Expression | None
    functions: tuple[int, ...] | None
    expressions: tuple[Expression, ...] | None
    offset: int

    def __len__(self) -> int:
        if self.functions is not None:
            return len(self.functions)
        return len(self.expressions) if self.expressions is not None else 0


@dataclass(frozen=True, slots=True)
class DataSegment:
    """Bytes [start, stop) of the module, for memory `memory_index` from `position` on where the segment is active."""

    mode: SegmentMode
    memory_index: int
    position: Expression | None
    start: int
    stop: int
    offset: int


@dataclass(frozen=True, slots=True)
class Code:
    """Where a function body (local declarations and code, without its size field) lies: bytes [start, stop)."""

    start: int
    stop: int


class Module:
    """A module as decoded; `validate` says whether it is valid.

    The lists named after a kind of import hold whole index spaces, imports first; `function_type_indices` and
    `function_types` run parallel. `code` and `global_inits` hold what the module itself defines.
    """

    __slots__ = (
        "_code_decoder",
        "_linked_names",
        "_names",
        "bytecode",
        "code",
        "code_start",
        "data",
        "data_count",
        "declared_functions",
        "elements",
        "exports",
        "function_type_indices",
        "function_types",
        "global_inits",
        "globals",
        "imported_functions",
        "imported_globals",
        "imported_memories",
        "imported_tables",
        "imports",
        "limits",
        "memories",
        "memory_offsets",
        "sections",
        "start",
        "start_offset",
        "table_offsets",
        "tables",
        "types",
        "validated",
    )

    def __init__(self, bytecode: bytes, limits: ImplementationLimits) -> None:
        self.bytecode = bytecode
        self.limits = limits
        self.sections: list[Section] = []
        self.types: list[FuncType] = []
        self.imports: list[Import] = []
        self.function_type_indices: list[int] = []
        self.function_types: list[FuncType] = []
        self.tables: list[TableType] = []
        self.memories: list[MemoryType] = []
        self.globals: list[GlobalType] = []
        self.imported_functions = 0
        self.imported_tables = 0
        self.imported_memories = 0
        self.imported_globals = 0
        self.global_inits: list[Expression] = []
        self.exports: list[Export] = []
        self.start: int | None = None
        self.start_offset = 0
        self.elements: list[ElementSegment] = []
        self.data_count: int | None = None
        self.code: list[Code] = []
        self.code_start = 0
        """The byte behind the size field of the code section: offsets in DWARF count from here."""
        self.data: list[DataSegment] = []
        self.table_offsets: list[int] = []
        """Byte of each table's type, for errors."""
        self.memory_offsets: list[int] = []
        self.declared_functions: set[int] | None = None
        """Functions that `ref.func` in a body may name; `validate` finds them. Core specification 3.1.1, C.refs."""
        self.validated = False
        """Whether `validate` has passed everything outside bodies."""
        self._names: Names | None = None
        self._linked_names: dict[int, str] | None = None
        self._code_decoder: CodeDecoder | None = None

    @property
    def names(self) -> Names:
        """What the name section says; empty where there is none."""
        if self._names is None:
            self._names = EMPTY_NAMES
            for section in self.sections:
                if section.id == 0 and section.name == "name":
                    self._names = decode_names(self.bytecode, section.contents, section.stop)
                    break
        return self._names

    def function_name(self, index: int) -> str | None:
        """The name of a function (imports counted) from the name section, else its export, else its import."""
        name = self.names.functions.get(index)
        if name is not None:
            return name
        if self._linked_names is None:
            names: dict[int, str] = {}
            for export in self.exports:
                if export.kind == ExternKind.FUNCTION:
                    names.setdefault(export.index, export.name)
            for imported in self.imports:
                if imported.kind == ExternKind.FUNCTION:
                    names.setdefault(imported.index, f"{imported.module}.{imported.name}")
            self._linked_names = names
        return self._linked_names.get(index)

    def code_decoder(self) -> CodeDecoder:
        """What decodes code of this module, once its types are known."""
        if self._code_decoder is None:
            self._code_decoder = CodeDecoder(self.bytecode, self.types, self.limits.br_table_labels)
        return self._code_decoder

    def custom_sections(self, name: str) -> list[bytes]:
        """The contents of every custom section of this name, in order."""
        return [
            self.bytecode[section.contents : section.stop]
            for section in self.sections
            if section.id == 0 and section.name == name
        ]

    def section_at(self, offset: int) -> Section | None:
        """The section that holds a byte of the module."""
        for section in self.sections:
            if section.start <= offset < section.stop:
                return section
        return None

    def data_bytes(self, index: int) -> bytes:
        """The bytes of a data segment."""
        segment = self.data[index]
        return self.bytecode[segment.start : segment.stop]

    def code_offset(self, offset: int) -> int:
        """An offset in the module as one in the code section, as DWARF counts them."""
        return offset - self.code_start

    def module_offset(self, code_offset: int) -> int:
        """The reverse of `code_offset`."""
        return code_offset + self.code_start

    def function_at(self, offset: int) -> int | None:
        """The index (imports counted) of the function whose body holds a byte of the module."""
        low = 0
        high = len(self.code)
        while low < high:
            middle = (low + high) // 2
            code = self.code[middle]
            if offset < code.start:
                high = middle
            elif offset >= code.stop:
                low = middle + 1
            else:
                return self.imported_functions + middle
        return None
