"""Runs generated modules as native code, in an instance laid out by hand from the reference's instantiation.

This is what an engine will do, without its conveniences: every function compiled at once, one instance, library calls
carried out here on the native memory.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Any

from tests.compile.ssa import Lowered
from tests.reference.store import Function, Instance
from trapline import CHECK_ADDRESS, CodeImage, Event, Fiber, StopReason, TrapCode
from trapline.arch.x86_64.assembler import Assembler, Reg
from trapline.compile.pipeline import compile_function
from trapline.compile.x86_64 import layout
from trapline.compile.x86_64.emit import Emitted, TrapRow
from trapline.wasm.module import Module
from trapline.wasm.types import EXTERNREF, FUNCREF, FuncType

PAGE = 65536
RESERVED = (6 << 30) + PAGE
TABLE_CAPACITY = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
MAP_NORESERVE = 0x4000


class WasmTrap(Exception):
    """A trap, in the words of the official scripts."""


class NativeInstance:
    """A module's functions as native code, over memory, tables and globals copied from an instance of the reference."""

    def __init__(self, module: Module, instance: Instance, full: bool) -> None:
        self._module = module
        self._reference = instance
        self._full = full
        self._requests: list[Any] = []
        self._externals: list[Any] = []
        self.image = CodeImage(capacity_bytes=16 << 20)
        self._block = ctypes.create_string_buffer(layout.INSTANCE_BYTES)
        self.block = ctypes.addressof(self._block)
        self._make_memory()
        self._make_functions()
        self._make_tables()
        self._make_globals()
        words = {
            layout.MEMORY_BASE: self.base,
            layout.MEMORY_BYTES: self.pages * PAGE,
            layout.CHECK_STUB: CHECK_ADDRESS,
            layout.GLOBALS: ctypes.addressof(self._global_list),
            layout.FUNCTIONS: ctypes.addressof(self._function_list),
            layout.TABLES: ctypes.addressof(self._tables),
        }
        for offset, word in words.items():
            struct.pack_into("<Q", self._block, offset, word)

    def close(self) -> None:
        _libc.munmap(self.base, RESERVED)

    # Laying out

    def _make_memory(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        base = _libc.mmap(None, RESERVED, 0, flags, -1, 0)
        assert base not in (None, ctypes.c_void_p(-1).value), "no room for a memory"
        self.base: int = base
        self.pages = 0
        self._maximum = 65536
        for memory in self._reference.memories[:1]:
            self._grow(len(memory.data) // PAGE)
            ctypes.memmove(self.base, bytes(memory.data), len(memory.data))
            self._maximum = min(memory.maximum if memory.maximum is not None else 65536, memory.cap_pages)

    def _grow(self, pages: int) -> None:
        if pages:
            failed = _libc.mprotect(self.base + self.pages * PAGE, pages * PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
            assert not failed, "mprotect"
        self.pages += pages
        struct.pack_into("<Q", self._block, layout.MEMORY_BYTES, self.pages * PAGE)

    def _type_number(self, type_: FuncType) -> int:
        return self._module.types.index(type_)

    def _make_functions(self) -> None:
        module = self._module
        count = len(module.function_types)
        self._records = (ctypes.c_uint64 * (4 * count))()
        self._function_list = (ctypes.c_uint64 * count)()
        self.emitted: dict[int, tuple[int, Emitted, Lowered]] = {}
        numbers = [self._type_number(type_) for type_ in module.types]
        for index in range(count):
            self._function_list[index] = ctypes.addressof(self._records) + layout.RECORD_BYTES * index
            assert index >= module.imported_functions, "generated modules import nothing"
            lowered = Lowered(module, index - module.imported_functions, self._full)
            emitted = compile_function(
                lowered.func,
                self._full,
                imported=module.imported_functions,
                type_numbers=numbers,
                requests=self._requests,
            ).emitted
            offset = self.image.append(emitted.code)
            self.emitted[index] = (offset, emitted, lowered)
            record = [self.image.base + offset, self.block, self._type_number(module.function_types[index]), index]
            self._records[4 * index : 4 * index + 4] = record

    def _to_word(self, value: Any, type_: int) -> int:
        if type_ == FUNCREF:
            return 0 if value is None else int(self._function_list[value.index])
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
            return self._reference.functions[(word - ctypes.addressof(self._records)) // layout.RECORD_BYTES]
        if type_ == EXTERNREF:
            return self._externals[word - 1] if word else None
        return word

    def _make_tables(self) -> None:
        self._elements = []
        self._tables = (ctypes.c_uint64 * (2 * len(self._reference.tables) + 2))()
        for position, (table, type_) in enumerate(zip(self._reference.tables, self._module.tables, strict=True)):
            cells = (ctypes.c_uint64 * TABLE_CAPACITY)()
            for at, item in enumerate(table.items):
                cells[at] = self._to_word(item, type_.element)
            self._elements.append(cells)
            self._tables[2 * position] = ctypes.addressof(cells)
            self._tables[2 * position + 1] = len(table.items)

    def _make_globals(self) -> None:
        count = len(self._module.globals)
        self._cells = (ctypes.c_uint64 * (2 * count + 2))()
        self._global_list = (ctypes.c_uint64 * (count + 1))()
        for index, (found, type_) in enumerate(zip(self._reference.globals, self._module.globals, strict=True)):
            self._cells[2 * index] = self._to_word(found.value, type_.value)
            self._global_list[index] = ctypes.addressof(self._cells) + 16 * index

    # Calling

    def _entry(self, type_: FuncType) -> int:
        """C function (instance, arguments, entry): calls compiled code with arguments from memory."""
        a = Assembler()
        wanted = layout.places(list(type_.params), layout.STACK_WORD)
        words = max([place - layout.STACK_WORD + 1 for place in wanted if place >= layout.STACK_WORD], default=0)
        a.push_r(Reg.RBP)
        a.mov64_rr(Reg.RBP, Reg.RSP)
        a.sub64_ri(Reg.RSP, (8 * words + 15) // 16 * 16)
        a.mov64_rr(Reg.R15, Reg.RDI)
        a.mov64_rm(Reg.R14, Reg.R15, layout.MEMORY_BASE)
        a.mov64_rr(Reg.R11, Reg.RDX)
        a.mov64_rr(Reg.R13, Reg.RSI)
        for position, place in enumerate(wanted):
            if place >= layout.STACK_WORD:
                a.mov64_rm(Reg.R12, Reg.R13, 8 * position)
                a.mov64_mr(Reg.RSP, 8 * (place - layout.STACK_WORD), Reg.R12)
            elif place >= 16:
                a.movsd_rm(place - 16, Reg.R13, 8 * position)
            else:
                a.mov64_rm(place, Reg.R13, 8 * position)
        a.call_r(Reg.R11)
        a.leave()
        # Results of registers go behind those that are in the buffer already.
        for position, place in enumerate(layout.places(list(type_.results), layout.RESULT_WORD)):
            if place >= layout.RESULT_WORD:
                continue
            at = layout.BUFFER + 8 * (512 + position)
            if place >= 16:
                a.movsd_mr(Reg.R15, at, place - 16)
            else:
                a.mov64_mr(Reg.R15, at, place)
        a.ret()
        return self.image.base + self.image.append(a.finish())

    def call(self, index: int, arguments: tuple[Any, ...]) -> list[Any]:
        """Results as the reference's values. Raises WasmTrap."""
        type_ = self._module.function_types[index]
        words = [self._to_word(value, kind) for value, kind in zip(arguments, type_.params, strict=True)]
        buffer = (ctypes.c_uint64 * (len(words) + 1))(*words)
        entry = self._entry(type_)
        given = (self.block, ctypes.addressof(buffer), self._records[4 * index])
        fiber = Fiber(entry, given, signature="void(u64, u64, u64)")
        for event in fiber:
            if event.reason is StopReason.CHECK:
                self._library(event)
            else:
                raise WasmTrap(self._kind(event))
        out = []
        places = layout.places(list(type_.results), layout.RESULT_WORD)
        for position, (kind, place) in enumerate(zip(type_.results, places, strict=True)):
            in_buffer = place >= layout.RESULT_WORD
            at = place - layout.RESULT_WORD if in_buffer else 512 + position
            (word,) = struct.unpack_from("<Q", self._block, layout.BUFFER + 8 * at)
            if kind in (0x7F, 0x7D):
                word &= 0xFFFF_FFFF
            out.append(self.from_word(word, kind))
        return out

    # Traps

    def row_of(self, event: Event) -> tuple[Lowered, TrapRow]:
        for offset, emitted, lowered in self.emitted.values():
            start = event.pc - self.image.base - offset
            if 0 <= start < len(emitted.code):
                rows = [row for row in emitted.traps if row.offset == start]
                assert rows, f"a trap at {event}, which has no row"
                return lowered, rows[-1]
        raise AssertionError(f"a trap outside of compiled code: {event}")

    def _kind(self, event: Event) -> str:
        if event.trap is TrapCode.STACK_OVERFLOW:
            return "call stack exhausted"
        _, row = self.row_of(event)
        registers = event.registers
        general = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
        if row.kind == "memory":
            return "out of bounds memory access"
        if row.kind == "division":
            code = self.image.decode(event.pc).operands_text
            wide = code.startswith("r") and not code.endswith("d")
            divisor = registers[general[row.place]] & (0xFFFF_FFFF_FFFF_FFFF if wide else 0xFFFF_FFFF)
            return "integer overflow" if divisor else "integer divide by zero"
        if row.kind.startswith("truncation"):
            lane = "f64" if row.kind.endswith("64") else "f32"
            value = registers.lanes(f"xmm{row.place - 16}", lane)[0]
            return "invalid conversion to integer" if value != value else "integer overflow"
        return row.kind

    # Library calls

    def _library(self, event: Event) -> None:
        (number,) = struct.unpack_from("<Q", self._block, layout.REQUEST)
        code, imm = self._requests[number]
        words = struct.unpack_from("<4Q", self._block, layout.BUFFER)
        result = self._carry_out(code, imm, [word & 0xFFFF_FFFF for word in words], words)
        struct.pack_into("<Q", self._block, layout.BUFFER, result)

    def _carry_out(self, code: int, imm: Any, n: list[int], words: tuple[int, ...]) -> int:
        size = self.pages * PAGE
        if code == 0x3F:
            return self.pages
        if code == 0x40:
            before = self.pages
            if before + n[0] > self._maximum:
                return 0xFFFF_FFFF
            self._grow(n[0])
            return before
        if code == 0xFC08:
            data = self._reference.data[imm[0]]
            if n[1] + n[2] > len(data) or n[0] + n[2] > size:
                raise WasmTrap("out of bounds memory access")
            ctypes.memmove(self.base + n[0], data[n[1] : n[1] + n[2]], n[2])
        elif code == 0xFC09:
            self._reference.data[imm] = b""
        elif code == 0xFC0A:
            if n[1] + n[2] > size or n[0] + n[2] > size:
                raise WasmTrap("out of bounds memory access")
            ctypes.memmove(self.base + n[0], self.base + n[1], n[2])
        elif code == 0xFC0B:
            if n[0] + n[2] > size:
                raise WasmTrap("out of bounds memory access")
            ctypes.memset(self.base + n[0], n[1] & 0xFF, n[2])
        else:
            return self._table(code, imm, n, words)
        return 0

    def _table(self, code: int, imm: Any, n: list[int], words: tuple[int, ...]) -> int:
        bounds = "out of bounds table access"
        if code == 0xFC0D:
            self._reference.elements[imm] = []
            return 0
        table = imm[1] if code == 0xFC0C else imm[0] if isinstance(imm, tuple) else imm
        cells, count = self._elements[table], int(self._tables[2 * table + 1])
        if code == 0x25:
            if n[0] >= count:
                raise WasmTrap(bounds)
            return int(cells[n[0]])
        if code == 0x26:
            if n[0] >= count:
                raise WasmTrap(bounds)
            cells[n[0]] = words[1]
        elif code == 0xFC0C:
            segment = self._reference.elements[imm[0]]
            if n[1] + n[2] > len(segment) or n[0] + n[2] > count:
                raise WasmTrap(bounds)
            kind = self._module.tables[table].element
            for at in range(n[2]):
                cells[n[0] + at] = self._to_word(segment[n[1] + at], kind)
        elif code == 0xFC0E:
            source = self._elements[imm[1]]
            if n[1] + n[2] > int(self._tables[2 * imm[1] + 1]) or n[0] + n[2] > count:
                raise WasmTrap(bounds)
            moved = list(source[n[1] : n[1] + n[2]])
            cells[n[0] : n[0] + n[2]] = moved
        elif code == 0xFC0F:
            reference = self._reference.tables[table]
            most = reference.cap if reference.maximum is None else min(reference.cap, reference.maximum)
            if count + n[1] > most:
                return 0xFFFF_FFFF
            assert count + n[1] <= TABLE_CAPACITY, "the test's tables are small"
            for at in range(count, count + n[1]):
                cells[at] = words[0]
            self._tables[2 * table + 1] = count + n[1]
            return count
        elif code == 0xFC10:
            return count
        elif code == 0xFC11:
            if n[0] + n[2] > count:
                raise WasmTrap(bounds)
            for at in range(n[2]):
                cells[n[0] + at] = words[1]
        return 0


def shown(value: Any) -> Any:
    return ("function", value.index) if isinstance(value, Function) else value
