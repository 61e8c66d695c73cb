"""What a stopped frame of one function looks like: its stop points, and where locals and operands are at each of them.

A FrameTable is plain data that names no machine: `tabulate` makes it from a compiled function, `encode` and `decode`
(frame_table_bytes.py) keep it. It answers for three kinds of native offsets, which it calls sites:

    stop points       the state before the opcode is carried out; several opcodes may share an offset. Those that
                      come before the last of them are virtual: nothing runs between them.
    trap sites        the state before the opcode that traps; retry and skip.
    return addresses  the state of a frame whose callee runs: no register holds anything.

A value is a number. It may be a constant, have a slot (which holds it wherever a state names it; homes.py), be in
registers now and then (what a block's log says), have a recipe (a pure operation that may not have been carried out
yet), or nothing at all.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from trapline.compile.allocate import SLOT
from trapline.compile.places import (
    Constant,
    Entry,
    Expression,
    Incoming,
    Outgoing,
    Place,
    Register,
    Sharing,
    Slot,
    State,
    Unavailable,
)

__all__ = ["CALL", "ENTRY", "Block", "FrameTable", "Group", "Recipe", "Retry", "Row", "Skip"]

ENTRY = "stack"
"""Kind of the row of a function's first instruction, where nothing has happened yet."""
CALL = "call"
"""Kind of the row of a return address."""
WORD = 1 << 24
"""Number of a place: the first word of arguments; below it slots from SLOT on, and registers. Must match STACK_WORD of
each machine's layout."""

EVERY_REGISTER = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """A pure operation over values. It stands for the value as far as step `born` of block `block`; -1: everywhere."""

    op: int
    imm: object
    args: tuple[int, ...]
    block: int
    born: int


@dataclass(frozen=True, slots=True)
class Group:
    """Opcodes [first, stop) of one block that share a stop point: the offset of step `step`."""

    offset: int
    step: int
    first: int
    stop: int


@dataclass(slots=True)
class Block:
    """One block: where its steps begin, and its groups in order.

    `log`: (number of steps before it holds, register, value or -1), in order.
    """

    start: int
    groups: list[Group] = field(default_factory=list)
    log: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """A trap site or a return address.

    `block` is -1 and nothing else tells for the function's entry. `start`: where step `step` begins, with `operands`
    (place as a number, value) in their places: to retry goes there; a return address has none, its call is under way.
    `skip`: where the next step begins, with `results` ((type, register or -1, slot or -1)) in place: to skip goes
    there; -1 where the opcode cannot be skipped. `lost`: registers, as bits, that the step may have changed already.
    `tells`: place of the operand that tells more, or -1.
    """

    offset: int
    opcode: int
    kind: str
    tells: int
    block: int
    step: int
    start: int
    operands: tuple[tuple[int, int], ...]
    skip: int
    results: tuple[tuple[int, int, int], ...]
    lost: int


@dataclass(frozen=True, slots=True)
class Retry:
    """Where an opcode is begun again: the offset, and what must lie where: (place wanted, entry it is read from)."""

    offset: int
    operands: tuple[tuple[Place, Entry], ...]


@dataclass(frozen=True, slots=True)
class Skip:
    """Where to go on behind an opcode: the offset, and each result's type and the places it must be written to."""

    offset: int
    results: tuple[tuple[int, tuple[Register | Slot, ...]], ...]


