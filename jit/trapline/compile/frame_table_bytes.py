"""Frame tables as bytes, about ten for each opcode, and back.

Everything is a variable-length integer (LEB128, core specification 5.2.2), differences where numbers grow. The stack
before an opcode is what was popped and pushed since the opcode before it; a value that is named for the first time is
written as 0, any other as its distance back from the newest.
"""

from __future__ import annotations

from typing import Final

from trapline.compile.frame_table import Block, FrameTable, Group, Recipe, Row
from trapline.wasm.types import EXTERNREF, F32, F64, FUNCREF, I32, I64

__all__ = ["decode", "encode"]

VERSION: Final = 1
_HAS_CONSTANT, _HAS_RECIPE, _HAS_SLOT, _IS_REUSED, _IS_DERIVED = 1, 2, 4, 8, 16
_RECIPE_OPS: Final = 32
"""Added to the op of a recipe, so that the ops below 0 can be written."""
_UNREACHABLE: Final = 0
_MANY: Final = 3
"""Pushes that are counted in a number of their own."""


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()

    def number(self, value: int) -> None:
        out = self.out
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        assert value >= 0, "a negative number in an unsigned field"
        out.append(value)

    def signed(self, value: int) -> None:
        self.number(value << 1 if value >= 0 else ~(value << 1))

    def numbers(self, values: list[int] | tuple[int, ...]) -> None:
        self.number(len(values))
        for value in values:
            self.number(value)

    def text(self, value: str) -> None:
        data = value.encode()
        self.number(len(data))
        self.out += data


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        data, at = self._data, self._at
        byte = data[at]
        at += 1
        value, shift = byte & 0x7F, 7
        while byte & 0x80:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
        self._at = at
        return value

    def signed(self) -> int:
        value = self.number()
        return ~(value >> 1) if value & 1 else value >> 1

    def numbers(self) -> list[int]:
        return [self.number() for _ in range(self.number())]

    def text(self) -> str:
        count = self.number()
        self._at += count
        return self._data[self._at - count : self._at].decode()

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    @property
    def is_done(self) -> bool:
        return self._at == len(self._data)


_TYPES: Final = (I32, I64, F32, F64, FUNCREF, EXTERNREF)
_NUMBERS: Final = {type_: number for number, type_ in enumerate(_TYPES)}
_NARROW: Final = (I32, F32)


def encode(table: FrameTable) -> bytes:
    """The bytes of a table."""
    writer = _Writer()
    writer.number(VERSION)
    writer.number(table.function_index)
    writer.number(len(table.wasm_offsets))
    before = 0
    for offset in table.wasm_offsets:
        writer.number(offset - before)
        before = offset
    _write_states(writer, table)
    _write_values(writer, table)
    _write_blocks(writer, table)
    _write_rows(writer, table)
    return bytes(writer.out)


def decode(data: bytes) -> FrameTable:
    """The table of some bytes that `encode` made. Raises ValueError where they are not."""
    reader = _Reader(data)
    table = FrameTable()
    try:
        if reader.number() != VERSION:
            raise ValueError("a frame table of another version")
        table.function_index = reader.number()
        before = 0
        for _ in range(reader.number()):
            before += reader.number()
            table.wasm_offsets.append(before)
        _read_states(reader, table)
        _read_values(reader, table)
        _read_blocks(reader, table)
        _read_rows(reader, table)
    except IndexError:
        raise ValueError(f"a frame table ends early: {len(data)} bytes") from None
    if not reader.is_done:
        raise ValueError("bytes behind a frame table")
    return table


# ---- states: for each opcode the stack's change, then the locals that take a value there ----


