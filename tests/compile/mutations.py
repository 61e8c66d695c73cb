"""Damage to a compiled function or its frame table, of every kind that the checker has to see.

A mutation takes a Subject and a source of chance and gives a damaged Subject, or None where there is nothing of its
kind to damage. What it gives may say the same as before, by chance; `says_the_same` proves that.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from trapline.asm.disassemble import disassemble
from trapline.compile.allocate import SLOT, Allocation, Step
from trapline.compile.checker import check
from trapline.compile.checker_places import check_places
from trapline.compile.checker_ssa import check_ssa
from trapline.compile.checker_states import check_states
from trapline.compile.frame_table import CALL, Block, FrameTable, Group, Row
from trapline.compile.frame_table_bytes import decode, encode
from trapline.compile.ir import Func, Op
from trapline.compile.places import Constant, Expression, Place, Register, Slot, Unavailable
from trapline.compile.x86_64.check_code import check_code
from trapline.compile.x86_64.emit import Emitted
from trapline.compile.x86_64.shapes import X86_64
from trapline.wasm.body import Body

NOP = 0x90


@dataclass(frozen=True)
class Subject:
    """One compiled function with its table."""

    func: Func
    allocation: Allocation
    emitted: Emitted
    body: Body
    machine: X86_64
    table: FrameTable
    full: bool

    def check(self) -> None:
        """Raises CheckError for damage."""
        check(self.func, self.allocation, self.emitted, self.body, self.machine, self.table, self.full)


Mutation = Callable[[Subject, random.Random], Subject | None]


class Proof:
    """A sound subject's SSA form, places and sites, proved once for many damaged tables."""

    def __init__(self, subject: Subject) -> None:
        self._flow = check_ssa(subject.func)
        self._sites = check_code(subject.func, subject.allocation, subject.emitted, subject.machine)
        self._places = check_places(subject.func, self._flow, subject.allocation, subject.machine)
        self.answers = answers(subject.table)

    def check(self, damaged: Subject) -> None:
        """As `Subject.check`, for one whose table alone is damaged."""
        it = damaged
        check_states(it.func, self._flow, self._places, it.emitted, it.body, it.machine, self._sites, it.table, it.full)

    def says_the_same(self, subject: Subject, damaged: FrameTable) -> bool:
        """Whether all answers of a damaged table are those of the sound one, or other places of the same value.

        In `live` a value may also be given up; whether that is one that nothing needs, the checker has to say.
        """
        try:
            found = answers(damaged)
        except (LookupError, RecursionError):
            return False
        if found == self.answers:
            return True
        if found.keys() != self.answers.keys() or any(found[key][0] != self.answers[key][0] for key in found):
            return False
        held: dict[tuple[int, int], dict[int, frozenset[int]]] = {}
        self._places.check(lambda block, step, contents: held.__setitem__((block, step), dict(contents)))
        for key, (_, _, entries) in found.items():
            where = self.answers[key][1]
            for (one, sound), (other, was_sound) in zip(entries, self.answers[key][2], strict=True):
                # In `live` a dead value that some register still has may be given up: that says less, nothing wrong.
                given_up = isinstance(one, Unavailable) and not subject.full
                if one == other and sound != was_sound:
                    return False
                if one != other and not given_up and not _hold_the_same(subject.func, held.get(where, {}), one, other):
                    return False
        return True


def _values_of(func: Func, contents: dict[int, frozenset[int]], place: Place) -> frozenset[int]:
    """The values that a place or an expression over places may stand for."""
    if isinstance(place, Register | Slot):
        number = place.number if isinstance(place, Register) else SLOT + place.index
        return contents.get(number, frozenset())
    if isinstance(place, Constant):
        return frozenset(v for v, op in enumerate(func.op) if op == Op.CONST and func.imm[v] == place.bits)
    if not isinstance(place, Expression):
        return frozenset()
    args = [_values_of(func, contents, arg) for arg in place.args]
    return frozenset(
        value
        for value, op in enumerate(func.op)
        if op == place.op
        and func.imm[value] == place.imm
        and len(func.args[value]) == len(args)
        and all(arg in values for arg, values in zip(func.args[value], args, strict=True))
    )


def _hold_the_same(func: Func, contents: dict[int, frozenset[int]], one: Place, other: Place) -> bool:
    return bool(_values_of(func, contents, one) & _values_of(func, contents, other))


