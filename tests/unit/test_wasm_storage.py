"""The native side of WebAssembly's storage: memories, tables, blocks, and the C helpers that code calls for them."""

from __future__ import annotations

import gc
import math
import struct
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from trapline import errors, native
from trapline.errors import MemoryAccessError, NativeError
from trapline.native import HOST

if HOST.name != "x86_64":
    pytest.skip("the functions here are x86-64 code", allow_module_level=True)

from tests.unit.wasm_code import Instance, wasm_function

RunPython = Callable[..., Any]
MOST = 0xFFFFFFFF
"""The largest operand, and what growing returns when it fails."""


# ---- memories ----


def test_memory() -> None:
    memory = native.Memory(1, 3, False)
    assert (len(memory), memory.pages, memory.max_pages, memory.checked) == (65536, 1, 3, False)
    assert memory.reserved_bytes == (6 << 30) + 65536
    assert memory[0] == 0
    assert memory[-1] == 0
    memory[5] = 7
    memory[-1] = 255
    assert memory[4:7] == b"\0\7\0"
    assert memory[65535] == 255
    memory[10:13] = b"abc"
    assert memory[13:9:-1] == b"\0cba"
    assert memory[10:14:2] == b"ac"
    memory[10:14:2] = b"xy"
    assert memory[10:13] == b"xby"
    assert native.read_memory(memory.address, 14) == memory[:14]
    assert len(memory[:]) == 65536
    assert memory[70000:80000] == b""
    base, bytes_, reserved, most = struct.unpack("<4Q", native.read_memory(memory.descriptor, 32))
    assert (base, bytes_, reserved, most) == (memory.address, 65536, memory.reserved_bytes, 3)


@pytest.mark.parametrize("index", [65536, -65537, 1 << 40, 1 << 80, -(1 << 80)])
def test_memory_index_outside(index: int) -> None:
    memory = native.Memory(1, 1, False)
    with pytest.raises(MemoryAccessError):
        memory[index]
    with pytest.raises(IndexError):
        memory[index] = 1
    with pytest.raises(errors.TraplineError):
        memory[index]


def test_memory_bad_writes() -> None:
    memory = native.Memory(1, 1, False)
    with pytest.raises(MemoryAccessError, match="found 2 bytes for a slice of 3"):
        memory[0:3] = b"ab"
    with pytest.raises(MemoryAccessError, match="found 3 bytes for a slice of 2"):
        memory[65534:65540] = b"abc"
    for value in (256, -1, 1 << 70):
        with pytest.raises(ValueError, match="a byte of a memory"):
            memory[0] = value
    with pytest.raises(TypeError):
        memory["x"]  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        memory[0] = b"x"  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        del memory[0]  # type: ignore[attr-defined]


def test_memory_overlapping_slices() -> None:
    memory = native.Memory(1, 1, False)
    memory[0:8] = bytes(range(8))
    memory[2:8] = memoryview(memory)[0:6]
    assert memory[:8] == bytes([0, 1, 0, 1, 2, 3, 4, 5])


def test_memory_grows() -> None:
    memory = native.Memory(1, 3, False)
    address = memory.address
    view = memoryview(memory)
    assert [memory.grow(pages) for pages in (0, 1, 2, 1, 0)] == [1, 1, -1, 2, 3]
    assert (memory.pages, memory.address, len(view)) == (3, address, 65536)
    memory[3 * 65536 - 1] = 1
    view[0] = 9
    assert memory[0] == 9
    for delta in (1, 1 << 16, 1 << 32, 1 << 70):
        assert memory.grow(delta) == -1
    with pytest.raises(MemoryAccessError):
        memory.grow(-1)


def test_memory_of_nothing() -> None:
    memory = native.Memory(0, 0, False)
    assert (len(memory), memory[:], bytes(memoryview(memory)), memory.grow(1)) == (0, b"", b"", -1)
    with pytest.raises(MemoryAccessError):
        memory[0]


