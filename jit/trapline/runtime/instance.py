"""Instances: a module with its imports in place, memory and tables filled, ready to be called.

Core specification 4.5.4 (instantiation); its order of steps is the order here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from trapline import native
from trapline.compile import instance as block_layout
from trapline.compile.fold import fold_binary
from trapline.errors import CallError, LinkError, WasmTrap, WasmTrapCode
from trapline.runtime.engine import expected, first_time, type_number
from trapline.runtime.func import Func, agrees, annotated_type
from trapline.runtime.memory import Memory
from trapline.runtime.module import Module
from trapline.runtime.store import Store
from trapline.runtime.table import Table
from trapline.runtime.values import shown
from trapline.runtime.variable import Global
from trapline.wasm.module import ElementSegment, Expression, SegmentMode
from trapline.wasm.types import (
    EXTERNREF,
    NUMBER_TYPES,
    ExternKind,
    ExternType,
    FuncType,
    GlobalType,
    Import,
    Limits,
    MemoryType,
    TableType,
)

if TYPE_CHECKING:
    from trapline.runtime.module_code import ModuleCode

__all__ = ["Exports", "Extern", "Imports", "Instance"]

Extern: TypeAlias = Func | Table | Memory | Global
Imports: TypeAlias = "Sequence[Any] | Mapping[str, Mapping[str, Any] | Instance]"

_SHOWN_EXPORTS: Final = 20


class Exports(Mapping[str, Extern]):
    """What an instance exports: by name, as `exports["run"]` or `exports.run`, in the order of the module."""

    __slots__ = ("_exports", "_instance")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._exports = instance.module.exports_by_name

    def __getitem__(self, name: str) -> Any:
        found = self._exports.get(name)
        if found is None:
            raise KeyError(self._missing(name))
        return self._instance.extern(found.kind, found.index)

    def __getattr__(self, name: str) -> Any:
        if name in Exports.__slots__:  # while `copy` makes one: looking them up would come back here
            raise AttributeError(name)
        found = self._exports.get(name)
        if found is None:
            raise AttributeError(self._missing(name))
        return self._instance.extern(found.kind, found.index)

    def _missing(self, name: object) -> str:
        some = ", ".join([repr(known) for known in itertools.islice(self._exports, _SHOWN_EXPORTS)]) or "nothing"
        more = len(self._exports) - _SHOWN_EXPORTS
        rest = f" and {more} more" if more > 0 else ""
        return f"{self._instance.module.name} exports no {name!r}; it exports {some}{rest}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._exports)

    def __len__(self) -> int:
        return len(self._exports)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._exports]

    def __repr__(self) -> str:
        return f"<Exports of {self._instance.module.name}: {', '.join(self._exports) or 'nothing'}>"


class Instance:
    """A module brought to life in a store: imports linked, memory and tables filled, the start function run.

    `imports` are the things that the module imports: a list in its order, or a mapping of module name to name to thing,
    where an instance may stand for its exports. A thing is a `Func`, `Memory`, `Table` or `Global` of the store, for a
    function also any Python callable (its type is the import's), for an immutable global also a value.

    Raises LinkError for an import that is missing or of another type, WasmTrap when a segment does not fit or the start
    function traps.

    >>> import trapline
    >>> store = trapline.Store()
    >>> module = trapline.Module(store.engine, trapline.parse_text('''
    ...     (module (import "env" "twice" (func $twice (param i32) (result i32)))
    ...             (func (export "run") (param i32) (result i32) (call $twice (local.get 0))))'''))
    >>> trapline.Instance(store, module, {"env": {"twice": lambda x: 2 * x}}).exports.run(21)
    42
    """

    __slots__ = (
        "__weakref__",
        "_code",
        "_kept",
        "_layout",
        "block",
        "exports",
        "functions",
        "globals",
        "memories",
        "module",
        "store",
        "tables",
    )

    def __init__(self, store: Store, module: Module, imports: Imports = ()) -> None:
        first_time(self, "store")
        self.store = expected("store", store, Store)
        self.module = expected("module", module, Module)
        decoded = module.decoded
        linked = [
            _checked_import(store, entry, found)
            for entry, found in zip(decoded.imports, _in_order(decoded.imports, imports), strict=True)
        ]
        memories = [item for item in linked if isinstance(item, Memory)]
        tables = [item for item in linked if isinstance(item, Table)]
        self.globals: Sequence[Global] = [item for item in linked if isinstance(item, Global)]
        imported = [item for item in linked if isinstance(item, Func)]
        for type_ in decoded.memories[decoded.imported_memories :]:
            memories.append(_new_memory(store, type_.limits))
        for table_type in decoded.tables[decoded.imported_tables :]:
            tables.append(Table(store, table_type))
        self.memories: Sequence[Memory] = tuple(memories)
        self.tables: Sequence[Table] = tuple(tables)
        code = module.code(checked=any(memory.checked for memory in self.memories))
        self._code: ModuleCode = code
        self._layout = code.layout
        self._kept: list[object] = list(self.memories)
        self.block = native.Block(code.layout.block_bytes)
        self.functions = _Functions(self, imported)
        self._lay_out(imported)
        store.know_instance(self)
        self._make_globals()
        self.exports = Exports(self)
        self._fill()
        if decoded.start is not None:
            self.functions[decoded.start]()

    # ---- the block ----

    def _lay_out(self, imported: Sequence[Func]) -> None:
        block, layout, decoded = self.block, self._layout, self.module.decoded
        memory = self.memories[0] if self.memories else None
        header = {
            block_layout.MEMORY_BASE: memory.address if memory is not None else 0,
            block_layout.MEMORY: memory.descriptor if memory is not None else 0,
            block_layout.HOST_STUB: native.HOST_STUB_ADDRESS,
            block_layout.HELPERS: native.HELPERS_ADDRESS,
            block_layout.OBJECT: id(self),
            block_layout.TABLES: block.address + layout.tables,
            block_layout.DATA: block.address + layout.data_segments,
            block_layout.ELEMENTS: block.address + layout.element_segments,
        }
        for offset, word in header.items():
            block.set(offset, word)
        for index, func in enumerate(imported):
            block.set(layout.imported_function(index), func.record)
        for index, table in enumerate(self.tables):
            block.set(layout.table(index), table.descriptor)
        for index in range(decoded.imported_globals):
            block.set(layout.imported_global(index), self.globals[index].cell)
        first = decoded.imported_functions
        for defined, type_ in enumerate(decoded.function_types[first:]):
            record = layout.own_function(first + defined)
            block.set(record + block_layout.RECORD_BLOCK, block.address)
            block.set(record + block_layout.RECORD_TYPE, type_number(type_))
            block.set(record + block_layout.RECORD_INDEX, first + defined)
        for defined, entry in enumerate(self._code.entries(self)):
            self.set_entry(defined, entry)

    def set_entry(self, defined: int, entry: int) -> None:
        """The code that a function which the module defines is entered by from now on."""
        self.block.set(self._layout.own_function(defined + self._layout.imported_functions), entry)

    def compile_function(self, index: int) -> int:
        """For the native core: a function is called for the first time; the address of its code."""
        entry = self._code.entry(index)
        self.set_entry(index - self._layout.imported_functions, entry)
        return entry

    # ---- contents ----

    def _make_globals(self) -> None:
        decoded = self.module.decoded
        first = decoded.imported_globals
        found = list(self.globals)
        self.globals = found
        for number, expression in enumerate(decoded.global_inits):
            type_ = decoded.globals[first + number]
            offset = self._layout.own_global(first + number)
            self.block.set(offset, self._constant(expression))
            found.append(Global.of_cell(self.store, type_, self.block, offset))
        self.globals = tuple(found)

    def extern(self, kind: ExternKind, index: int) -> Extern:
        """A function, table, memory or global by its index."""
        if kind is ExternKind.FUNCTION:
            func: Func = self.functions[index]
            return func
        if kind is ExternKind.TABLE:
            return self.tables[index]
        return self.memories[index] if kind is ExternKind.MEMORY else self.globals[index]

    def _fill(self) -> None:
        """Element segments, then data segments: passive ones kept for later, active ones written."""
        decoded = self.module.decoded
        references = [self._references(segment) for segment in decoded.elements]
        for index, (segment, words) in enumerate(zip(decoded.elements, references, strict=True)):
            if segment.mode is SegmentMode.PASSIVE and words:
                kept = native.Block(8 * len(words))
                memoryview(kept).cast("Q")[: len(words)] = memoryview(_packed(words)).cast("Q")
                self._kept.append(kept)
                self._set_segment(self._layout.element_segment(index), kept.address, len(words))
        base = native.buffer_address(decoded.bytecode)
        for index, data in enumerate(decoded.data):
            if data.mode is SegmentMode.PASSIVE:
                self._set_segment(self._layout.data_segment(index), base + data.start, data.stop - data.start)
        for segment, words in zip(decoded.elements, references, strict=True):
            if segment.mode is SegmentMode.ACTIVE:
                assert segment.position is not None
                self._write_elements(segment, self._constant(segment.position) & 0xFFFF_FFFF, words)
        for data in decoded.data:
            if data.mode is SegmentMode.ACTIVE:
                assert data.position is not None
                start = self._constant(data.position) & 0xFFFF_FFFF
                memory = self.memories[data.memory_index]
                size_bytes = data.stop - data.start
                if start + size_bytes > len(memory):
                    found = f"{size_bytes} bytes of data at {start:#x} do not fit into {len(memory)} bytes"
                    raise WasmTrap(WasmTrapCode.MEMORY_BOUNDS, (), address=start, detail=found)
                memory[start : start + size_bytes] = memoryview(decoded.bytecode)[data.start : data.stop]

    def _set_segment(self, offset: int, address: int, count: int) -> None:
        self.block.set(offset, address)
        self.block.set(offset + 8, count)

    def _write_elements(self, segment: ElementSegment, start: int, words: Sequence[int]) -> None:
        table = self.tables[segment.table_index]
        if start + len(words) > table.count:
            found = f"{len(words)} elements at {start} do not fit into a table of {table.count}"
            raise WasmTrap(WasmTrapCode.TABLE_BOUNDS, (), detail=found)
        for number, word in enumerate(words):
            table.set_word(start + number, word)

    def _references(self, segment: ElementSegment) -> list[int]:
        if segment.mode is SegmentMode.DECLARATIVE:
            return []
        if segment.functions is not None:
            return [self.record(index) for index in segment.functions]
        assert segment.expressions is not None
        return [self._constant(expression) for expression in segment.expressions]

    def _constant(self, expression: Expression) -> int:
        """The word that a constant expression gives. Core specification 3.3.10, with extended constants."""
        stack: list[int] = []
        for opcode, immediate in zip(expression.opcodes, expression.immediates, strict=True):
            if opcode in (0x41, 0x42, 0x43, 0x44):
                assert isinstance(immediate, int)
                stack.append(immediate & (0xFFFF_FFFF if opcode in (0x41, 0x43) else 0xFFFF_FFFF_FFFF_FFFF))
            elif opcode == 0x23:
                assert isinstance(immediate, int)
                stack.append(self.globals[immediate].word)
            elif opcode == 0xD0:
                stack.append(0)
            elif opcode == 0xD2:
                assert isinstance(immediate, int)
                stack.append(self.record(immediate))
            elif opcode != 0x0B:
                second, first = stack.pop(), stack.pop()
                result = fold_binary(opcode, first, second, False)
                assert result is not None, f"opcode {opcode:#x} in a constant expression that was validated"
                stack.append(result)
        return stack[-1]

    # ---- functions ----

    def record(self, index: int) -> int:
        """The address of a function's record; imports count in `index`."""
        layout = self._layout
        if index < layout.imported_functions:
            return self.block.get(layout.imported_function(index))
        return self.block.address + layout.own_function(index)

    def owns_record(self, word: int) -> bool:
        """Whether a word is the address of one of this instance's own records."""
        at = word - self.block.address - self._layout.own_functions
        own = len(self.module.decoded.code)
        return at % block_layout.RECORD_BYTES == 0 and 0 <= at < own * block_layout.RECORD_BYTES

    def func_of_record(self, record: int) -> Func:
        """The function of one of this instance's own records."""
        layout = self._layout
        own = (record - self.block.address - layout.own_functions) // block_layout.RECORD_BYTES
        index = layout.imported_functions + own
        decoded = self.module.decoded
        name = decoded.function_name(index) or f"func[{index}]"
        return Func.of_record(self.store, decoded.function_types[index], record, name)

    def external_words(self) -> Iterator[int]:
        """The externrefs in passive segments that may still be written into a table."""
        for index, segment in enumerate(self.module.decoded.elements):
            if segment.element == EXTERNREF:
                offset = self._layout.element_segment(index)
                address, count = self.block.get(offset), self.block.get(offset + 8)
                yield from (native.read_word(address + 8 * number) for number in range(count))

    def __repr__(self) -> str:
        return f"<Instance of {self.module.name}>"


class _Functions(Sequence[Func]):
    """The function index space of an instance; a function that the module defines is made when it is asked for."""

    __slots__ = ("_imported", "_instance")

    def __init__(self, instance: Instance, imported: Sequence[Func]) -> None:
        self._instance = instance
        self._imported = imported

    def __len__(self) -> int:
        return len(self._instance.module.decoded.function_types)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"found function {index} of {len(self)}")
        index %= len(self)
        if index < len(self._imported):
            return self._imported[index]
        return self._instance.store.function_of(self._instance.record(index))