def answers(table: FrameTable) -> dict[Any, Any]:
    """Everything that a table says about where a frame is and what is where: site -> (facts, (block, step), places)."""
    out: dict[Any, Any] = {"table": ((table.function_index, tuple(table.wasm_offsets), len(table.rows)), (-1, -1), [])}
    for number, block in enumerate(table.blocks):
        for group in block.groups:
            for opcode in range(group.first, group.stop):
                state = table.state(group.offset, opcode)
                types = tuple([entry.type for entry in state.entries])
                sound = [table.sharing(state, position).is_sound for position in range(len(types))]
                facts = types, state.offset, state.opcode, len(state.locals)
                key = "stop", group.offset, opcode
                places = [entry.place for entry in state.entries]
                out[key] = facts, (number, group.step), list(zip(places, sound, strict=True))
    for row in table.rows:
        waits = row.kind == CALL
        state = table.state(row.offset, waits=waits)
        retry, skip = table.retry(row), table.skip(row)
        types = tuple([entry.type for entry in state.entries])
        facts = (
            (types, state.opcode, row.kind, row.tells, row.block, row.step, skip),
            (retry.offset, [place for place, _ in retry.operands]),
        )
        places = [entry.place for entry in state.entries] + [entry.place for _, entry in retry.operands]
        out["row", row.offset, waits] = facts, (row.block, row.step), [(place, False) for place in places]
    return out


# ---- damage to a table ----


def _copied(table: FrameTable) -> FrameTable:
    return decode(encode(table))


def _with(subject: Subject, table: FrameTable) -> Subject:
    return replace(subject, table=table)


def swap_slots(subject: Subject, chance: random.Random) -> Subject | None:
    """Two values change slots."""
    table = _copied(subject.table)
    having = [value for value, slot in enumerate(table.value_slot) if slot >= 0]
    if len(having) < 2:
        return None
    a, b = chance.sample(having, 2)
    table.value_slot[a], table.value_slot[b] = table.value_slot[b], table.value_slot[a]
    return _with(subject, table)


def wrong_slot(subject: Subject, chance: random.Random) -> Subject | None:
    """A value's slot is its neighbour, or gone from the table."""
    table = _copied(subject.table)
    having = [value for value, slot in enumerate(table.value_slot) if slot >= 0]
    if not having:
        return None
    value = chance.choice(having)
    slot = table.value_slot[value]
    table.value_slot[value] = chance.choice([slot + 1, max(slot - 1, 0), -1])
    return _with(subject, table)


def _log_entry(table: FrameTable, chance: random.Random) -> tuple[Block, int] | None:
    found = [(block, at) for block in table.blocks for at, entry in enumerate(block.log) if entry[2] >= 0]
    return chance.choice(found) if found else None


def wrong_register(subject: Subject, chance: random.Random) -> Subject | None:
    """A value is said to be in another register."""
    table = _copied(subject.table)
    found = _log_entry(table, chance)
    if found is None:
        return None
    block, at = found
    step, register, value = block.log[at]
    block.log[at] = step, (register + chance.randrange(1, 32)) % 32, value
    return _with(subject, table)


def swap_registers(subject: Subject, chance: random.Random) -> Subject | None:
    """Two registers change their values."""
    table = _copied(subject.table)
    found = _log_entry(table, chance)
    if found is None:
        return None
    block, at = found
    other = chance.randrange(len(block.log))
    (step, register, value), (step_b, register_b, value_b) = block.log[at], block.log[other]
    block.log[at], block.log[other] = (step, register, value_b), (step_b, register_b, value)
    return _with(subject, table)


def wrong_value(subject: Subject, chance: random.Random) -> Subject | None:
    """A register is said to hold another value, or none."""
    table = _copied(subject.table)
    found = _log_entry(table, chance)
    if found is None:
        return None
    block, at = found
    step, register, _ = block.log[at]
    block.log[at] = step, register, chance.randrange(-1, len(table.value_type))
    return _with(subject, table)


def shift_log(subject: Subject, chance: random.Random) -> Subject | None:
    """A register holds its value some steps earlier or later than it does."""
    table = _copied(subject.table)
    found = _log_entry(table, chance)
    if found is None:
        return None
    block, at = found
    step, register, value = block.log[at]
    block.log[at] = max(step + chance.choice([-2, -1, 1, 2]), 0), register, value
    block.log.sort(key=lambda entry: entry[0])
    return _with(subject, table)


def _group(table: FrameTable, chance: random.Random) -> tuple[Block, int]:
    return chance.choice([(block, at) for block in table.blocks for at in range(len(block.groups))])


def shift_stop(subject: Subject, chance: random.Random) -> Subject | None:
    """A stop point lies elsewhere."""
    table = _copied(subject.table)
    block, at = _group(table, chance)
    group = block.groups[at]
    block.groups[at] = replace(group, offset=max(group.offset + chance.choice([-7, -3, -2, -1, 1, 2, 3, 4, 7]), 0))
    return _with(subject, table)


