"""Runs modules as native code, in an instance laid out by hand from the reference's instantiation.

This is what an engine will do, without its conveniences: one instance, imported functions carried out by the reference,
and machine code in place of the core's C functions and its way to the host, which hands each request to Python here.
"""

from __future__ import annotations

import bisect
import ctypes
import math
import mmap
import struct
from collections.abc import Callable
from typing import Any

from tests.reference.store import Function, HostFunction, Instance
from trapline import CHECK_ADDRESS, CodeImage, Event, Fiber, StopReason, TrapCode
from trapline.arch.x86_64.assembler import Assembler, Reg
from trapline.arch.x86_64.features import Features, host_features
from trapline.compile import instance as block
from trapline.compile.instance import InstanceLayout
from trapline.compile.libcalls import Helper
from trapline.compile.pipeline import Compiled, ModuleTypes, compile_function, to_ssa
from trapline.compile.x86_64.emit import TrapRow
from trapline.compile.x86_64.target import Target
from trapline.compile.x86_64.thunks import COMPILE, HOST_CALL, LAZY_BYTES, entry_thunk, host_thunk, lazy_thunks
from trapline.wasm.body import decode_body
from trapline.wasm.module import Module
from trapline.wasm.types import EXTERNREF, F32, FUNCREF, I32, FuncType
from trapline.wasm.validate import validate_body

PAGE = 65536
RESERVED = (6 << 30) + PAGE
TABLE_CAPACITY = 4096
STACK_BYTES = 1 << 20
FIRST_TYPE_NUMBER = 1000
"""Numbers of types are the process's, not the module's."""
WORDS = {
    "memory": "out of bounds memory access",
    "memory bounds": "out of bounds memory access",
    "table bounds": "out of bounds table access",
}
HOST_REQUEST = 100
"""In rax at a check event: the way to the host; below it, the number of a C function."""
UNDEFINED = "rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13".split()

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
MAP_NORESERVE = 0x4000


def _spoil(event: Event, names: list[str]) -> None:
    """What a call outside may do to registers."""
    for name in names:
        event.registers[name] = 0xDEAD_0000_0000_DEAD
    for number in range(16):
        event.registers[f"xmm{number}"] = 0xDEAD


class WasmTrap(Exception):
    """A trap, in the words of the official scripts."""


class _Placed:
    """A compiled function and where it lies in the image."""

    def __init__(self, offset: int, compiled: Compiled) -> None:
        self.offset = offset
        self.compiled = compiled
        self.emitted = compiled.emitted