@dataclass(slots=True)
class FrameTable:
    """The table of one function; see the module for what it answers.

    `value_slot[v]`: slot or -1. `constants`, `recipes`: of those values that have one. `reused`: values that several
    opcodes compute, or that were computed before their opcode's turn. `derived[v]`: ranges of native offsets in which
    something computed from v is still going to be used. `stack_at[i]`: cell of the operand stack before opcode i, -1
    empty, -2 cannot be reached; cell c is `cell_value[c]` on `cell_below[c]`. `edges`: (offset, opcode) of code out of
    line. `entry_places`: where the parameters come.
    """

    function_index: int = 0
    wasm_offsets: list[int] = field(default_factory=list)
    value_type: list[int] = field(default_factory=list)
    value_slot: list[int] = field(default_factory=list)
    constants: dict[int, int] = field(default_factory=dict)
    recipes: dict[int, Recipe] = field(default_factory=dict)
    reused: set[int] = field(default_factory=set)
    derived: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    initial_locals: list[int] = field(default_factory=list)
    local_events: list[tuple[int, int, int]] = field(default_factory=list)
    stack_at: list[int] = field(default_factory=list)
    cell_value: list[int] = field(default_factory=list)
    cell_below: list[int] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    entry_places: list[int] = field(default_factory=list)
    _index: _Index | None = field(default=None, compare=False, repr=False)

    # ---- where ----

    @property
    def stops(self) -> list[tuple[int, int]]:
        """(native offset, opcode index) of every stop point, sorted."""
        found = [
            (group.offset, opcode)
            for block in self.blocks
            for group in block.groups
            for opcode in range(group.first, group.stop)
        ]
        found.sort()
        return found

    def stops_of(self, opcode: int) -> tuple[int, ...]:
        """Native offsets at which execution is before an opcode."""
        return tuple(sorted([offset for offset, _, _ in self._indexed().groups_of.get(opcode, ())]))

    def opcodes_at(self, offset: int) -> tuple[int, ...]:
        """The opcodes whose stop point an offset is; those of one block are consecutive."""
        return tuple(sorted(self._indexed().opcodes_at.get(offset, ())))

    def opcode_at(self, offset: int, *, waits: bool = False) -> int:
        """The opcode that the instruction at an offset belongs to, or that a frame waits in whose return address it
        is; -1 for no code of this function."""
        row = self.row_at(offset, waits=waits)
        if row is not None:
            return row.opcode
        index = self._indexed()
        at = bisect_right(index.starts, offset) - 1
        return index.opcodes[at] if at >= 0 else -1

    def row_at(self, offset: int, *, waits: bool = False) -> Row | None:
        """The trap site at an offset, or else the return address. An offset can be both, since what follows a call may
        trap: `waits` says that it is the return address of a frame whose callee runs."""
        index = self._indexed()
        found = None if waits else index.sites.get(offset)
        return index.returns.get(offset) if found is None else found

    def wasm_offset(self, opcode: int) -> int:
        """The Wasm pc of an opcode: its first byte's offset in the module."""
        return self.wasm_offsets[opcode]

    # ---- what ----

    def state(self, offset: int, opcode: int | None = None, *, waits: bool = False) -> State:
        """The state at a site. At a trap site or return address `opcode` may be left out, as it may where an offset is
        the stop point of one opcode; `waits` as for `row_at`. Raises KeyError where offset and opcode are no site."""
        row = self.row_at(offset, waits=waits)
        if row is not None and opcode in (None, row.opcode):
            return self._state_of(row)
        if opcode is None:
            found = self.opcodes_at(offset)
            if len(found) != 1:
                raise KeyError(f"offset {offset:#x} is the stop point of opcodes {found}, expected one")
            opcode = found[0]
        for at, block, step in self._indexed().groups_of.get(opcode, ()):
            if at == offset:
                return self._state(offset, offset, opcode, block, step, 0)
        raise KeyError(f"offset {offset:#x} is no stop point of opcode {opcode}")

    def retry(self, row: Row) -> Retry:
        """How to carry out the opcode of a trap site again."""
        if row.block < 0:
            return Retry(row.offset, ())
        registers = self._registers(row.block, row.step, row.lost)
        where = {value: register for register, value in registers.items()}
        made: dict[int, Place] = {}
        wanted = [
            (_as_place(place, Outgoing), self._entry(value, row.block, row.step, where, made))
            for place, value in row.operands
        ]
        return Retry(row.start, tuple(wanted))

    def skip(self, row: Row) -> Skip | None:
        """How to go on behind the opcode of a trap site as if it had given results; None: only by re-entry."""
        if row.skip < 0:
            return None
        results: list[tuple[int, tuple[Register | Slot, ...]]] = []
        for type_, register, slot in row.results:
            places: list[Register | Slot] = [Register(register)] if register >= 0 else []
            if slot >= 0:
                places.append(Slot(slot))
            results.append((type_, tuple(places)))
        return Skip(row.skip, tuple(results))

    def sharing(self, state: State, position: int) -> Sharing:
        """What a write to `state.entries[position]` touches, and whether it may be done in place."""
        entries = state.entries
        value = entries[position].value
        places: list[Register | Slot] = [
            Register(register) for register, held in sorted(state.registers.items()) if held == value
        ]
        if self.value_slot[value] >= 0:
            places.append(Slot(self.value_slot[value]))
        others = tuple(
            [
                other
                for other, entry in enumerate(entries)
                if other != position and (entry.value == value or self._recomputed(entry, value))
            ]
        )
        return Sharing(tuple(places), others, self._reason(state, entries[position], others))

    def _reason(self, state: State, entry: Entry, others: tuple[int, ...]) -> str | None:
        if not isinstance(entry.place, Register | Slot):
            return "it has no place of its own"
        if others:
            return "another entry of the state holds or uses the same value"
        if entry.value in self.reused:
            return "other opcodes compute the same value"
        for start, stop in self.derived.get(entry.value, ()):
            if start <= state.reached < stop:
                return "something computed from it is still in use"
        return None

    def _recomputed(self, entry: Entry, value: int) -> bool:
        """Whether an expression reads a value."""
        if not isinstance(entry.place, Expression):
            return False
        work, seen = [entry.value], set()
        while work:
            at = work.pop()
            if at == value:
                return True
            recipe = self.recipes.get(at)
            if recipe is not None and at not in seen:
                seen.add(at)
                work.extend(recipe.args)
        return False

    # ---- how ----

    def _state_of(self, row: Row) -> State:
        if row.block < 0:
            return self._entry_state(row)
        return self._state(row.offset, row.start, row.opcode, row.block, row.step, row.lost)

    def _entry_state(self, row: Row) -> State:
        locals_ = []
        for position, value in enumerate(self.initial_locals):
            place: Place = Constant(self.constants.get(value, 0))
            if position < len(self.entry_places):
                place = _as_place(self.entry_places[position], Incoming)
            locals_.append(Entry(value, self.value_type[value], place))
        held = {entry.place.number: entry.value for entry in locals_ if isinstance(entry.place, Register)}
        return State(row.offset, row.offset, row.opcode, tuple(locals_), (), held)

    def _state(self, offset: int, reached: int, opcode: int, block: int, at: int, lost: int) -> State:
        """The state before an opcode, with registers as they are at step `at` of a block, the lost ones apart."""
        registers = self._registers(block, at, lost)
        where = {value: register for register, value in registers.items()}
        made: dict[int, Place] = {}
        locals_ = tuple(
            [self._entry(value, block, at, where, made) for value in self._indexed().locals_before(self, opcode)]
        )
        operands = []
        cell = self.stack_at[opcode]
        if cell < -1:
            raise KeyError(f"opcode {opcode} cannot be reached")
        while cell >= 0:
            operands.append(self._entry(self.cell_value[cell], block, at, where, made))
            cell = self.cell_below[cell]
        operands.reverse()
        return State(offset, reached, opcode, locals_, tuple(operands), registers)

    def _registers(self, block: int, at: int, lost: int) -> dict[int, int]:
        if lost == EVERY_REGISTER:
            return {}
        held: dict[int, int] = {}
        for step, register, value in self.blocks[block].log:
            if step > at:
                break
            held[register] = value
        return {register: value for register, value in held.items() if value >= 0 and not lost >> register & 1}

    def _entry(self, value: int, block: int, at: int, where: dict[int, int], made: dict[int, Place]) -> Entry:
        return Entry(value, self.value_type[value], self._place(value, block, at, where, made))

    def _place(self, value: int, block: int, at: int, where: dict[int, int], made: dict[int, Place]) -> Place:
        found = made.get(value)
        if found is None:
            found = made[value] = self._find(value, block, at, where, made)
        return found

    def _find(self, value: int, block: int, at: int, where: dict[int, int], made: dict[int, Place]) -> Place:
        bits = self.constants.get(value)
        if bits is not None:
            return Constant(bits)
        recipe = self.recipes.get(value)
        if recipe is not None and (recipe.born < 0 or (recipe.block == block and at <= recipe.born)):
            args = tuple([self._place(arg, block, at, where, made) for arg in recipe.args])
            return Unavailable() if Unavailable() in args else Expression(recipe.op, recipe.imm, args)
        slot = self.value_slot[value]
        if slot >= 0:
            return Slot(slot)
        register = where.get(value)
        return Unavailable() if register is None else Register(register)

    def _indexed(self) -> _Index:
        if self._index is None:
            self._index = _Index(self)
        return self._index


