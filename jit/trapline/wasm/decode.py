"""Bytes to a Module: sections, index spaces, where each function body lies. Core specification 5.5.

Leaves bodies undecoded (`body.decode_body` does that), custom sections uninterpreted and everything unvalidated, except
that an index into the type section is resolved at once, since nothing that refers to it could be represented otherwise.
Raises DecodeError, ValidationError (unknown type) or UnsupportedError, with offset and section.
"""

from __future__ import annotations

from typing import Final

from trapline.errors import DecodeError, ModuleError, UnsupportedError, ValidationError
from trapline.wasm.code import check_value_type
from trapline.wasm.limits import DEFAULT_LIMITS, ImplementationLimits
from trapline.wasm.module import (
    SECTION_NAMES,
    Code,
    DataSegment,
    ElementSegment,
    Expression,
    Module,
    Section,
    SegmentMode,
)
from trapline.wasm.reader import read_byte, read_count, read_name, read_u32, read_unsigned, unexpected_end
from trapline.wasm.types import (
    FUNCREF,
    Export,
    ExternKind,
    ExternType,
    FuncType,
    GlobalType,
    Import,
    Limits,
    MemoryType,
    TableType,
    ValueType,
)

MAGIC: Final = b"\0asm"
VERSION: Final = b"\1\0\0\0"

# The rank of each section id in the order that 5.5.16 asks for; the data count section comes before the code section.
_RANKS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 7, 7: 8, 8: 9, 9: 10, 12: 11, 10: 12, 11: 13}

_PROPOSAL_FORMS: Final = frozenset({0x4E, 0x4F, 0x50, 0x5E, 0x5F, 0x5D, 0x4C, 0x4D})
"""Bytes that begin types of the GC proposal and those that build on it."""


def decode(data: bytes, limits: ImplementationLimits = DEFAULT_LIMITS) -> Module:
    """Finds the parts of a module.

    data: the bytes of the binary format. They are kept as `Module.bytecode`.
    Raises DecodeError, ValidationError or UnsupportedError.

    >>> decode(b"\\0asm\\1\\0\\0\\0").sections
    []
    """
    return _Decoder(bytes(data), limits).decode()