def shift_step(subject: Subject, chance: random.Random) -> Subject | None:
    """A stop point is counted to the step before or behind it."""
    table = _copied(subject.table)
    block, at = _group(table, chance)
    group = block.groups[at]
    block.groups[at] = replace(group, step=max(group.step + chance.choice([-1, 1, 2]), 0))
    return _with(subject, table)


def lose_stop(subject: Subject, chance: random.Random) -> Subject | None:
    """One or more opcodes have no stop point."""
    table = _copied(subject.table)
    block, at = _group(table, chance)
    group = block.groups[at]
    if group.stop - group.first > 1 and chance.random() < 0.5:
        block.groups[at] = replace(group, stop=group.stop - 1)
    else:
        del block.groups[at]
    return _with(subject, table)


def wrong_opcode(subject: Subject, chance: random.Random) -> Subject | None:
    """A stop point names other opcodes."""
    table = _copied(subject.table)
    block, at = _group(table, chance)
    group = block.groups[at]
    by = chance.choice([-2, -1, 1, 2])
    moved = Group(group.offset, group.step, group.first + by, group.stop + by)
    if moved.first < 0 or moved.stop > len(table.stack_at):
        return None
    block.groups[at] = moved
    return _with(subject, table)


def _damaged_row(subject: Subject, chance: random.Random, how: Callable[[Row], Row | None]) -> Subject | None:
    table = _copied(subject.table)
    if not table.rows:
        return None
    at = chance.randrange(len(table.rows))
    row = how(table.rows[at])
    if row is None or row == table.rows[at]:
        return None
    table.rows[at] = row
    return _with(subject, table)


def shift_row(subject: Subject, chance: random.Random) -> Subject | None:
    """A trap site or return address lies elsewhere."""
    return _damaged_row(
        subject, chance, lambda row: replace(row, offset=max(row.offset + chance.choice([-4, -2, -1, 1, 2, 3, 5]), 0))
    )


def lose_row(subject: Subject, chance: random.Random) -> Subject | None:
    """A trap site or return address is missing."""
    table = _copied(subject.table)
    del table.rows[chance.randrange(len(table.rows))]
    return _with(subject, table)


def wrong_row_opcode(subject: Subject, chance: random.Random) -> Subject | None:
    """A trap site names another opcode."""
    count = len(subject.table.stack_at)
    return _damaged_row(
        subject, chance, lambda row: replace(row, opcode=(row.opcode + chance.randrange(1, count)) % count)
    )


def wrong_retry(subject: Subject, chance: random.Random) -> Subject | None:
    """Trying again begins elsewhere, or with operands in other places."""

    def how(row: Row) -> Row | None:
        if row.block < 0:
            return None
        if row.operands and chance.random() < 0.7:
            at = chance.randrange(len(row.operands))
            place, value = row.operands[at]
            operands = list(row.operands)
            if chance.random() < 0.5:
                operands[at] = (place + 1) % 32, value
            else:
                operands[at] = place, chance.randrange(len(subject.table.value_type))
            return replace(row, operands=tuple(operands))
        return replace(row, start=max(row.start + chance.choice([-3, -1, 1, 2]), 0))

    return _damaged_row(subject, chance, how)


def wrong_skip(subject: Subject, chance: random.Random) -> Subject | None:
    """Going on without is elsewhere, or leaves its result in another place."""

    def how(row: Row) -> Row | None:
        if row.skip < 0:
            return None
        if row.results and chance.random() < 0.6:
            type_, register, slot = row.results[0]
            changed = (type_, register ^ 1, slot) if chance.random() < 0.5 else (type_, register, slot + 1)
            return replace(row, results=(changed, *row.results[1:]))
        return replace(row, skip=row.skip + chance.choice([-1, 1, 2]))

    return _damaged_row(subject, chance, how)


def registers_of_a_caller(subject: Subject, chance: random.Random) -> Subject | None:
    """Registers at a return address are said to hold something."""
    return _damaged_row(subject, chance, lambda row: replace(row, lost=0) if row.kind == CALL else None)