def _write_states(writer: _Writer, table: FrameTable) -> None:
    newest = -1

    def name(value: int) -> None:
        nonlocal newest
        writer.number(newest - value + 1 if value <= newest else 0)
        newest = max(newest, value)

    writer.number(len(table.initial_locals))
    for value in table.initial_locals:
        name(value)
    events, coming = table.local_events, 0
    cells: list[int] = []
    for index, cell in enumerate(table.stack_at):
        first = coming
        while coming < len(events) and events[coming][0] == index:
            coming += 1
        missing: list[int] = []
        code, pushed = _UNREACHABLE, 0
        if cell >= -1:
            popped = 0
            while cell != (cells[-1] if cells else -1):
                if cells and cells[-1] > cell:
                    cells.pop()
                    popped += 1
                else:
                    missing.append(cell)
                    cell = table.cell_below[cell]
            pushed = len(missing)
            code = 1 + popped * (_MANY + 1) + min(pushed, _MANY)
        writer.number(code << 1 | (coming > first))
        if pushed >= _MANY:
            writer.number(pushed - _MANY)
        if coming > first:
            writer.number(coming - first - 1)
            for _, local, value in events[first:coming]:
                writer.number(local)
                name(value)
        while missing:
            cell = missing.pop()
            name(table.cell_value[cell])
            cells.append(cell)


def _read_states(reader: _Reader, table: FrameTable) -> None:
    newest = -1

    def name() -> int:
        nonlocal newest
        back = reader.number()
        if back:
            return newest - back + 1
        newest += 1
        return newest

    table.initial_locals = [name() for _ in range(reader.number())]
    cells: list[int] = []
    for index in range(len(table.wasm_offsets)):
        code = reader.number()
        has_events, code = code & 1, code >> 1
        pushed = 0
        if code != _UNREACHABLE:
            popped, pushed = divmod(code - 1, _MANY + 1)
            if pushed == _MANY:
                pushed += reader.number()
            if popped:
                del cells[-popped:]
        if has_events:
            for _ in range(reader.number() + 1):
                local = reader.number()
                table.local_events.append((index, local, name()))
        for _ in range(pushed):
            table.cell_value.append(name())
            table.cell_below.append(cells[-1] if cells else -1)
            cells.append(len(table.cell_value) - 1)
        table.stack_at.append(-2 if code == _UNREACHABLE else cells[-1] if cells else -1)


# ---- values ----


def _write_values(writer: _Writer, table: FrameTable) -> None:
    writer.number(len(table.value_type))
    for value, type_ in enumerate(table.value_type):
        bits, recipe, slot = table.constants.get(value), table.recipes.get(value), table.value_slot[value]
        ranges = table.derived.get(value)
        flags = (
            (bits is not None) * _HAS_CONSTANT
            | (recipe is not None) * _HAS_RECIPE
            | (slot >= 0) * _HAS_SLOT
            | (value in table.reused) * _IS_REUSED
            | (ranges is not None) * _IS_DERIVED
        )
        writer.out.append(_NUMBERS[type_] << 5 | flags)
        if bits is not None:
            top = 1 << (31 if type_ in _NARROW else 63)
            writer.signed((bits ^ top) - top)
        if recipe is not None:
            writer.number(recipe.op + _RECIPE_OPS)
            writer.number(0 if recipe.imm is None else 1 + _integer(recipe.imm))
            writer.numbers(recipe.args)
            writer.number(recipe.block + 1)
            writer.number(recipe.born + 1)
        if slot >= 0:
            writer.number(slot)
        if ranges is not None:
            _write_ranges(writer, ranges)


def _read_values(reader: _Reader, table: FrameTable) -> None:
    for value in range(reader.number()):
        flags = reader.byte()
        type_ = _TYPES[flags >> 5]
        table.value_type.append(type_)
        if flags & _HAS_CONSTANT:
            table.constants[value] = reader.signed() & ((1 << (32 if type_ in _NARROW else 64)) - 1)
        if flags & _HAS_RECIPE:
            op, imm = reader.number() - _RECIPE_OPS, reader.number()
            args = tuple(reader.numbers())
            block, born = reader.number() - 1, reader.number() - 1
            table.recipes[value] = Recipe(op, imm - 1 if imm else None, args, block, born)
        table.value_slot.append(reader.number() if flags & _HAS_SLOT else -1)
        if flags & _IS_REUSED:
            table.reused.add(value)
        if flags & _IS_DERIVED:
            table.derived[value] = _read_ranges(reader)