def _packed(words: Sequence[int]) -> bytes:
    return b"".join([word.to_bytes(8, "little") for word in words])


def _new_memory(store: Store, limits: Limits) -> Memory:
    return Memory(store, limits.minimum, limits.maximum)


# ---- imports ----


def _in_order(declared: Sequence[Import], imports: Imports) -> list[Any]:
    """The things for each import in turn."""
    if isinstance(imports, Mapping):
        return [_looked_up(entry, imports) for entry in declared]
    found = list(imports)
    if len(found) != len(declared):
        first = declared[min(len(found), len(declared) - 1)] if declared else None
        module, name = (first.module, first.name) if first else ("", "")
        raise LinkError(
            "unknown import" if len(found) < len(declared) else "too many imports",
            module=module,
            name=name,
            found=f"{len(found)} imports",
            expected=str(len(declared)),
        )
    return found


def _looked_up(entry: Import, imports: Mapping[str, Any]) -> Any:
    try:
        found = imports[entry.module]
        return (found.exports if isinstance(found, Instance) else found)[entry.name]
    except (KeyError, TypeError):
        raise LinkError(
            "unknown import", module=entry.module, name=entry.name, found="nothing", expected=described(entry.type)
        ) from None


def described(type_: ExternType) -> str:
    """A type in words, with its kind."""
    return f"a function {type_}" if isinstance(type_, FuncType) else f"a {type_}"