def wrong_recipe(subject: Subject, chance: random.Random) -> Subject | None:
    """A recipe has another operation, another operand, its operands the other way round, or is gone."""
    table = _copied(subject.table)
    if not table.recipes:
        return None
    value = chance.choice(sorted(table.recipes))
    recipe = table.recipes[value]
    what = chance.randrange(4)
    if what == 0:
        table.recipes[value] = replace(recipe, op=recipe.op + 1)
    elif what == 1 and recipe.args:
        args = list(recipe.args)
        args[chance.randrange(len(args))] = chance.randrange(len(table.value_type))
        table.recipes[value] = replace(recipe, args=tuple(args))
    elif what == 2 and len(recipe.args) > 1:
        table.recipes[value] = replace(recipe, args=tuple(reversed(recipe.args)))
    else:
        del table.recipes[value]
    return _with(subject, table)


def wrong_birth(subject: Subject, chance: random.Random) -> Subject | None:
    """A value is computed earlier or later than the recipe says."""
    table = _copied(subject.table)
    having = [value for value, recipe in table.recipes.items() if recipe.born >= 0]
    if not having:
        return None
    value = chance.choice(having)
    recipe = table.recipes[value]
    table.recipes[value] = replace(recipe, born=max(recipe.born + chance.choice([-3, -2, -1]), 0))
    return _with(subject, table)


def wrong_constant(subject: Subject, chance: random.Random) -> Subject | None:
    """A constant has another bit."""
    table = _copied(subject.table)
    if not table.constants:
        return None
    value = chance.choice(sorted(table.constants))
    table.constants[value] ^= 1 << chance.randrange(32)
    return _with(subject, table)


def wrong_type(subject: Subject, chance: random.Random) -> Subject | None:
    """A value has another type."""
    table = _copied(subject.table)
    value = chance.randrange(len(table.value_type))
    table.value_type[value] = chance.choice(
        [type_ for type_ in (0x7F, 0x7E, 0x7D, 0x7C) if type_ != table.value_type[value]]
    )
    return _with(subject, table)


def wrong_local(subject: Subject, chance: random.Random) -> Subject | None:
    """A local takes its value elsewhere, takes another, or does not."""
    table = _copied(subject.table)
    if not table.local_events:
        return None
    at = chance.randrange(len(table.local_events))
    opcode, local, value = table.local_events[at]
    what = chance.randrange(4)
    if what == 0:
        del table.local_events[at]
    elif what == 1:
        table.local_events[at] = opcode, local, chance.randrange(len(table.value_type))
    elif what == 2:
        table.local_events[at] = opcode, chance.randrange(len(table.initial_locals)), value
    else:
        table.local_events[at] = max(opcode + chance.choice([-1, 1]), 0), local, value
        table.local_events.sort(key=lambda event: event[0])
    return _with(subject, table)


def wrong_operand(subject: Subject, chance: random.Random) -> Subject | None:
    """An operand is another value, or the stack has lost its top."""
    table = _copied(subject.table)
    if not table.cell_value:
        return None
    if chance.random() < 0.5:
        cell = chance.randrange(len(table.cell_value))
        table.cell_value[cell] = chance.randrange(len(table.value_type))
    else:
        opcode = chance.choice([index for index, cell in enumerate(table.stack_at) if cell >= 0])
        table.stack_at[opcode] = table.cell_below[table.stack_at[opcode]]
    return _with(subject, table)


def lose_derivation(subject: Subject, chance: random.Random) -> Subject | None:
    """Something computed from a value is forgotten: a write in place would come too late."""
    table = _copied(subject.table)
    if not table.derived:
        return None
    value = chance.choice(sorted(table.derived))
    ranges = table.derived[value]
    at = chance.randrange(len(ranges))
    ranges[at] = ranges[at][0], ranges[at][0]
    return _with(subject, table)


def lose_reuse(subject: Subject, chance: random.Random) -> Subject | None:
    """A value that several opcodes compute counts as one's own."""
    table = _copied(subject.table)
    if not table.reused:
        return None
    table.reused.discard(chance.choice(sorted(table.reused)))
    return _with(subject, table)


# ---- damage to an allocation or to code ----


def drop_edge_move(subject: Subject, chance: random.Random) -> Subject | None:
    """A move of an edge is missing in the allocation."""
    allocation = copy.deepcopy(subject.allocation)
    having = [moves for ways in allocation.edge_moves for moves in ways if moves]
    if not having:
        return None
    moves = chance.choice(having)
    del moves[chance.randrange(len(moves))]
    return replace(subject, allocation=allocation)


def drop_spill(subject: Subject, chance: random.Random) -> Subject | None:
    """A value is said to have no slot, which its code stores to. (A parameter passed in its slot is there all the
    same.)"""
    allocation = copy.deepcopy(subject.allocation)
    made = [step.value for steps in allocation.steps for step in steps if step.kind == 2 and step.out >= 0]
    having = [value for value in made if allocation.slot[value] >= 0]
    if not having:
        return None
    allocation.slot[chance.choice(having)] = -1
    return replace(subject, allocation=allocation)