class _Decoder:
    """One run over a module. `_position` moves on through the section whose end is `_stop`."""

    def __init__(self, data: bytes, limits: ImplementationLimits) -> None:
        self._data = data
        self._limits = limits
        self._module = Module(data, limits)
        self._position = 0
        self._stop = len(data)
        self._defined_functions = 0

    def decode(self) -> Module:
        data = self._data
        total = len(data)
        if total > self._limits.module_bytes:
            raise UnsupportedError("module too large", offset=0, expected=f"at most {self._limits.module_bytes} bytes")
        if total < 4:
            raise DecodeError("unexpected end", offset=total, expected="the 4 bytes of the magic number")
        if data[:4] != MAGIC:
            raise DecodeError("magic header not detected", offset=0, expected=MAGIC.hex(), found=data[:4].hex())
        if total < 8:
            raise DecodeError("unexpected end", offset=total, expected="the 4 bytes of the version")
        if data[4:8] != VERSION:
            raise DecodeError("unknown binary version", offset=4, expected=VERSION.hex(), found=data[4:8].hex())
        self._position = 8
        last_rank = 0
        while self._position < total:
            start = self._position
            section_id = data[start]
            section_name = SECTION_NAMES[section_id] if section_id < len(SECTION_NAMES) else f"id {section_id}"
            try:
                self._stop = total
                if section_id == 13:
                    raise UnsupportedError("exceptions proposal: not supported", offset=start, found="a tag section")
                if section_id >= len(SECTION_NAMES):
                    raise DecodeError("malformed section id", offset=start, found=str(section_id))
                size, contents = read_u32(data, start + 1, total)
                if size > total - contents:
                    raise DecodeError(
                        "length out of bounds",
                        offset=start + 1,
                        expected=f"at most {total - contents} bytes",
                        found=str(size),
                    )
                self._position = contents
                self._stop = contents + size
                if section_id == 0:
                    section_name, self._position = read_name(data, contents, self._stop)
                    section = Section(0, section_name, start, self._position, self._stop)
                    self._position = self._stop
                else:
                    rank = _RANKS[section_id]
                    if rank <= last_rank:
                        raise DecodeError(
                            "unexpected content after last section",
                            offset=start,
                            expected="sections in order, each once",
                            found=f"the {section_name} section here",
                        )
                    last_rank = rank
                    section = Section(section_id, section_name, start, contents, self._stop)
                    self._decode_section(section_id)
                    if self._position != self._stop:
                        raise DecodeError(
                            "section size mismatch",
                            offset=self._position,
                            expected=f"the contents to end at byte {self._stop:#x}",
                            found=f"{self._stop - self._position} bytes more",
                        )
                self._module.sections.append(section)
            except ModuleError as error:
                if error.section is None:
                    error.section = section_name
                raise
        self._check_counts()
        return self._module

    def _check_counts(self) -> None:
        module = self._module
        if len(module.code) != self._defined_functions:
            raise DecodeError(
                "function and code section have inconsistent lengths",
                offset=module.code_start or len(self._data),
                section="code",
                expected=f"{self._defined_functions} bodies",
                found=str(len(module.code)),
            )
        if module.data_count is not None and module.data_count != len(module.data):
            raise DecodeError(
                "data count and data section have inconsistent lengths",
                offset=len(self._data),
                section="data",
                expected=f"{module.data_count} data segments",
                found=str(len(module.data)),
            )

    def _decode_section(self, section_id: int) -> None:
        limits = self._limits
        match section_id:
            case 1:
                for _ in range(self._count(limits.types, "types")):
                    self._module.types.append(self._function_type())
            case 2:
                for _ in range(self._count(limits.imports, "imports")):
                    self._module.imports.append(self._import())
            case 3:
                for _ in range(self._count(limits.functions - self._module.imported_functions, "functions")):
                    index, function_type = self._type_index()
                    self._module.function_type_indices.append(index)
                    self._module.function_types.append(function_type)
                    self._defined_functions += 1
            case 4:
                for _ in range(self._count(limits.tables - self._module.imported_tables, "tables")):
                    self._module.table_offsets.append(self._position)
                    self._module.tables.append(self._table_type())
            case 5:
                for _ in range(self._count_of_memories()):
                    self._module.memory_offsets.append(self._position)
                    self._module.memories.append(self._memory_type())
            case 6:
                for _ in range(self._count(limits.globals - self._module.imported_globals, "globals")):
                    self._module.globals.append(self._global_type())
                    self._module.global_inits.append(self._expression())
            case 7:
                for _ in range(self._count(limits.exports, "exports")):
                    self._module.exports.append(self._export())
            case 8:
                self._module.start_offset = self._position
                self._module.start = self._u32()
            case 9:
                for _ in range(self._count(limits.element_segments, "element segments")):
                    self._module.elements.append(self._element_segment())
            case 10:
                self._code()
            case 11:
                for _ in range(self._count(limits.data_segments, "data segments")):
                    self._module.data.append(self._data_segment())
            case _:
                self._module.data_count = self._u32()
                self._module.code_decoder().has_data_count = True

    # Parts of many sections

    def _byte(self, what: str) -> int:
        byte = read_byte(self._data, self._position, self._stop, what)
        self._position += 1
        return byte

    def _u32(self) -> int:
        value, self._position = read_u32(self._data, self._position, self._stop)
        return value

    def _name(self) -> str:
        name, self._position = read_name(self._data, self._position, self._stop)
        return name

    def _count(self, limit: int, what: str) -> int:
        count, self._position = read_count(self._data, self._position, self._stop, limit, what)
        return count

    def _count_of_memories(self) -> int:
        """How many memories the memory section defines; more than one in all is another proposal."""
        start = self._position
        count = self._u32()
        if len(self._module.memories) + count > self._limits.memories and count <= self._stop - self._position:
            raise UnsupportedError(
                "multi-memory proposal: not supported",
                offset=start,
                expected=f"at most {self._limits.memories} memory",
                found=str(len(self._module.memories) + count),
            )
        return count

    def _type_index(self) -> tuple[int, FuncType]:
        start = self._position
        index = self._u32()
        types = self._module.types
        if index >= len(types):
            raise ValidationError(
                f"unknown type {index}", offset=start, expected=f"one of {len(types)} types", found=str(index)
            )
        return index, types[index]

    def _value_type(self) -> ValueType:
        start = self._position
        return check_value_type(self._byte("a value type"), start)

    def _reference_type(self) -> ValueType:
        start = self._position
        return check_value_type(self._byte("a reference type"), start, reference=True)

    def _expression(self) -> Expression:
        """A constant expression with its end. Whether it is constant is for validation to say."""
        code = self._module.code_decoder().decode(self._position, self._stop)
        self._position = code.stop
        return Expression(tuple(code.opcodes), tuple(code.immediates), tuple(code.offsets))

    # Types, 5.3

    def _function_type(self) -> FuncType:
        start = self._position
        form = self._byte("a type")
        if form != 0x60:
            if form in _PROPOSAL_FORMS:
                raise UnsupportedError("GC proposal: not supported", offset=start, found=f"type form {form:#04x}")
            if form >= 0x80:
                raise DecodeError("integer representation too long", offset=start, expected="type form 0x60")
            raise DecodeError("malformed type form", offset=start, expected="0x60", found=f"{form:#04x}")
        params = self._value_types(self._limits.params, "params")
        return FuncType(params, self._value_types(self._limits.results, "results"))

    def _value_types(self, limit: int, what: str) -> tuple[ValueType, ...]:
        return tuple([self._value_type() for _ in range(self._count(limit, what))])

    def _limits_of(self, what: str) -> Limits:
        start = self._position
        flags = self._byte("limits")
        if flags > 1:
            if flags > 7:
                # 8 is of the custom page sizes proposal; the tests of the core specification call it malformed.
                raise DecodeError("malformed limits flags", offset=start, expected="0 or 1", found=f"{flags:#04x}")
            proposal = "memory64 proposal" if flags & 4 else "threads proposal"
            raise UnsupportedError(f"{proposal}: not supported", offset=start, found=f"limits flags {flags:#04x}")
        minimum, self._position = read_unsigned(self._data, self._position, self._stop, 64)
        if flags == 0:
            return Limits(minimum)
        maximum, self._position = read_unsigned(self._data, self._position, self._stop, 64)
        return Limits(minimum, maximum)

    def _table_type(self) -> TableType:
        start = self._position
        if start < self._stop and self._data[start] == 0x40:
            raise UnsupportedError(
                "function references proposal: not supported", offset=start, found="a table with an initialiser"
            )
        element = self._reference_type()
        return TableType(element, self._limits_of("table"))

    def _memory_type(self) -> MemoryType:
        return MemoryType(self._limits_of("memory"))

    def _global_type(self) -> GlobalType:
        value_type = self._value_type()
        start = self._position
        mutability = self._byte("a mutability")
        if mutability > 1:
            raise DecodeError("malformed mutability", offset=start, expected="0 or 1", found=f"{mutability:#04x}")
        return GlobalType(value_type, mutability == 1)

    # Imports and exports, 5.5.5 and 5.5.10

    def _import(self) -> Import:
        module = self._module
        start = self._position
        module_name = self._name()
        name = self._name()
        kind_offset = self._position
        kind = self._byte("an import kind")
        imported: ExternType
        type_index = -1
        match kind:
            case 0:
                type_index, imported = self._type_index()
                index = module.imported_functions
                module.imported_functions += 1
                module.function_type_indices.append(type_index)
                module.function_types.append(imported)
            case 1:
                module.table_offsets.append(self._position)
                imported = self._table_type()
                index = module.imported_tables
                module.imported_tables += 1
                module.tables.append(imported)
            case 2:
                module.memory_offsets.append(self._position)
                imported = self._memory_type()
                index = module.imported_memories
                module.imported_memories += 1
                module.memories.append(imported)
                if len(module.memories) > self._limits.memories:
                    raise UnsupportedError("multi-memory proposal: not supported", offset=start, found="another memory")
            case 3:
                imported = self._global_type()
                index = module.imported_globals
                module.imported_globals += 1
                module.globals.append(imported)
            case 4 if self._position < self._stop and self._data[self._position] == 0:
                raise UnsupportedError("exceptions proposal: not supported", offset=kind_offset, found="a tag")
            case 0x20:
                raise UnsupportedError("custom descriptors proposal: not supported", offset=kind_offset)
            case _:
                raise DecodeError("malformed import kind", offset=kind_offset, expected="0 to 3", found=f"{kind:#04x}")
        return Import(module_name, name, ExternKind(kind), imported, index, type_index, start)

    def _export(self) -> Export:
        start = self._position
        name = self._name()
        kind_offset = self._position
        kind = self._byte("an export kind")
        if kind == 4:
            raise UnsupportedError("exceptions proposal: not supported", offset=kind_offset, found="a tag")
        if kind > 4:
            raise DecodeError("malformed export kind", offset=kind_offset, expected="0 to 3", found=f"{kind:#04x}")
        return Export(name, ExternKind(kind), self._u32(), start)

    # Segments, 5.5.12 and 5.5.14

    def _element_segment(self) -> ElementSegment:
        """Bit 0 of the flags: not active; bit 1: a table index or declarative; bit 2: expressions, not indices."""
        start = self._position
        flags = self._u32()
        if flags > 7:
            raise DecodeError("malformed elements segment kind", offset=start, expected="0 to 7", found=str(flags))
        mode = SegmentMode.ACTIVE
        if flags & 1:
            mode = SegmentMode.DECLARATIVE if flags & 2 else SegmentMode.PASSIVE
        table_index = 0
        position: Expression | None = None
        if mode is SegmentMode.ACTIVE:
            if flags & 2:
                table_index = self._u32()
            position = self._expression()
        element: ValueType = FUNCREF
        if flags & 3:
            kind_offset = self._position
            if flags & 4:
                element = self._reference_type()
            elif self._byte("an element kind") != 0:
                raise DecodeError("malformed element kind", offset=kind_offset, expected="0x00")
        count = self._count(self._limits.element_segments, "elements of a segment")
        if flags & 4:
            expressions = tuple([self._expression() for _ in range(count)])
            return ElementSegment(mode, element, table_index, position, None, expressions, start)
        functions = tuple([self._u32() for _ in range(count)])
        return ElementSegment(mode, element, table_index, position, functions, None, start)

    def _data_segment(self) -> DataSegment:
        start = self._position
        flags = self._u32()
        if flags > 2:
            raise DecodeError("malformed data segment kind", offset=start, expected="0 to 2", found=str(flags))
        memory_index = self._u32() if flags == 2 else 0
        position = self._expression() if flags != 1 else None
        length_offset = self._position
        length = self._u32()
        if length > self._stop - self._position:
            raise DecodeError(
                "unexpected end of section or function",
                offset=length_offset,
                expected=f"at most {self._stop - self._position} bytes of data",
                found=str(length),
            )
        contents = self._position
        self._position += length
        mode = SegmentMode.PASSIVE if flags == 1 else SegmentMode.ACTIVE
        return DataSegment(mode, memory_index, position, contents, self._position, start)

    # Bodies, 5.5.13

    def _code(self) -> None:
        module = self._module
        data = self._data
        position = self._position
        stop = self._stop
        module.code_start = position
        count, position = read_u32(data, position, stop)
        limit = self._limits.function_bytes
        for _ in range(count):
            start = position
            size, position = read_u32(data, position, stop)
            if size > stop - position:
                raise unexpected_end(start, f"{size} bytes of a function")
            if size > limit:
                raise UnsupportedError("function too large", offset=start, expected=f"at most {limit} bytes")
            module.code.append(Code(position, position + size))
            position += size
        self._position = position