@pytest.mark.parametrize("sizes", [(2, 1), (-1, 1), (0, 65537), (65537, None)])
def test_memory_bad_sizes(sizes: tuple[int, int | None]) -> None:
    with pytest.raises(ValueError, match="pages, expected"):
        native.Memory(*sizes, False)


def test_memory_from_the_pool_is_new() -> None:
    for _ in range(40):
        memories = [native.Memory(2, None, False) for _ in range(3)]
        for memory in memories:
            assert memory[0] == 0
            assert memory[2 * 65536 - 1] == 0
            memory.grow(3)
            assert memory[5 * 65536 - 1] == 0
            memory[0] = memory[5 * 65536 - 1] = 1
    address = memories[0].address
    del memories, memory
    again = native.Memory(1, None, False)
    assert again.address in range(1 << 47)
    assert address
    assert native.read_memory(again.address + 65536, 1) == b"", "pages of an earlier memory are left"


def test_buffers_keep_a_memory() -> None:
    memory = native.Memory(1, None, False)
    memory[0:3] = b"abc"
    view = memoryview(memory)
    assert (view.format, view.readonly, view.nbytes) == ("B", False, 65536)
    del memory
    gc.collect()
    others = [native.Memory(1, None, False) for _ in range(4)]
    for other in others:
        other[0:3] = b"xyz"
    assert bytes(view[:3]) == b"abc"


def test_checked_memory() -> None:
    memory = native.Memory(1, 4, True)
    assert (memory.checked, memory.reserved_bytes, memory.grow(3), memory.grow(1)) == (True, 4 * 65536, 1, -1)
    assert native.Memory(0, 0, True).reserved_bytes == 0
    assert native.Memory(1, None, True).reserved_bytes == 1 << 32


def test_little_address_space(run_python: RunPython) -> None:
    """Under RLIMIT_AS memories are smaller and checked, tables smaller; growing fails, nothing else does."""
    run_python(
        """
        import resource
        from trapline import native
        from trapline.errors import NativeError
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (700 << 20), used + (700 << 20)))
        small = native.Memory(1, 4, False)
        assert small.checked and small.reserved_bytes == 4 * 65536, small.reserved_bytes
        assert [small.grow(3), small.grow(1)] == [1, -1]
        large = native.Memory(1, None, False)
        assert large.checked and large.reserved_bytes == 512 << 20, large.reserved_bytes
        assert large.grow(8191) == 1 and large.grow(1) == -1
        large[(512 << 20) - 1] = 3
        table = native.Table(1, None)
        tables = [native.Table(1, None) for _ in range(4)]
        assert all(t.grow(100, 5) == 1 for t in tables[:1])
        try:
            native.Memory(16384, None, False)
        except NativeError as error:
            assert "refused" in str(error)
        else:
            raise AssertionError("a memory beyond the limit")
        del small, large
        assert native.Memory(1, 2, False).grow(1) == 1
        """
    )


def test_memory_subclass() -> None:
    class Memory(native.Memory):
        pass

    memory = Memory(1, None, False)
    memory.name = "mine"  # type: ignore[attr-defined]
    gone = weakref.ref(memory)
    del memory
    assert gone() is None


# ---- tables and blocks ----


def test_table() -> None:
    table = native.Table(2, 5)
    assert (table.count, table.get_word(1)) == (2, 0)
    table.set_word(1, 1 << 63)
    assert [table.get_word(0), table.get_word(1)] == [0, 1 << 63]
    assert [table.grow(2, 7), table.grow(2, 7), table.grow(0, 0), table.grow(1, 0)] == [2, -1, 4, 4]
    assert [table.get_word(i) for i in range(5)] == [0, 1 << 63, 7, 7, 0]
    elements, count, capacity, maximum = struct.unpack("<4Q", native.read_memory(table.descriptor, 32))
    assert (count, capacity, maximum) == (5, 5, 5)
    assert native.read_memory(elements + 8, 8) == struct.pack("<Q", 1 << 63)
    for index in (5, -1, 1 << 70):
        with pytest.raises(MemoryAccessError):
            table.get_word(index)
        with pytest.raises(MemoryAccessError):
            table.set_word(index, 0)
    with pytest.raises(TypeError):
        table.get_word("x")  # type: ignore[arg-type]