def wrong_source(subject: Subject, chance: random.Random) -> Subject | None:
    """A step reads one of its operands from another register."""
    allocation = copy.deepcopy(subject.allocation)
    having = [
        (steps, at) for steps in allocation.steps for at, step in enumerate(steps) if step.ins and step.ins[0] >= 0
    ]
    if not having:
        return None
    steps, at = chance.choice(having)
    step = steps[at]
    steps[at] = Step(step.kind, step.value, ((step.ins[0] + chance.randrange(1, 32)) % 32, *step.ins[1:]), step.out)
    return replace(subject, allocation=allocation)


def shift_step_offset(subject: Subject, chance: random.Random) -> Subject | None:
    """A step begins elsewhere."""
    emitted = copy.deepcopy(subject.emitted)
    offsets = chance.choice([marks for marks in emitted.step_offsets if marks])
    at = chance.randrange(len(offsets))
    offsets[at] = max(offsets[at] + chance.choice([-3, -1, 1, 2, 3]), 0)
    return replace(subject, emitted=emitted)


def _without(subject: Subject, start: int, stop: int) -> Subject:
    code = bytearray(subject.emitted.code)
    code[start:stop] = bytes([NOP]) * (stop - start)
    return replace(subject, emitted=replace(subject.emitted, code=bytes(code)))


def drop_store_bytes(subject: Subject, chance: random.Random) -> Subject | None:
    """A store to a slot is missing in the code."""
    emitted = subject.emitted
    stores = [
        found
        for found in disassemble(emitted.code[: emitted.data_start], arch="x86_64")
        if found.mnemonic.startswith("mov") and "[rbp -" in found.operands_text.split(",")[0]
    ]
    found = chance.choice(stores)  # the instance block's is always there
    return _without(subject, found.address, found.address + found.size_bytes)


def drop_edge_bytes(subject: Subject, chance: random.Random) -> Subject | None:
    """The code of an edge does nothing."""
    emitted = subject.emitted
    having = [(start, stop) for ways in emitted.edge_offsets for start, stop in ways if stop > start]
    if not having:
        return None
    return _without(subject, *chance.choice(having))


def drop_step_bytes(subject: Subject, chance: random.Random) -> Subject | None:
    """The code of a move does nothing."""
    emitted, having = subject.emitted, []
    for steps, marks in zip(subject.allocation.steps, emitted.step_offsets, strict=True):
        having += [
            (marks[at], marks[at + 1]) for at, step in enumerate(steps) if step.kind != 2 and marks[at + 1] > marks[at]
        ]
    if not having:
        return None
    return _without(subject, *chance.choice(having))


def turn_branch(subject: Subject, chance: random.Random) -> Subject | None:
    """A branch goes the other way: its condition's lowest bit (Intel SDM volume 2, Jcc)."""
    func, emitted, having = subject.func, subject.emitted, []
    for number, block in enumerate(func.blocks):
        targets = {emitted.block_offsets[edge.target] for edge in block.edges}
        if func.op[block.instructions[-1]] == Op.BRANCH and len(targets) > 1:
            start, stop = emitted.step_offsets[number][-2:]
            having += [
                found.address + (found.code[0] == 0x0F)
                for found in disassemble(emitted.code[start:stop], start, arch="x86_64")
                if found.mnemonic in ("je", "jne", "jl", "jge", "jb", "jae", "jg", "jle", "ja", "jbe")
            ]
    if not having:
        return None
    code = bytearray(emitted.code)
    code[chance.choice(having)] ^= 1
    return replace(subject, emitted=replace(emitted, code=bytes(code)))


OF_TABLES: tuple[Mutation, ...] = (
    swap_slots,
    wrong_slot,
    wrong_register,
    swap_registers,
    wrong_value,
    shift_log,
    shift_stop,
    shift_step,
    lose_stop,
    wrong_opcode,
    shift_row,
    lose_row,
    wrong_row_opcode,
    wrong_retry,
    wrong_skip,
    registers_of_a_caller,
    wrong_recipe,
    wrong_birth,
    wrong_constant,
    wrong_type,
    wrong_local,
    wrong_operand,
    lose_derivation,
    lose_reuse,
)
OF_CODE: tuple[Mutation, ...] = (
    drop_edge_move,
    drop_spill,
    wrong_source,
    shift_step_offset,
    drop_store_bytes,
    drop_edge_bytes,
    drop_step_bytes,
    turn_branch,
)