class NativeInstance:
    """A module's functions as native code, over memory, tables and globals copied from an instance of the reference.

    `lazy` compiles each function when it is first called. `checked` code finds a memory that ends in ordinary bytes
    where the page after its last one would fault.
    """

    def __init__(
        self,
        module: Module,
        instance: Instance,
        full: bool,
        *,
        features: Features | None = None,
        checked: bool = False,
        lazy: bool = False,
    ) -> None:
        self._module = module
        self._reference = instance
        self._full = full
        self._externals: list[Any] = []
        self.layout = InstanceLayout(module)
        self.target = Target(self.layout, host_features() if features is None else features, checked)
        self.image = CodeImage(capacity_bytes=16 << 20)
        self.placed: dict[int, _Placed] = {}
        self._by_offset: list[tuple[int, int]] = []
        self._entries: dict[FuncType, int] = {}
        self._block = (ctypes.c_uint64 * (self.layout.block_bytes // 8 + 2))()
        self.block = (ctypes.addressof(self._block) + 15) & -16
        self._make_machine_code()
        self._make_memory()
        self._make_functions(lazy)
        self._make_tables()
        self._make_globals()

    def close(self) -> None:
        _libc.munmap(self.base, RESERVED)

    def write(self, offset: int, word: int) -> None:
        """A word of the instance block."""
        ctypes.c_uint64.from_address(self.block + offset).value = word

    def read(self, offset: int) -> int:
        return ctypes.c_uint64.from_address(self.block + offset).value

    # Laying out

    def _append(self, code: bytes) -> int:
        return self.image.base + self.image.append(code)

    def _check_code(self, number: int) -> int:
        """Machine code that stops with its number in rax."""
        a = Assembler()
        a.mov64_ri64(Reg.R11, CHECK_ADDRESS)
        a.mov32_ri(Reg.RAX, number)
        a.call_r(Reg.R11)
        a.ret()
        return self._append(a.finish())

    def _make_machine_code(self) -> None:
        self._helpers = (ctypes.c_uint64 * len(Helper))(*[self._check_code(helper) for helper in Helper])
        self.write(block.HELPERS, ctypes.addressof(self._helpers))
        self._host_stub = self._check_code(HOST_REQUEST)
        self.write(block.HOST_STUB, self._host_stub)

    def _make_memory(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        base = _libc.mmap(None, RESERVED, 0, flags, -1, 0)
        assert base not in (None, ctypes.c_void_p(-1).value), "no room for a memory"
        self.base: int = base
        self.pages = 0
        self._maximum = 65536
        self._memory = (ctypes.c_uint64 * 4)(base, 0, RESERVED, 65536)
        self.write(block.MEMORY_BASE, base)
        self.write(block.MEMORY, ctypes.addressof(self._memory))
        for memory in self._reference.memories[:1]:
            if self.target.checked:
                failed = _libc.mprotect(base, len(memory.data) + 64 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
                assert not failed, "mprotect"
            self.grow(len(memory.data) // PAGE)
            ctypes.memmove(self.base, bytes(memory.data), len(memory.data))
            self._maximum = min(memory.maximum if memory.maximum is not None else 65536, memory.cap_pages)

    def grow(self, pages: int) -> None:
        """The memory, by so many pages."""
        if pages:
            failed = _libc.mprotect(self.base + self.pages * PAGE, pages * PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
            assert not failed, "mprotect"
        self.pages += pages
        self._memory[1] = self.pages * PAGE

    def _type_number(self, type_: FuncType) -> int:
        return FIRST_TYPE_NUMBER + self._module.types.index(type_)

    def _make_functions(self, lazy: bool) -> None:
        module, layout = self._module, self.layout
        imported = module.imported_functions
        count = len(module.function_types)
        self._imports = (ctypes.c_uint64 * (4 * imported + 1))()
        self._host_blocks = []
        for index in range(imported):
            host_block = (ctypes.c_uint64 * 8)()
            host_block[block.HOST_STUB // 8] = self._host_stub
            host_block[block.OBJECT // 8] = index
            self._host_blocks.append(host_block)
            type_ = module.function_types[index]
            entry = self._append(host_thunk(type_).code)
            self._imports[4 * index : 4 * index + 4] = [
                entry, ctypes.addressof(host_block), self._type_number(type_), 0
            ]  # fmt: skip
            self.write(layout.imported_function(index), ctypes.addressof(self._imports) + block.RECORD_BYTES * index)
        own = range(imported, count)
        thunks = self._append(lazy_thunks(own).code) if lazy else 0
        for index in own:
            at = layout.own_function(index)
            entry = thunks + LAZY_BYTES * (index - imported) if lazy else self._compile(index)
            self.write(at + block.RECORD_ENTRY, entry)
            self.write(at + block.RECORD_BLOCK, self.block)
            self.write(at + block.RECORD_TYPE, self._type_number(module.function_types[index]))
            self.write(at + block.RECORD_INDEX, index)

    def _compile(self, index: int) -> int:
        body = decode_body(self._module, index - self._module.imported_functions)
        validate_body(self._module, body)
        func = to_ssa(index, body, body.type, ModuleTypes(self._module), self._full)
        compiled = compile_function(func, self._full, self.target)
        code = bytearray(compiled.emitted.code)
        for at, type_index in compiled.emitted.type_fixups:
            struct.pack_into("<I", code, at, self._type_number(self._module.types[type_index]))
        offset = self.image.append(bytes(code))
        self.placed[index] = _Placed(offset, compiled)
        self._by_offset.append((offset, index))
        return self.image.base + offset

    def _record(self, index: int) -> int:
        """The address of a function's record."""
        if index < self.layout.imported_functions:
            return self.read(self.layout.imported_function(index))
        return self.block + self.layout.own_function(index)

    def _to_word(self, value: Any, type_: int) -> int:
        if type_ == FUNCREF:
            if value is None:
                return 0
            return self._record(next(i for i, found in enumerate(self._reference.functions) if found is value))
        if type_ == EXTERNREF:
            if value is None:
                return 0
            self._externals.append(value)
            return len(self._externals)
        assert isinstance(value, int)
        return value

    def from_word(self, word: int, type_: int) -> Any:
        if type_ == FUNCREF:
            if not word:
                return None
            return next(found for i, found in enumerate(self._reference.functions) if self._record(i) == word)
        if type_ == EXTERNREF:
            return self._externals[word - 1] if word else None
        return word & 0xFFFF_FFFF if type_ in (I32, F32) else word

    def _make_tables(self) -> None:
        self._elements = []
        self._tables = []
        for index, (table, type_) in enumerate(zip(self._reference.tables, self._module.tables, strict=True)):
            cells = (ctypes.c_uint64 * TABLE_CAPACITY)()
            for at, item in enumerate(table.items):
                cells[at] = self._to_word(item, type_.element)
            self._elements.append(cells)
            self._tables.append((ctypes.c_uint64 * 4)(ctypes.addressof(cells), len(table.items), TABLE_CAPACITY, 0))
            self.write(self.layout.table(index), ctypes.addressof(self._tables[-1]))
        self.write(block.TABLES, self.block + self.layout.tables)

    def _make_globals(self) -> None:
        imported = self.layout.imported_globals
        self._cells = (ctypes.c_uint64 * (2 * imported + 2))()
        for index, (found, type_) in enumerate(zip(self._reference.globals, self._module.globals, strict=True)):
            word = self._to_word(found.value, type_.value)
            if index < imported:
                self._cells[2 * index] = word
                self.write(self.layout.imported_global(index), ctypes.addressof(self._cells) + 16 * index)
            else:
                self.write(self.layout.own_global(index), word)

    def set_table_count(self, index: int, count: int) -> None:
        """A table's elements are so many; new ones are null."""
        self._tables[index][1] = count

    # Calling

    def _entry(self, type_: FuncType) -> int:
        if type_ not in self._entries:
            self._entries[type_] = self._append(entry_thunk(type_).code)
        return self._entries[type_]

    def fiber(self, index: int, arguments: tuple[Any, ...]) -> tuple[Fiber, Any]:
        """A fiber about to call the function, and its words."""
        type_ = self._module.function_types[index]
        words = [self._to_word(value, kind) for value, kind in zip(arguments, type_.params, strict=True)]
        # Rubbish in the upper half of narrow arguments does no harm.
        words = [
            word | 0xDEAD_BEEF << 32 if kind in (I32, F32) else word
            for word, kind in zip(words, type_.params, strict=True)
        ]
        buffer = (ctypes.c_uint64 * max(len(words), len(type_.results), 1))(*words)
        given = (ctypes.addressof(buffer), self._record(index))
        return Fiber(self._entry(type_), given, signature="void(u64, u64)", stack_bytes=STACK_BYTES), buffer

    def call(
        self, index: int, arguments: tuple[Any, ...], on_trap: Callable[[Event], None] | None = None
    ) -> list[Any]:
        """Results as the reference's values. Raises WasmTrap, unless `on_trap` sees to it that the code can go on."""
        type_ = self._module.function_types[index]
        fiber, buffer = self.fiber(index, arguments)
        for event in fiber:
            if event.reason is StopReason.CHECK:
                self._requested(event)
            elif on_trap is not None:
                on_trap(event)
            else:
                raise WasmTrap(self._kind(event))
        out = []
        for position, kind in enumerate(type_.results):
            word = int(buffer[position])
            assert kind not in (I32, F32) or word < 1 << 32, "a narrow result with something above"
            out.append(self.from_word(word, kind))
        return out

    # Traps

    def row_of(self, event: Event) -> tuple[_Placed, TrapRow]:
        at = event.pc - self.image.base
        position = bisect.bisect(self._by_offset, (at, 1 << 60)) - 1
        assert position >= 0, f"a trap outside of compiled code: {event}"
        placed = self.placed[self._by_offset[position][1]]
        at -= placed.offset
        assert at < placed.emitted.data_start, f"a trap outside of compiled code: {event}"
        rows = [row for row in placed.emitted.traps if row.offset == at and row.kind != "call"]
        assert rows, f"a trap at {event}, which has no row"
        return placed, rows[-1]

    def _kind(self, event: Event) -> str:
        _, row = self.row_of(event)
        if event.trap is TrapCode.STACK_OVERFLOW:
            assert row.kind == "stack"
            return "call stack exhausted"
        registers = event.registers
        general = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
        if row.kind == "division":
            code = self.image.decode(event.pc).operands_text
            wide = code.startswith("r") and not code.endswith("d")
            divisor = registers[general[row.place]] & (0xFFFF_FFFF_FFFF_FFFF if wide else 0xFFFF_FFFF)
            return "integer overflow" if divisor else "integer divide by zero"
        if row.kind.startswith("truncation"):
            lane = "f64" if row.kind.endswith("64") else "f32"
            value = registers.lanes(f"xmm{row.place - 16}", lane)[0]
            return "invalid conversion to integer" if value != value else "integer overflow"
        return WORDS.get(row.kind, row.kind)

    # Requests of code

    def _requested(self, event: Event) -> None:
        registers = event.registers
        number = registers["rax"]
        if number == HOST_REQUEST:
            self._host(event)
            return
        assert registers["rsp"] % 16 == 8, "a C function finds the stack aligned"
        if number >= Helper.F32_CEIL:
            self._round(event, Helper(number))
            return
        assert registers["rdi"] == self.block, "a C function gets the instance block"
        operands = [registers[name] for name in ("rsi", "rdx", "rcx")]
        result = self._carry_out(Helper(number), operands, registers["r8"])
        _spoil(event, UNDEFINED[:3] + UNDEFINED[4:10])  # a C function keeps rbx, r12 and r13
        registers["rax"] = result

    def _host(self, event: Event) -> None:
        """A call of a host function, or a function to compile."""
        registers = event.registers
        words, kind, at = registers["rsi"], registers["rdi"], registers["r15"]

        def word(position: int) -> ctypes.c_uint64:
            return ctypes.c_uint64.from_address(words + 8 * position)

        if kind == COMPILE:
            assert at == self.block
            index = word(0).value
            entry = self._compile(index)
            self.write(self.layout.own_function(index) + block.RECORD_ENTRY, entry)
            word(0).value = entry
        else:
            assert kind == HOST_CALL
            index = ctypes.c_uint64.from_address(at + block.OBJECT).value
            function = self._reference.functions[index]
            assert isinstance(function, HostFunction)
            type_ = self._module.function_types[index]
            arguments = [self.from_word(word(k).value, kind) for k, kind in enumerate(type_.params)]
            results = function.call(arguments)
            for position, (value, kind) in enumerate(zip(results, type_.results, strict=True)):
                rubbish = 0xDEAD_BEEF << 32 if kind in (I32, F32) else 0
                word(position).value = self._to_word(value, kind) | rubbish
        _spoil(event, UNDEFINED)

    def _round(self, event: Event, helper: Helper) -> None:
        lane = "f32" if helper < Helper.F64_CEIL else "f64"
        bits = event.registers["xmm0"] & (0xFFFF_FFFF if lane == "f32" else 0xFFFF_FFFF_FFFF_FFFF)
        value = event.registers.lanes("xmm0", lane)[0]
        which = (helper - Helper.F32_CEIL) % 4
        if math.isfinite(value):
            rounded = math.copysign((math.ceil, math.floor, math.trunc, round)[which](value), value)
            bits = int.from_bytes(struct.pack("<f" if lane == "f32" else "<d", rounded), "little")
        _spoil(event, UNDEFINED[:3] + UNDEFINED[4:10])
        event.registers["xmm0"] = bits

    def _carry_out(self, helper: Helper, words: list[int], immediate: int) -> int:
        n = [word & 0xFFFF_FFFF for word in words]
        size = self.pages * PAGE
        if helper is Helper.MEMORY_GROW:
            before = self.pages
            if before + n[0] > self._maximum:
                return 0xFFFF_FFFF
            self.grow(n[0])
            return before
        if helper is Helper.MEMORY_INIT:
            data = self._reference.data[immediate]
            if n[1] + n[2] > len(data) or n[0] + n[2] > size:
                return 1
            ctypes.memmove(self.base + n[0], data[n[1] : n[1] + n[2]], n[2])
        elif helper is Helper.DATA_DROP:
            self._reference.data[immediate] = b""
        elif helper is Helper.MEMORY_COPY:
            if n[1] + n[2] > size or n[0] + n[2] > size:
                return 1
            ctypes.memmove(self.base + n[0], self.base + n[1], n[2])
        elif helper is Helper.MEMORY_FILL:
            if n[0] + n[2] > size:
                return 1
            ctypes.memset(self.base + n[0], n[1] & 0xFF, n[2])
        elif helper is Helper.ELEMENT_DROP:
            self._reference.elements[immediate] = []
        else:
            return self._table(helper, n, words, immediate)
        return 0

    def _table(self, helper: Helper, n: list[int], words: list[int], immediate: int) -> int:
        table, other = immediate & 0xFFFF_FFFF, immediate >> 32
        cells, descriptor = self._elements[table], self._tables[table]
        count = int(descriptor[1])
        if helper is Helper.TABLE_INIT:
            segment = self._reference.elements[other]
            if n[1] + n[2] > len(segment) or n[0] + n[2] > count:
                return 1
            kind = self._module.tables[table].element
            for at in range(n[2]):
                cells[n[0] + at] = self._to_word(segment[n[1] + at], kind)
        elif helper is Helper.TABLE_COPY:
            if n[1] + n[2] > int(self._tables[other][1]) or n[0] + n[2] > count:
                return 1
            moved = list(self._elements[other][n[1] : n[1] + n[2]])
            for at, element in enumerate(moved):
                cells[n[0] + at] = element
        elif helper is Helper.TABLE_GROW:
            reference = self._reference.tables[table]
            most = reference.cap if reference.maximum is None else min(reference.cap, reference.maximum)
            if count + n[1] > most:
                return 0xFFFF_FFFF
            assert count + n[1] <= TABLE_CAPACITY, "the test's tables are small"
            for at in range(count, count + n[1]):
                cells[at] = words[0]
            descriptor[1] = count + n[1]
            return count
        else:
            assert helper is Helper.TABLE_FILL
            if n[0] + n[2] > count:
                return 1
            for at in range(n[2]):
                cells[n[0] + at] = words[1]
        return 0


def shown(value: Any) -> Any:
    return ("function", value.index) if isinstance(value, Function) else value