def test_large_tables() -> None:
    table = native.Table(0, None)
    assert [table.grow(10_000_000, 0), table.grow(1, 0), table.grow(1 << 32, 0)] == [0, -1, -1]
    with pytest.raises(NativeError, match="at most"):
        native.Table(10_000_001, None)
    with pytest.raises(ValueError, match="entries"):
        native.Table(3, 2)


def test_block() -> None:
    block = native.Block(24)
    assert (len(block), block.address % 16, bytes(memoryview(block))) == (24, 0, bytes(24))
    block.set(16, -1)
    block.set(3, 0x0102)
    assert (block.get(16), block.get(3), block.get(0)) == (2**64 - 1, 0x0102, 0x0102 << 24)
    memoryview(block)[0:2] = b"ab"
    assert block.get(0) & 0xFFFF == 0x6261
    for offset in (17, -1, 1 << 70):
        with pytest.raises((MemoryAccessError, IndexError)):
            block.get(offset)
    assert len(native.Block(0)) == 0
    with pytest.raises(MemoryAccessError):
        native.Block(4).get(0)
    with pytest.raises(ValueError, match="bytes"):
        native.Block(-1)


# ---- helpers ----


class Helpers:
    """Calls a helper by index with the block of an instance that has a memory, two tables and segments."""

    def __init__(self) -> None:
        self.instance = Instance()
        self.memory = native.Memory(1, 3, False)
        self.tables = [native.Table(4, 8), native.Table(4, None)]
        self.data = b"0123456789"
        self.data_block = native.Block(16)
        memoryview(self.data_block)[:10] = self.data
        self.elements = native.Block(24)
        rows = self.rows = native.Block(64)
        for index in range(3):
            self.elements.set(8 * index, 100 + index)
        for offset, value in ((0, self.data_block.address), (8, 10), (16, self.elements.address), (24, 3)):
            rows.set(offset, value)
        for index, table in enumerate(self.tables):
            rows.set(32 + 8 * index, table.descriptor)
        block = self.instance.block
        block.set(0, self.memory.address)
        block.set(8, self.memory.descriptor)
        block.set(40, rows.address + 32)
        block.set(48, rows.address)
        block.set(56, rows.address + 16)
        self.call = wasm_function(
            self.instance, self.instance.record("nothing"), thunk="helper", params=b"lllll", results=b"l"
        )

    def __call__(self, index: int, a: int = 0, b: int = 0, c: int = 0, immediate: int = 0) -> int:
        return int(self.call(index, a, b, c, immediate))

    def words(self, table: int) -> list[int]:
        return [self.tables[table].get_word(index) for index in range(self.tables[table].count)]


@pytest.fixture
def helpers() -> Helpers:
    return Helpers()


def test_memory_helpers(helpers: Helpers) -> None:
    memory = helpers.memory
    assert [helpers(0, 1), helpers(0, 0), helpers(0, 2), helpers(0, MOST)] == [1, 2, MOST, MOST]
    assert memory.pages == 2
    assert helpers(1, 10, 0x1AB, 5) == 0
    assert memory[9:16] == b"\0" + b"\xab" * 5 + b"\0"
    assert helpers(2, 11, 10, 3) == 0
    assert helpers(3, 20, 2, 4, 0) == 0
    assert memory[20:25] == b"2345\0"
    assert helpers(2, 21, 20, 4) == 0
    assert memory[20:25] == b"22345"
    size = len(memory)
    for case in ((1, size, 0, 1), (1, size - 1, 0, 2), (1, MOST, 0, MOST), (2, size, 0, 1), (2, 0, size - 1, 2)):
        assert helpers(*case) == 1, case
    assert helpers(1, size, 0, 0) == 0
    assert helpers(1, size + 1, 0, 0) == 1
    assert helpers(2, size, size, 0) == 0
    assert helpers(2, 0, size + 1, 0) == 1
    assert helpers(3, 0, 8, 3, 0) == 1
    assert helpers(3, size - 2, 0, 3, 0) == 1
    assert memory[:1] == b"\0"
    assert helpers(4) == 0
    assert helpers(3, 0, 0, 1, 0) == 1
    assert helpers(3, 0, 0, 0, 0) == 0