class _Index:
    """What a table is asked for, by offset and by opcode; made when it is first asked."""

    def __init__(self, table: FrameTable) -> None:
        self.groups_of: dict[int, list[tuple[int, int, int]]] = {}
        """Opcode -> (offset, block, step)."""
        self.opcodes_at: dict[int, list[int]] = {}
        ranges: dict[int, int] = {0: 0}
        for number, block in enumerate(table.blocks):
            for group in block.groups:
                for opcode in range(group.first, group.stop):
                    self.groups_of.setdefault(opcode, []).append((group.offset, number, group.step))
                    self.opcodes_at.setdefault(group.offset, []).append(opcode)
                ranges[group.offset] = group.stop - 1
        ranges.update(table.edges)
        self.sites = {row.offset: row for row in table.rows if row.kind != CALL}
        self.returns = {row.offset: row for row in table.rows if row.kind == CALL}
        self.starts = sorted(ranges)
        self.opcodes = [ranges[offset] for offset in self.starts]
        self._events: list[tuple[list[int], list[int]]] = [([], []) for _ in table.initial_locals]
        for opcode, local, value in table.local_events:
            self._events[local][0].append(opcode)
            self._events[local][1].append(value)

    def locals_before(self, table: FrameTable, opcode: int) -> list[int]:
        """Each local's value before an opcode."""
        out = list(table.initial_locals)
        for local, (opcodes, values) in enumerate(self._events):
            at = bisect_right(opcodes, opcode)
            if at:
                out[local] = values[at - 1]
        return out


def _as_place(number: int, word: type[Incoming] | type[Outgoing]) -> Place:
    if number >= WORD:
        return word(number - WORD)
    return Slot(number - SLOT) if number >= SLOT else Register(number)
