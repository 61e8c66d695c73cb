"""Makes the frame table of a compiled function.

Requires: the Func, Allocation and emitted offsets of one compilation, the body they come from, the machine they are
for. Leaves: a FrameTable. Compiling again gives the same table, so that it is made when somebody asks for it.

The stop point of an opcode lies behind the last step that belongs to an earlier one, before the moves that lead up to
its own instruction: no place that the state names has been given up yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from trapline.compile.allocate import Allocation, Machine, Step
from trapline.compile.frame_table import CALL, EVERY_REGISTER, Block, FrameTable, Group, Recipe, Row
from trapline.compile.ir import Func, Op
from trapline.compile.liveness import Liveness, analyse
from trapline.compile.operations import PURE_OPS

__all__ = ["Source", "SourceRow", "SourceText", "tabulate"]

_OP: Final = 2
_COMMUTES: Final = frozenset([0x92, 0x94, 0xA0, 0xA2])
"""Floating-point operations whose operands the allocator may exchange; of two NaNs the first comes out."""


class SourceRow(Protocol):
    """A trap site or return address as emission tells of it (x86_64/emit.py, TrapRow)."""

    @property
    def offset(self) -> int: ...
    @property
    def pos(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def place(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def step(self) -> int: ...


class Source(Protocol):
    """What emission leaves (x86_64/emit.py, Emitted)."""

    @property
    def traps(self) -> Sequence[SourceRow]: ...
    @property
    def step_offsets(self) -> list[list[int]]: ...
    @property
    def edge_offsets(self) -> list[list[tuple[int, int]]]: ...


class SourceText(Protocol):
    """What a table needs of a body: trapline.wasm.body.Body."""

    opcodes: list[int]
    offsets: list[int]


class _Tabulation:
    def __init__(
        self, func: Func, allocation: Allocation, emitted: Source, body: SourceText, machine: Machine, full: bool
    ) -> None:
        self._func = func
        self._allocation = allocation
        self._emitted = emitted
        self._body = body
        self._machine = machine
        self._full = full
        self._number = [-1] * len(func.op)
        """SSA value -> value of the table."""
        self._values: list[int] = []
        self._first: list[int] = []
        """Of each value of the table, the first opcode whose state names it."""
        self._home: dict[int, tuple[int, int]] = {}
        """SSA value -> (block, step) that computes it."""
        self._computed: dict[int, int] = {}
        """SSA value that a pure opcode pushes -> how many do."""
        self._computed_at: dict[int, int] = {}
        self.out = FrameTable(function_index=func.index, wasm_offsets=list(body.offsets))

    def run(self) -> FrameTable:
        out, func = self.out, self._func
        out.initial_locals = [self._named(value, 0) for value in func.initial_locals]
        self._states()
        for number, steps in enumerate(self._allocation.steps):
            for index, step in enumerate(steps):
                if step.kind == _OP:
                    self._home[step.value] = number, index
        self._rows()
        self._recipes()
        for number in range(len(func.blocks)):
            out.blocks.append(self._block(number))
        self._describe()
        self._derivations()
        types = [func.type[param] for param in func.blocks[0].params]
        out.entry_places = self._machine.parameter_places(types)
        out.edges = sorted(self._edges())
        return out

    # ---- values ----

    def _named(self, value: int, opcode: int) -> int:
        number = self._number[value]
        if number < 0:
            number = self._number[value] = len(self._values)
            self._values.append(value)
            self._first.append(opcode)
        return number

    def _states(self) -> None:
        """Operand stacks and locals, with cells and values numbered in the order in which opcodes bring them up."""
        func, out, named = self._func, self.out, self._named
        below, held = func.cell_below, func.cell_value
        opcodes = self._body.opcodes
        events = func.local_events
        coming = 0
        chain: list[int] = []  # cells of func, bottom to top
        cells: list[int] = []  # the same as cells of the table
        for index, cell in enumerate(func.stack_at[: len(opcodes)]):
            while coming < len(events) and events[coming][0] <= index:
                opcode, local, value = events[coming]
                out.local_events.append((opcode, local, named(value, opcode)))
                coming += 1
            if cell < -1:
                out.stack_at.append(-2)
                continue
            missing = []
            while cell != (chain[-1] if chain else -1):
                if chain and chain[-1] > cell:
                    chain.pop()
                    cells.pop()
                else:
                    missing.append(cell)
                    cell = below[cell]
            for cell in reversed(missing):
                value = held[cell]
                out.cell_value.append(named(value, index))
                out.cell_below.append(cells[-1] if cells else -1)
                chain.append(cell)
                cells.append(len(out.cell_value) - 1)
            if missing and index and opcodes[index - 1] in PURE_OPS:
                self._computed[value] = self._computed.get(value, 0) + 1
                self._computed_at[value] = index - 1
            out.stack_at.append(cells[-1] if cells else -1)

    def _recipes(self) -> None:
        """What a pure value is computed from, where a state can name it before that is done, or it never is."""
        func, at = self._func, 0
        steps = self._allocation.steps
        while at < len(self._values):
            value = self._values[at]
            op = func.op[value]
            if op == Op.CONST:
                bits = func.imm[value]
                assert isinstance(bits, int)
                self.out.constants[at] = bits
            elif op in PURE_OPS:
                home = self._home.get(value)
                first = self._first[at]
                if home is None or first <= func.pos[value]:
                    args = func.args[value]
                    if home is not None and op in _COMMUTES and self._is_swapped(steps[home[0]], home, args):
                        args = (args[1], args[0])
                    numbers = tuple([self._named(arg, first) for arg in args])
                    for number in numbers:
                        self._first[number] = min(self._first[number], first)
                    block, born = home if home is not None else (-1, -1)
                    self.out.recipes[at] = Recipe(op, func.imm[value], numbers, block, born)
            at += 1

    def _is_swapped(self, steps: list[Step], home: tuple[int, int], args: tuple[int, ...]) -> bool:
        """Whether the machine takes the second operand first."""
        block, index = home
        register = steps[index].ins[0]
        held = -1
        for at, where, value in self._allocation.log[block]:
            if at > index:
                break
            if where == register:
                held = value
        for step in reversed(steps[:index]):
            if step.kind == _OP:
                break
            if step.out == register:
                held = step.value
                break
        return held == args[1] and args[0] != args[1]

    def _describe(self) -> None:
        """Types and slots of the values, and which are computed elsewhere than by their own opcode."""
        func, out = self._func, self.out
        slot = self._allocation.slot
        out.value_type = [func.type[value] for value in self._values]
        out.value_slot = [-1 if func.op[value] == Op.CONST else slot[value] for value in self._values]
        for value, times in self._computed.items():
            if func.op[value] == Op.CONST or func.op[value] not in PURE_OPS:
                continue
            home = self._home.get(value)
            if times > 1 or (home is not None and not self._is_in(self._computed_at[value], home[0])):
                out.reused.add(self._number[value])

    def _is_in(self, opcode: int, block: int) -> bool:
        groups = self.out.blocks[block].groups
        return bool(groups) and groups[0].first <= opcode < groups[-1].stop

    def _derivations(self) -> None:
        """Where something computed from a value is still going to be used: a write to it would come too late there."""
        func, number = self._func, self._number
        live = analyse(func, self._full)
        ends = self._ends(live)
        reach: dict[int, int] = {}
        ranges: dict[int, list[tuple[int, int]]] = {}
        for value in reversed(live.order):
            home = self._home.get(value)
            if func.op[value] not in PURE_OPS or home is None:
                continue
            born = self._emitted.step_offsets[home[0]][home[1] + 1]
            until = max(ends(live.end[value]), reach.get(value, 0))
            for arg in func.args[value]:
                if until > reach.get(arg, 0):
                    reach[arg] = until
                if number[arg] >= 0 and born < until:
                    ranges.setdefault(arg, []).append((born, until))
        for value, found in ranges.items():
            if func.op[value] != Op.CONST:
                self.out.derived[number[value]] = _merged(found)

    def _ends(self, live: Liveness) -> _Ends:
        return _Ends(live, self._home, self._emitted.step_offsets)

    # ---- code ----

    def _block(self, number: int) -> Block:
        """Groups of opcodes and what registers hold."""
        func, steps = self._func, self._allocation.steps[number]
        offsets = self._emitted.step_offsets[number]
        block = Block(offsets[0])
        if not steps:
            return block
        pos_of = func.pos
        opcode, at = func.blocks[number].start_pos, 0
        for index, step in enumerate(steps):
            if step.kind != _OP:
                continue
            pos = pos_of[step.value]
            if pos >= opcode:
                block.groups.append(Group(offsets[at], at, opcode, pos + 1))
                opcode = pos + 1
            at = index + 1
        held: dict[int, int] = {}
        known, ops = self._number, func.op
        for index, register, value in self._allocation.log[number]:
            name = -1 if value < 0 or ops[value] == Op.CONST else known[value]
            if held.get(register, -1) != name:
                held[register] = name
                block.log.append((index, register, name))
        return block

    def _rows(self) -> None:
        for row in self._emitted.traps:
            if row.block < 0:
                self.out.rows.append(Row(row.offset, 0, row.kind, row.place, -1, -1, row.offset, (), -1, (), 0))
            else:
                self.out.rows.append(self._row(row))
        self.out.rows.sort(key=lambda row: row.offset)

    def _row(self, row: SourceRow) -> Row:
        func = self._func
        steps, offsets = self._allocation.steps[row.block], self._emitted.step_offsets[row.block]
        step = steps[row.step]
        value = step.value
        args = func.args[value]
        wanted: tuple[tuple[int, int], ...] = ()
        if row.kind != CALL:  # nobody begins a call again that is under way
            operands = zip(step.ins, args, strict=False)
            wanted = tuple([(place, self._named(arg, row.pos)) for place, arg in operands if place >= 0])
        lost = 0
        if row.kind == CALL or (func.op[value] == Op.LIBCALL and self._machine.shape(func, value).call):
            lost = EVERY_REGISTER
        else:
            for at, register, _ in self._allocation.log[row.block]:
                if at == row.step + 1 and register not in step.ins:
                    lost |= 1 << register
        behind, results = row.step + 1, []
        if step.out >= 0:
            results.append((func.type[value], step.out, self._allocation.slot[value]))
        while behind < len(steps) and steps[behind].kind == _OP and func.op[steps[behind].value] == Op.RESULT:
            found = steps[behind].value
            results.append((func.type[found], steps[behind].out, self._allocation.slot[found]))
            behind += 1
        whole = len(results) == max(len(func.result_types_of.get(value, ())), bool(func.type[value]))
        skip = offsets[behind] if whole and func.op[value] != Op.TRAP else -1
        return Row(
            row.offset,
            row.pos,
            row.kind,
            row.place,
            row.block,
            row.step,
            offsets[row.step],
            wanted,
            skip,
            tuple(results) if skip >= 0 else (),
            lost,
        )

    def _edges(self) -> set[tuple[int, int]]:
        """Code out of line, and the opcode it belongs to."""
        func = self._func
        found = set()
        for number, edges in enumerate(self._emitted.edge_offsets):
            stop = self._emitted.step_offsets[number][-1]
            for start, end in edges:
                if end > start >= stop:
                    found.add((start, func.pos[func.blocks[number].instructions[-1]]))
        return found


class _Ends:
    """Positions of liveness as native offsets: where the step of an instruction ends."""

    def __init__(self, live: Liveness, home: dict[int, tuple[int, int]], offsets: list[list[int]]) -> None:
        self._live = live
        self._home = home
        self._offsets = offsets

    def __call__(self, position: int) -> int:
        """The offset from which nothing uses a value that ends at a position: where the step ends, but behind where it
        begins, even if it has no bytes."""
        order = self._live.order
        at = max(position, 0) // 2
        while at < len(order):
            home = self._home.get(order[at])
            if home is not None:
                start, stop = self._offsets[home[0]][home[1] : home[1] + 2]
                return max(stop, start + 1)
            at += 1  # a constant takes no step
        return self._offsets[-1][-1] + 1


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    ranges.sort()
    out = [ranges[0]]
    for start, stop in ranges[1:]:
        if start <= out[-1][1]:
            out[-1] = out[-1][0], max(stop, out[-1][1])
        else:
            out.append((start, stop))
    return out


def tabulate(
    func: Func, allocation: Allocation, emitted: Source, body: SourceText, machine: Machine, full: bool
) -> FrameTable:
    """The frame table of a function; `full` as it was compiled."""
    return _Tabulation(func, allocation, emitted, body, machine, full).run()
