"""The instructions beside numeric ones and control: loads, stores, memories, tables and references.

LOADS and STORES are rows that the interpreter's loop executes itself. STATEFUL instructions are functions
(frame, operand stack, immediate): each looks whether it traps before it takes its operands off the stack.
A later feature adds rows here, in `numeric`, or a table of its own that `predecode` looks into.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.reference.numeric import Opcode, sign_extend
from tests.reference.store import Frame, Value
from tests.reference.traps import Trap, TrapKind

__all__ = ["LOADS", "STATEFUL", "STORES", "Access", "Stateful"]

Stack = list[Value]
Immediate = tuple[int, ...]


class Access(NamedTuple):
    """A load or store: the type of the operand, the bytes accessed, and for a load what the bytes become."""

    type: str
    width_bytes: int
    extend: Callable[[int], int] | None = None


LOADS: dict[Opcode, Access] = {
    0x28: Access("i32", 4),
    0x29: Access("i64", 8),
    0x2A: Access("f32", 4),
    0x2B: Access("f64", 8),
    0x2C: Access("i32", 1, sign_extend(8, 32)),
    0x2D: Access("i32", 1),
    0x2E: Access("i32", 2, sign_extend(16, 32)),
    0x2F: Access("i32", 2),
    0x30: Access("i64", 1, sign_extend(8, 64)),
    0x31: Access("i64", 1),
    0x32: Access("i64", 2, sign_extend(16, 64)),
    0x33: Access("i64", 2),
    0x34: Access("i64", 4, sign_extend(32, 64)),
    0x35: Access("i64", 4),
}

STORES: dict[Opcode, Access] = {
    0x36: Access("i32", 4),
    0x37: Access("i64", 8),
    0x38: Access("f32", 4),
    0x39: Access("f64", 8),
    0x3A: Access("i32", 1),
    0x3B: Access("i32", 2),
    0x3C: Access("i64", 1),
    0x3D: Access("i64", 2),
    0x3E: Access("i64", 4),
}


# Memories. The immediate is the indices that stand in the binary format, in its order.


def memory_size(frame: Frame, stack: Stack, at: Immediate) -> None:
    stack.append(frame.instance.memories[at[0]].pages)


def memory_grow(frame: Frame, stack: Stack, at: Immediate) -> None:
    stack[-1] = frame.instance.memories[at[0]].grow(stack[-1]) & 0xFFFF_FFFF


def memory_init(frame: Frame, stack: Stack, at: Immediate) -> None:
    segment, data = frame.instance.data[at[0]], frame.instance.memories[at[1]].data
    to, start, count = stack[-3:]
    if start + count > len(segment) or to + count > len(data):
        raise Trap(TrapKind.MEMORY_BOUNDS)
    data[to : to + count] = segment[start : start + count]
    del stack[-3:]


def data_drop(frame: Frame, stack: Stack, at: Immediate) -> None:
    frame.instance.data[at[0]] = b""


def memory_copy(frame: Frame, stack: Stack, at: Immediate) -> None:
    target, source = frame.instance.memories[at[0]].data, frame.instance.memories[at[1]].data
    to, start, count = stack[-3:]
    if start + count > len(source) or to + count > len(target):
        raise Trap(TrapKind.MEMORY_BOUNDS)
    target[to : to + count] = source[start : start + count]
    del stack[-3:]


def memory_fill(frame: Frame, stack: Stack, at: Immediate) -> None:
    data = frame.instance.memories[at[0]].data
    to, value, count = stack[-3:]
    if to + count > len(data):
        raise Trap(TrapKind.MEMORY_BOUNDS)
    data[to : to + count] = bytes((value & 0xFF,)) * count
    del stack[-3:]


# Tables


def table_get(frame: Frame, stack: Stack, at: Immediate) -> None:
    items = frame.instance.tables[at[0]].items
    index = stack[-1]
    if index >= len(items):
        raise Trap(TrapKind.TABLE_BOUNDS)
    stack[-1] = items[index]


def table_set(frame: Frame, stack: Stack, at: Immediate) -> None:
    items = frame.instance.tables[at[0]].items
    index, value = stack[-2:]
    if index >= len(items):
        raise Trap(TrapKind.TABLE_BOUNDS)
    items[index] = value
    del stack[-2:]


def table_init(frame: Frame, stack: Stack, at: Immediate) -> None:
    segment, items = frame.instance.elements[at[0]], frame.instance.tables[at[1]].items
    to, start, count = stack[-3:]
    if start + count > len(segment) or to + count > len(items):
        raise Trap(TrapKind.TABLE_BOUNDS)
    items[to : to + count] = segment[start : start + count]
    del stack[-3:]


def elem_drop(frame: Frame, stack: Stack, at: Immediate) -> None:
    frame.instance.elements[at[0]] = []


def table_copy(frame: Frame, stack: Stack, at: Immediate) -> None:
    target, source = frame.instance.tables[at[0]].items, frame.instance.tables[at[1]].items
    to, start, count = stack[-3:]
    if start + count > len(source) or to + count > len(target):
        raise Trap(TrapKind.TABLE_BOUNDS)
    target[to : to + count] = source[start : start + count]
    del stack[-3:]


def table_grow(frame: Frame, stack: Stack, at: Immediate) -> None:
    value, delta = stack[-2:]
    stack[-2] = frame.instance.tables[at[0]].grow(delta, value) & 0xFFFF_FFFF
    del stack[-1]


def table_size(frame: Frame, stack: Stack, at: Immediate) -> None:
    stack.append(len(frame.instance.tables[at[0]].items))


def table_fill(frame: Frame, stack: Stack, at: Immediate) -> None:
    items = frame.instance.tables[at[0]].items
    to, value, count = stack[-3:]
    if to + count > len(items):
        raise Trap(TrapKind.TABLE_BOUNDS)
    items[to : to + count] = [value] * count
    del stack[-3:]


# References


def ref_is_null(frame: Frame, stack: Stack, at: Immediate) -> None:
    stack[-1] = int(stack[-1] is None)


def ref_func(frame: Frame, stack: Stack, at: Immediate) -> None:
    stack.append(frame.instance.functions[at[0]])


class Stateful(NamedTuple):
    """An instruction that is a function: how many indices follow its opcode, its operands, and its results.

    "element" stands for the element type of the table that the first index names, "any" for whatever is there.
    """

    name: str
    indices: int
    params: tuple[str, ...]
    results: tuple[str, ...]
    execute: Callable[[Frame, Stack, Immediate], None]


_3i32 = ("i32", "i32", "i32")

STATEFUL: dict[Opcode, Stateful] = {
    0x25: Stateful("table.get", 1, ("i32",), ("element",), table_get),
    0x26: Stateful("table.set", 1, ("i32", "element"), (), table_set),
    0x3F: Stateful("memory.size", 1, (), ("i32",), memory_size),
    0x40: Stateful("memory.grow", 1, ("i32",), ("i32",), memory_grow),
    0xD1: Stateful("ref.is_null", 0, ("any",), ("i32",), ref_is_null),
    0xD2: Stateful("ref.func", 1, (), ("funcref",), ref_func),
    (0xFC, 8): Stateful("memory.init", 2, _3i32, (), memory_init),
    (0xFC, 9): Stateful("data.drop", 1, (), (), data_drop),
    (0xFC, 10): Stateful("memory.copy", 2, _3i32, (), memory_copy),
    (0xFC, 11): Stateful("memory.fill", 1, _3i32, (), memory_fill),
    (0xFC, 12): Stateful("table.init", 2, _3i32, (), table_init),
    (0xFC, 13): Stateful("elem.drop", 1, (), (), elem_drop),
    (0xFC, 14): Stateful("table.copy", 2, _3i32, (), table_copy),
    (0xFC, 15): Stateful("table.grow", 1, ("element", "i32"), ("i32",), table_grow),
    (0xFC, 16): Stateful("table.size", 1, (), ("i32",), table_size),
    (0xFC, 17): Stateful("table.fill", 1, ("i32", "element", "i32"), (), table_fill),
}