def _checked_import(store: Store, entry: Import, found: Any) -> Extern:
    """What fits an import, made from a plain Python value where that will do. Raises LinkError."""
    wanted = entry.type

    def refuse(what: str) -> LinkError:
        return LinkError(
            "incompatible import type", module=entry.module, name=entry.name, found=what, expected=described(wanted)
        )

    if isinstance(wanted, FuncType) and not isinstance(found, Func) and callable(found):
        annotated = annotated_type(found)[1]
        misfit = None if annotated is None else agrees(wanted, annotated)
        if misfit is not None:
            raise refuse(f"a callable with {misfit}")
        found = Func(store, wanted, found, name=f"{entry.module}.{entry.name}")
    elif _is_constant(wanted) and isinstance(found, int | float):
        assert isinstance(wanted, GlobalType)
        try:
            found = Global(store, wanted, found)
        except CallError:
            raise refuse(shown(found)) from None
    if not isinstance(found, Func | Table | Memory | Global):
        raise refuse(shown(found))
    if found.store is not store:
        raise refuse(f"{found!r} of another store")
    if not _fits(wanted, found.type):
        raise refuse(described(found.type))
    return found


def _is_constant(wanted: ExternType) -> bool:
    return isinstance(wanted, GlobalType) and not wanted.mutable and wanted.value in NUMBER_TYPES


def _fits(wanted: ExternType, found: ExternType) -> bool:
    """Whether what is found may be imported as what is wanted. Core specification 3.4.8 (import subtyping)."""
    if isinstance(wanted, TableType) and isinstance(found, TableType):
        return wanted.element == found.element and _limits_fit(wanted.limits, found.limits)
    if isinstance(wanted, MemoryType) and isinstance(found, MemoryType):
        return _limits_fit(wanted.limits, found.limits)
    return wanted == found


def _limits_fit(wanted: Limits, found: Limits) -> bool:
    if found.minimum < wanted.minimum:
        return False
    return wanted.maximum is None or (found.maximum is not None and found.maximum <= wanted.maximum)
