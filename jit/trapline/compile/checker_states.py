"""Proves a frame table: that every place it names holds the value that the state means, wherever it says so.

Requires: a Func with its Flow, its Places, the sites of its bytes. The table is taken as it is asked, nothing of how it
was made is trusted. Raises: CheckError.

What a state means is read from the Func: locals by its events, operands by its cells. What a place holds is what Places
has found from the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from trapline.compile.allocate import SLOT, Allocation, Machine
from trapline.compile.checker_places import Contents, Places
from trapline.compile.checker_ssa import CheckError, Flow
from trapline.compile.frame_table import CALL, ENTRY, FrameTable, Group, Row
from trapline.compile.ir import Func, Op
from trapline.compile.liveness import Liveness, analyse
from trapline.compile.operations import PURE_OPS
from trapline.compile.places import (
    Constant,
    Entry,
    Expression,
    Incoming,
    Outgoing,
    Place,
    Register,
    Slot,
    State,
    Unavailable,
)
from trapline.compile.tabulate import Source, SourceText

__all__ = ["SiteLike", "check_states"]

_OP: Final = 2
_NOTHING: Final[frozenset[int]] = frozenset()
_WORD: Final = 1 << 24
_EVERY: Final = (1 << 32) - 1


class SiteLike(Protocol):
    """A trap site or return address of the bytes (x86_64/check_code.py, Site)."""

    @property
    def offset(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def written(self) -> int: ...


class _Values:
    """What each state means: locals and operands before each opcode, as SSA values."""

    def __init__(self, func: Func) -> None:
        self._func = func
        self._events = func.local_events
        self._at = 0
        self._next = 0
        self._locals = list(func.initial_locals)

    def locals_before(self, opcode: int) -> list[int]:
        if opcode < self._at:
            self._next, self._locals = 0, list(self._func.initial_locals)
        self._at = opcode
        events = self._events
        while self._next < len(events) and events[self._next][0] <= opcode:
            _, local, value = events[self._next]
            self._locals[local] = value
            self._next += 1
        return self._locals

    def operands_before(self, opcode: int) -> list[int]:
        func = self._func
        out, cell = [], func.stack_at[opcode]
        while cell >= 0:
            out.append(func.cell_value[cell])
            cell = func.cell_below[cell]
        out.reverse()
        return out


class _Check:
    def __init__(
        self,
        func: Func,
        flow: Flow,
        places: Places,
        emitted: Source,
        body: SourceText,
        machine: Machine,
        sites: Mapping[tuple[int, bool], SiteLike],
        table: FrameTable,
        full: bool,
    ) -> None:
        self._func = func
        self._flow = flow
        self._places = places
        self._allocation: Allocation = places.allocation
        self._emitted = emitted
        self._body = body
        self._machine = machine
        self._table = table
        self._full = full
        self._values = _Values(func)
        self._live: Liveness = analyse(func, False)
        self._groups: list[list[Group]] = [[] for _ in func.blocks]
        """What the table's groups have to be."""
        self._wanted: dict[int, set[int]] = {}
        """Opcode -> offsets of its stop points."""
        self._sites: dict[tuple[int, int], list[SiteLike]] = {}
        for site in sites.values():
            self._sites.setdefault((site.block, site.step), []).append(site)
        self._site_keys = set(sites)
        self._used = _registers_used_behind(func, self._allocation, places)
        self._uses = analyse(func, full)
        self._sources = _sources(func)
        self._reused = self._computed_elsewhere()
        # Where the walk is:
        self._block = self._opcode = self._offset = -1
        self._now: Contents = {}
        self._lost = 0
        self._position = 0
        self._proved: dict[int, tuple[Place, int]] = {}
        self._known_touched: tuple[tuple[int, int], bytes] | None = None

    def _fail(self, what: str, found: object = None, expected: object = None) -> CheckError:
        return CheckError(
            self._func.index,
            what,
            block=self._block,
            opcode=self._opcode,
            offset=self._offset,
            found=found,
            expected=expected,
        )

    def run(self) -> None:
        table, body, func = self._table, self._body, self._func
        if table.function_index != func.index or table.wasm_offsets != body.offsets:
            raise self._fail("the table of another function", table.function_index, func.index)
        try:
            self._rows_are_sites()
            self._entry_rows()
            self._places.check(self._visit)
            self._stops()
        except (LookupError, RecursionError) as error:
            raise self._fail(f"the table has no answer: {error!r}") from None

    # ---- which sites there are ----

    def _rows_are_sites(self) -> None:
        found = [(row.offset, row.kind == CALL) for row in self._table.rows]
        if len(set(found)) != len(found) or set(found) != self._site_keys:
            self._offset = min(set(found) ^ self._site_keys, default=(-1, False))[0]
            raise self._fail("trap sites and return addresses", len(found), len(self._site_keys))

    def _stops(self) -> None:
        """Every opcode that can be reached has its stop points, and nothing else is one."""
        for number, expected_groups in enumerate(self._groups):
            self._block = number
            groups = self._table.blocks[number].groups if number < len(self._table.blocks) else []
            if groups != expected_groups:
                raise self._fail("groups of opcodes", groups, expected_groups)
        self._block = -1
        expected = sorted((offset, opcode) for opcode, offsets in self._wanted.items() for offset in offsets)
        if self._table.stops != expected:
            difference = set(self._table.stops) ^ set(expected)
            self._offset, self._opcode = min(difference, default=(-1, -1))
            raise self._fail("stop points", len(self._table.stops), len(expected))
        for opcode in range(len(self._body.opcodes)):
            if (self._func.stack_at[opcode] != -2) != (opcode in self._wanted):
                self._opcode = opcode
                raise self._fail("an opcode that can be reached has a stop point, no other does")
            if opcode in self._wanted and set(self._table.stops_of(opcode)) != self._wanted[opcode]:
                self._opcode = opcode
                raise self._fail("stop points", self._table.stops_of(opcode), self._wanted[opcode])

    # ---- the walk ----

    def _visit(self, block: int, step: int, contents: Contents) -> None:
        """Before a step: stop points here, and the sites of the step."""
        steps = self._allocation.steps[block]
        behind_op = step == 0 or steps[step - 1].kind == _OP
        sites = self._sites.get((block, step), ())
        if not behind_op and not sites:
            return
        self._block = block
        if behind_op and step < len(steps):
            self._group(block, step, contents)
        for site in sites:
            self._site(site, block, step, contents)

    def _group(self, block: int, step: int, contents: Contents) -> None:
        """The opcodes whose stop point lies before a step."""
        func, steps = self._func, self._allocation.steps[block]
        coming = step
        while steps[coming].kind != _OP:
            coming += 1
        last = func.pos[steps[coming].value]
        first = func.blocks[block].start_pos
        for before in range(step - 1, -1, -1):
            if steps[before].kind == _OP:
                first = max(first, func.pos[steps[before].value] + 1)
                break
        if first > last:
            return
        self._offset = self._emitted.step_offsets[block][step]
        self._now = contents
        self._lost = 0
        self._position = self._live.position[steps[coming].value]
        used = self._used[block][step]
        self._proved = {}
        self._groups[block].append(Group(self._offset, step, first, last + 1))
        for opcode in range(first, last + 1):
            self._opcode = opcode
            self._wanted.setdefault(opcode, set()).add(self._offset)
            state = self._table.state(self._offset, opcode)
            if not (state.offset == self._offset and state.opcode == opcode):
                raise self._fail("state", (state.offset, state.opcode), (self._offset, opcode))
            self._state(state, opcode, used)

    # ---- one state ----

    def _state(self, state: State, opcode: int, used: int) -> None:
        func = self._func
        locals_, operands = self._values.locals_before(opcode), self._values.operands_before(opcode)
        if len(state.locals) != len(locals_) or len(state.operands) != len(operands):
            found = len(state.locals), len(state.operands)
            raise self._fail("locals and operands", found, (len(locals_), len(operands)))
        meant = [*locals_, *operands]
        numbers: dict[int, int] = {}
        for position, (entry, value) in enumerate(zip(state.entries, meant, strict=True)):
            if entry.type != func.type[value]:
                raise self._fail(f"type of entry {position}", entry.type, func.type[value])
            if numbers.setdefault(entry.value, value) != value:
                raise self._fail(f"entry {position} shares a value with another", value, numbers[entry.value])
            self._entry(entry, value)
        if len(set(numbers.values())) != len(numbers):
            raise self._fail("one value has two numbers", numbers)
        self._registers(state, numbers, used)
        touched = self._touched()
        for position, (entry, value) in enumerate(zip(state.entries, meant, strict=True)):
            if touched[value >> 3] >> (value & 7) & 1 or value in self._reused:
                self._unsound(state, position, entry)

    def _unsound(self, state: State, position: int, entry: Entry) -> None:
        """The table must not say that an entry may be written in place."""
        table, value = self._table, entry.value
        if value in table.reused or not isinstance(entry.place, Register | Slot):
            return
        for start, stop in table.derived.get(value, ()):
            if start <= state.reached < stop:
                return
        if table.sharing(state, position).is_sound:
            raise self._fail(f"a write to entry {position} comes too late for what was computed from it", value)

    def _touched(self) -> bytes:
        """Values, as bits of bytes, from which something was computed that is still needed here."""
        known = self._known_touched
        if known is not None and known[0] == (self._block, self._position):
            return known[1]
        end, position, found = self._uses.end, self._position, 0
        for values in self._now.values():
            for value in values:
                if self._sources[value] and end[value] >= position:
                    found |= self._sources[value]
        touched = found.to_bytes(len(self._sources) // 8 + 1, "little")
        self._known_touched = (self._block, self._position), touched
        return touched

    def _computed_elsewhere(self) -> set[int]:
        """Values that more than one opcode computes, or one that is not in the block that does: lowering and later
        passes have found them equal, and a write to one must not become the others'."""
        func, home, opcodes = self._func, self._flow.home, self._body.opcodes
        where: dict[int, list[int]] = {}
        for opcode, code in enumerate(opcodes[:-1]):
            cell = func.stack_at[opcode + 1]
            if code in PURE_OPS and func.stack_at[opcode] != -2 and cell >= 0:
                where.setdefault(func.cell_value[cell], []).append(opcode)
        out = set()
        for value, found in where.items():
            at = home[value]
            if func.op[value] in PURE_OPS and func.op[value] != Op.CONST:
                block = func.blocks[at[0]] if at is not None else None
                last = func.pos[block.instructions[-1]] if block is not None else -1
                if len(found) > 1 or (block is not None and not block.start_pos <= found[0] <= last):
                    out.add(value)
        return out

    def _entry(self, entry: Entry, value: int) -> None:
        """Proves an entry, once for each group and place."""
        known = self._proved.get(value)
        if known is not None and known[1] == entry.value and known[0] == entry.place:
            return
        self._place(entry.place, value)
        self._proved[value] = entry.place, entry.value

    def _registers(self, state: State, numbers: dict[int, int], used: int) -> None:
        """Registers that are said to hold a value do, and all that will be read again are said."""
        contents = self._now
        by_value = {value: number for number, value in numbers.items()}
        for register, number in state.registers.items():
            value = numbers.get(number)
            if value is not None and not self._holds(register, value):
                raise self._fail(f"register {register}", f"value {number}", f"value {value} of the function")
        for register in range(32):
            if not used >> register & 1 or self._lost >> register & 1:
                continue
            held = contents.get(register, _NOTHING)
            for value in held:
                found = by_value.get(value)
                if found is None or state.registers.get(register) == found or self._func.op[value] == Op.CONST:
                    continue
                if not any(other != value and self._live.end[other] >= self._position for other in held):
                    raise self._fail(f"register {register} will be read as a value of the state", None, value)

    def _holds(self, place: int, value: int) -> bool:
        if place < 32 and self._lost >> place & 1:
            return False
        return value in self._now.get(place, _NOTHING)

    def _place(self, place: Place, value: int) -> None:
        func = self._func
        if isinstance(place, Register | Slot):
            number = place.number if isinstance(place, Register) else SLOT + place.index
            if not self._holds(number, value):
                held = sorted(self._now.get(number, _NOTHING))
                raise self._fail(f"{place} of value {value}", held, value)
        elif isinstance(place, Constant):
            if func.op[value] != Op.CONST or func.imm[value] != place.bits:
                raise self._fail(f"a constant for value {value}", place.bits, (func.op[value], func.imm[value]))
        elif isinstance(place, Expression):
            self._expression(place, value)
        elif isinstance(place, Unavailable):
            self._unavailable(value)
        else:
            raise self._fail(f"{place} of value {value}")

    def _expression(self, place: Expression, value: int) -> None:
        func = self._func
        op, args = func.op[value], func.args[value]
        if op not in PURE_OPS or op != place.op or func.imm[value] != place.imm:
            raise self._fail(f"recipe of value {value}", (place.op, place.imm), (op, func.imm[value]))
        first = self._first_operand().get(value)
        if first is not None and first != args[0] and op in (0x92, 0x94, 0xA0, 0xA2):
            args = (args[1], args[0])  # of two NaNs the machine's first comes out
        if len(args) != len(place.args):
            raise self._fail(f"operands of the recipe of value {value}", len(place.args), len(args))
        for part, arg in zip(place.args, args, strict=True):
            self._place(part, arg)

    def _first_operand(self) -> dict[int, int]:
        if self._known_order is None:
            places = self._places
            places.first_operand.clear()
            places.check()
            self._known_order = dict(places.first_operand)
        return self._known_order

    _known_order: dict[int, int] | None = None

    def _unavailable(self, value: int) -> None:
        if self._full:
            raise self._fail(f"value {value} is gone")
        if self._is_needed(value):
            raise self._fail(f"value {value} is gone, but something still needs or keeps it")

    def _is_needed(self, value: int) -> bool:
        """Whether a value must be somewhere, or can be computed from such values."""
        work = [value]
        while work:
            at = work.pop()
            op, slot = self._func.op[at], self._allocation.slot[at]
            if op == Op.CONST or (slot >= 0 and self._holds(SLOT + slot, at)):
                continue
            if self._flow.home[at] is not None:
                if self._live.end[at] < self._position:
                    return False
            elif op in PURE_OPS:
                work.extend(self._func.args[at])
            else:
                return False
        return True

    # ---- trap sites and return addresses ----

    def _entry_rows(self) -> None:
        """Sites in the function's first instructions: parameters where they came, everything else zero."""
        func = self._func
        params = func.blocks[0].params
        places = self._machine.parameter_places([func.type[param] for param in params])
        wanted: list[Place] = [Incoming(place - _WORD) if place >= _WORD else Register(place) for place in places]
        for value in func.initial_locals[len(params) :]:
            bits = func.imm[value]
            assert isinstance(bits, int)
            wanted.append(Constant(bits))
        for site in self._sites.get((-1, -1), ()):
            self._offset, self._opcode = site.offset, 0
            row = self._table.row_at(site.offset)
            if row is None or (row.kind, row.opcode, row.block) != (ENTRY, 0, -1):
                raise self._fail("row of the function's entry", row)
            state = self._table.state(site.offset)
            found = [entry.place for entry in state.locals]
            if found != wanted or state.operands or state.opcode != 0:
                raise self._fail("state on entry", found, wanted)
            if [entry.type for entry in state.locals] != [func.type[value] for value in func.initial_locals]:
                raise self._fail("types on entry")

    def _site(self, site: SiteLike, block: int, step: int, contents: Contents) -> None:
        func, steps = self._func, self._allocation.steps[block]
        waits = site.kinds == (CALL,)
        value = steps[step].value
        self._offset, self._opcode = site.offset, func.pos[value]
        row = self._table.row_at(site.offset, waits=waits)
        if row is None or (row.kind == CALL) != waits:
            raise self._fail("a trap site without a row", row)
        marks = self._emitted.step_offsets[block]
        found = row.kind in site.kinds, row.opcode, row.block, row.step, row.start
        wanted = True, self._opcode, block, step, marks[step]
        if found != wanted:
            raise self._fail("row", (row.kind, *found[1:]), (site.kinds, *wanted[1:]))
        self._now, self._lost = contents, site.written
        self._position = self._live.position[value] + waits
        self._proved = {}
        self._tells(row, block, step)
        state = self._table.state(site.offset, waits=waits)
        if state.opcode != self._opcode or state.offset != site.offset:
            raise self._fail("state", (state.offset, state.opcode), (site.offset, self._opcode))
        if waits:
            self._caller(state)
        else:
            self._state(state, self._opcode, self._used[block][step + 1] & ~self._changed(block, step))
        self._retry(row, block, step, waits)
        self._skip(row, block, step)

    def _changed(self, block: int, step: int) -> int:
        """Registers that a step writes."""
        done = self._allocation.steps[block][step]
        out = 1 << done.out if 0 <= done.out < 32 else 0
        for register in self._places.shape(done.value).clobbers:
            out |= 1 << register
        return out

    def _caller(self, state: State) -> None:
        """While a callee runs the arguments may be gone: it has them now."""
        func = self._func
        locals_, operands = self._values.locals_before(self._opcode), self._values.operands_before(self._opcode)
        if len(state.locals) != len(locals_) or len(state.operands) != len(operands) or state.registers:
            raise self._fail("locals, operands and registers of a caller")
        step = self._sites_step()
        taken = len(func.args[step])
        kept = len(locals_) + len(operands) - taken
        named_on = {*locals_, *operands[: len(operands) - taken]}
        for position, (entry, value) in enumerate(zip(state.entries, [*locals_, *operands], strict=True)):
            if entry.type != func.type[value]:
                raise self._fail(f"type of entry {position}", entry.type, func.type[value])
            if position >= kept and isinstance(entry.place, Unavailable):
                if value in named_on and self._full:
                    raise self._fail(f"argument {position - kept} is gone")
                if self._holds_anywhere(value):
                    raise self._fail(f"argument {position - kept} is gone, but is somewhere", None, value)
                continue
            self._entry(entry, value)

    def _holds_anywhere(self, value: int) -> bool:
        slot = self._allocation.slot[value]
        return self._func.op[value] == Op.CONST or (slot >= 0 and self._holds(SLOT + slot, value))

    def _sites_step(self) -> int:
        """The call whose return address is looked at."""
        row = self._table.row_at(self._offset, waits=True)
        assert row is not None
        marks = self._emitted.step_offsets[self._block]
        for index, step in enumerate(self._allocation.steps[self._block]):
            if marks[index] == row.start and step.kind == _OP:
                return step.value
        raise self._fail("a return address without a call")

    def _tells(self, row: Row, block: int, step: int) -> None:
        ins = self._allocation.steps[block][step].ins
        if row.kind == "division":
            wanted = ins[1]
        elif row.kind.startswith("truncation"):
            wanted = ins[0]
        else:
            wanted = -1
        if row.tells != wanted:
            raise self._fail("place of the operand that tells more", row.tells, wanted)

    def _retry(self, row: Row, block: int, step: int, waits: bool) -> None:
        """Every operand of the step can be put where the step wants it."""
        func = self._func
        done = self._allocation.steps[block][step]
        wanted: list[tuple[Place, int]] = []
        for place, arg in zip(done.ins, func.args[done.value], strict=False):
            if place >= 0 and not waits:  # nobody begins a call again that is under way
                wanted.append((Outgoing(place - _WORD) if place >= _WORD else _place_of(place), arg))
        found = self._table.retry(row)
        if found.offset != self._emitted.step_offsets[block][step] or [place for place, _ in found.operands] != [
            place for place, _ in wanted
        ]:
            raise self._fail("where to try again", found, wanted)
        for (_, entry), (_, arg) in zip(found.operands, wanted, strict=True):
            if entry.type != func.type[arg]:
                raise self._fail("type of an operand to try again with", entry.type, func.type[arg])
            self._place(entry.place, arg)

    def _skip(self, row: Row, block: int, step: int) -> None:
        func, steps = self._func, self._allocation.steps[block]
        value = steps[step].value
        results = [step] if steps[step].out >= 0 else []
        behind = step + 1
        while behind < len(steps) and steps[behind].kind == _OP and func.op[steps[behind].value] == Op.RESULT:
            results.append(behind)
            behind += 1
        complete = len(results) == (len(func.result_types_of.get(value, ())) or int(func.type[value] != 0))
        found = self._table.skip(row)
        if func.op[value] == Op.TRAP or not complete:
            if found is not None:
                raise self._fail("an opcode that cannot be skipped", found)
            return
        wanted = []
        for at in results:
            places: list[Register | Slot] = [Register(steps[at].out)]
            if self._allocation.slot[steps[at].value] >= 0:
                places.append(Slot(self._allocation.slot[steps[at].value]))
            wanted.append((func.type[steps[at].value], tuple(places)))
        offset = self._emitted.step_offsets[block][behind]
        if found is None or (found.offset, found.results) != (offset, tuple(wanted)):
            raise self._fail("where to go on without", found, (offset, wanted))


def _sources(func: Func) -> list[int]:
    """For each value those, as bits, that it was purely computed from, near and far."""
    out = [0] * len(func.op)
    for block in func.blocks:
        for value in block.instructions:
            if func.op[value] in PURE_OPS:
                for arg in func.args[value]:
                    out[value] |= 1 << arg | out[arg]
    return out


def _place_of(number: int) -> Place:
    return Slot(number - SLOT) if number >= SLOT else Register(number)


def _registers_used_behind(func: Func, allocation: Allocation, places: Places) -> list[list[int]]:
    """For each block and step the registers, as bits, that are read behind that point before they are written."""
    count = len(func.blocks)
    entry = [0] * count
    out: list[list[int]] = [[] for _ in range(count)]
    changed = True
    while changed:
        changed = False
        for number in range(count - 1, -1, -1):
            used = 0
            for way, edge in enumerate(func.blocks[number].edges):
                used |= _before_edge(allocation, number, way, edge.target, entry[edge.target])
            marks = [used]
            for step in reversed(allocation.steps[number]):
                if step.kind == _OP and func.op[step.value] not in (Op.JUMP, Op.BRANCH, Op.SWITCH):
                    used = 0 if places.shape(step.value).call else used
                    for register in places.shape(step.value).clobbers:
                        used &= ~(1 << register)
                if 0 <= step.out < 32:
                    used &= ~(1 << step.out)
                for place in step.ins:
                    if 0 <= place < 32:
                        used |= 1 << place
                marks.append(used)
            marks.reverse()
            out[number] = marks
            if number:
                for param, place in zip(func.blocks[number].params, allocation.param_places[number], strict=True):
                    if allocation.slot[param] >= 0 and place < 32 and param not in allocation.delivered:
                        used |= 1 << place
            if used != entry[number]:
                entry[number] = used
                changed = True
    return out


def _before_edge(allocation: Allocation, number: int, way: int, target: int, used: int) -> int:
    for step in reversed(allocation.edge_moves[number][way]):
        if 0 <= step.out < 32:
            used &= ~(1 << step.out)
        for place in step.ins:
            if 0 <= place < 32:
                used |= 1 << place
    return used


def check_states(
    func: Func,
    flow: Flow,
    places: Places,
    emitted: Source,
    body: SourceText,
    machine: Machine,
    sites: Mapping[tuple[int, bool], SiteLike],
    table: FrameTable,
    full: bool,
) -> None:
    """Every state of a table, and that there is one wherever code can stop."""
    _Check(func, flow, places, emitted, body, machine, sites, table, full).run()