def _integer(imm: object) -> int:
    assert isinstance(imm, int), "a pure operation has a number or nothing as its immediate"
    return imm


def _write_ranges(writer: _Writer, ranges: list[tuple[int, int]]) -> None:
    writer.number(len(ranges))
    before = 0
    for start, stop in ranges:
        writer.number(start - before)
        writer.number(stop - start)
        before = stop


def _read_ranges(reader: _Reader) -> list[tuple[int, int]]:
    out, before = [], 0
    for _ in range(reader.number()):
        start = before + reader.number()
        before = start + reader.number()
        out.append((start, before))
    return out


# ---- code ----


def _write_blocks(writer: _Writer, table: FrameTable) -> None:
    writer.number(len(table.blocks))
    before = opcode = 0
    for block in table.blocks:
        writer.number(block.start - before)
        before = block.start
        writer.number(len(block.groups))
        at = step = 0
        for group in block.groups:
            writer.number(group.offset - before)
            writer.number(group.step - step)
            writer.signed(group.first - opcode)
            writer.number(group.stop - group.first - 1)
            before, step, opcode = group.offset, group.step, group.stop
        writer.number(len(block.log))
        for at_step, register, value in block.log:
            writer.number((at_step - at) << 5 | register)
            writer.number(value + 1)
            at = at_step


def _read_blocks(reader: _Reader, table: FrameTable) -> None:
    before = opcode = 0
    for _ in range(reader.number()):
        before += reader.number()
        block = Block(before)
        at = step = 0
        for _ in range(reader.number()):
            before += reader.number()
            step += reader.number()
            opcode += reader.signed()
            first, opcode = opcode, opcode + reader.number() + 1
            block.groups.append(Group(before, step, first, opcode))
        for _ in range(reader.number()):
            word = reader.number()
            at += word >> 5
            block.log.append((at, word & 31, reader.number() - 1))
        table.blocks.append(block)


def _write_rows(writer: _Writer, table: FrameTable) -> None:
    kinds = sorted({row.kind for row in table.rows})
    writer.number(len(kinds))
    for kind in kinds:
        writer.text(kind)
    writer.number(len(table.rows))
    before = 0
    for row in table.rows:
        writer.number(row.offset - before)
        before = row.offset
        writer.number(row.opcode)
        writer.number(kinds.index(row.kind))
        writer.number(row.tells + 1)
        writer.number(row.block + 1)
        writer.number(row.step + 1)
        writer.signed(row.offset - row.start)
        writer.number(len(row.operands))
        for place, value in row.operands:
            writer.number(place)
            writer.number(value)
        writer.number(0 if row.skip < 0 else 1 + row.skip - row.start)
        writer.number(len(row.results))
        for type_, register, slot in row.results:
            writer.number(_NUMBERS[type_])
            writer.number(register + 1)
            writer.number(slot + 1)
        writer.number(row.lost)
    writer.number(len(table.edges))
    before = 0
    for offset, opcode in table.edges:
        writer.number(offset - before)
        writer.number(opcode)
        before = offset
    writer.numbers(table.entry_places)


def _read_rows(reader: _Reader, table: FrameTable) -> None:
    kinds = [reader.text() for _ in range(reader.number())]
    offset = 0
    for _ in range(reader.number()):
        offset += reader.number()
        opcode, kind, tells = reader.number(), kinds[reader.number()], reader.number() - 1
        block, step = reader.number() - 1, reader.number() - 1
        start = offset - reader.signed()
        operands = tuple([(reader.number(), reader.number()) for _ in range(reader.number())])
        skip = reader.number()
        results = tuple(
            [(_TYPES[reader.number()], reader.number() - 1, reader.number() - 1) for _ in range(reader.number())]
        )
        skip = start + skip - 1 if skip else -1
        table.rows.append(
            Row(offset, opcode, kind, tells, block, step, start, operands, skip, results, reader.number())
        )
    offset = 0
    for _ in range(reader.number()):
        offset += reader.number()
        table.edges.append((offset, reader.number()))
    table.entry_places = reader.numbers()