def test_table_helpers(helpers: Helpers) -> None:
    assert [helpers(5, 9, 2, 0, 0), helpers(5, 9, 3, 0, 0), helpers(5, 0, MOST, 0, 1)] == [4, MOST, MOST]
    assert helpers.words(0) == [0, 0, 0, 0, 9, 9]
    assert helpers(6, 1, 5, 2, 0) == 0
    assert helpers.words(0) == [0, 5, 5, 0, 9, 9]
    assert helpers(6, 5, 1, 2, 0) == 1
    assert helpers(6, 6, 1, 0, 0) == 0
    assert helpers(8, 0, 1, 2, 1) == 0
    assert helpers.words(1) == [101, 102, 0, 0]
    assert helpers(7, 1, 0, 3, 1 | 1 << 32) == 0
    assert helpers.words(1) == [101, 101, 102, 0]
    assert helpers(7, 0, 0, 4, 0 | 1 << 32) == 0
    assert helpers.words(0) == [101, 101, 102, 0, 9, 9]
    assert helpers(7, 0, 1, 4, 0 | 1 << 32) == 1
    assert helpers(7, 3, 0, 4, 0 | 1 << 32) == 1
    assert helpers(8, 0, 2, 2, 0) == 1
    assert helpers(8, 5, 0, 2, 0) == 1
    assert helpers(9) == 0
    assert helpers(8, 0, 0, 1, 0) == 1
    assert helpers(8, 0, 0, 0, 0) == 0


def nearest(value: float) -> float:
    return math.copysign(round(value), value)


ROUND: list[Callable[[float], float]] = [
    lambda x: math.copysign(math.ceil(x), x),
    lambda x: math.copysign(math.floor(x), x),
    lambda x: math.copysign(math.trunc(x), x),
    nearest,
]
FLOATS = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 3.5, 4194303.5, 8388607.0, 8388608.0, 16777216.0, 1e-40, 3e38]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("rounding", range(4))
def test_rounding_helpers(rounding: int, wide: bool, helpers: Helpers) -> None:
    layout = "<d" if wide else "<f"
    extra = [4503599627370495.5, 4503599627370496.0, 1e300, 5e-324] if wide else []
    results = wasm_function(
        helpers.instance, helpers.instance.record("nothing"), thunk="helper", params=b"lllll", results=b"ll"
    )

    def call(pattern: int) -> int:
        return int(results((14 if wide else 10) + rounding, pattern, 0, 0, 0)[1]) & ((1 << 64) - 1)

    def pattern(value: float) -> int:
        return int.from_bytes(struct.pack(layout, value), "little")

    for value in FLOATS + extra:
        for signed in (value, -value):
            value_of = struct.unpack(layout, struct.pack(layout, signed))[0]
            found = call(pattern(signed))
            assert found == pattern(ROUND[rounding](value_of)), (signed, hex(found))
    assert call(pattern(math.inf)) == pattern(math.inf)
    assert call(pattern(-math.inf)) == pattern(-math.inf)
    quiet, signalling = (0x7FF8_0000_0000_0003, 0x7FF0_0000_0000_0003) if wide else (0x7FC0_0003, 0x7F80_0003)
    assert call(quiet) == quiet
    assert call(signalling) == quiet
