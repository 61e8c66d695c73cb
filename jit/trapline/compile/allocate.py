"""Register allocation in one forward walk over the layout, with next uses and loops in view.

Requires: SSA in its layout, its Liveness, a Machine. Leaves: an Allocation: for each block the steps to emit, for each
edge the moves it makes, for each value its slot if it has one, and a log of which value is in which register when.
Invariants: a value with a slot is stored there where it is defined, and the slot holds it for the rest of its life; two
values never share a register; values that share a slot live one after the other (homes.py); a move never goes through
memory but by the scratch register.

The walk keeps the contents of the registers. A value that must give up its register gets a slot; it costs a store at
its definition, however often it gives up a register. Where blocks meet, the first edge decides which registers hold
what, and later edges move things there. A loop header's registers are chosen for the loop: values that the loop uses
get registers first, and values it does not use wait in slots when registers are scarce.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from trapline.compile.allocation import ANY, NONE, REG, SAME, SLOT, Allocation, Machine, Shape, Step
from trapline.compile.homes import find_homes, find_lives
from trapline.compile.ir import NO_TYPE, Edge, Func, Op
from trapline.compile.liveness import Liveness
from trapline.wasm.types import F32, F64

__all__ = ["ANY", "NONE", "REG", "SAME", "SLOT", "Allocation", "Machine", "Shape", "Step", "allocate"]

_MOVE, _CONSTANT, _OP = 0, 1, 2
_CALLS: Final = frozenset([Op.CALL, Op.CALL_INDIRECT, Op.LIBCALL])
_NEVER: Final = 1 << 60
_CHAIN: Final = 4
"""How many parameters in a row are looked at for one that has a register already."""


class _Allocator:
    def __init__(self, func: Func, live: Liveness, machine: Machine) -> None:
        self._func = func
        self._live = live
        self._machine = machine
        self.out = Allocation(len(func.op), len(func.blocks))
        self._held = [-1] * 32
        """Register -> value."""
        self._place = [-1] * len(func.op)
        """Value -> register, or -1."""
        self._entry: list[dict[int, int] | None] = [None] * len(func.blocks)
        """Block -> {register: value} on entry, parameters apart."""
        self._cursor = [0] * len(func.op)
        self._steps: list[Step] = []
        self._log: list[tuple[int, int, int]] = []
        self._pinned: set[int] = set()
        self._hint: dict[int, int] = {}
        """Value -> a block parameter that it becomes; that of a loop header if there is one."""
        self._position_of: dict[int, int] = {}
        """Parameter -> which of its block it is."""
        self._clobbered: tuple[int, ...] = ()
        """What the instruction under way destroys: no place for anything that outlives it."""
        self._alive: list[int] = []
        """What the block before left in registers."""
        self._floating = [type_ in (F32, F64) for type_ in func.type]
        self._constant = [op == Op.CONST for op in func.op]
        self._lives = find_lives(func, live)
        self._home = find_homes(func, live, self._lives)
        self._home_slot: dict[int, int] = {}
        self._swap_slot = -1
        self._calls = [live.position[value] for value in live.order if func.op[value] in _CALLS]
        """Positions of the instructions that leave nothing in registers."""
        self._reads = [[at for at in uses if not at & 1] for uses in live.uses]
        """Of each value, the positions of the instructions that read it; edges do so at odd ones."""

    # ---- what is where ----

    def _next_use(self, value: int, at: int) -> int:
        uses = self._live.uses[value]
        cursor = self._cursor[value]
        while cursor < len(uses) and uses[cursor] < at:
            cursor += 1
        self._cursor[value] = cursor
        return uses[cursor] if cursor < len(uses) else _NEVER

    def _is_alive(self, value: int, start: int) -> bool:
        """Whether anything needs a value at the start of a block or behind it, on ways through that block."""
        if self._live.end[value] <= start:
            return False
        life = self._lives.get(value)
        if life is None:
            return True
        at = bisect_right(life, (start, _NEVER)) - 1
        return at >= 0 and start < life[at][1]

    def _waits(self, value: int, start: int) -> bool:
        """Whether no instruction reads a value from a position on before a call does: no register helps until then."""
        reads = self._reads[value]
        at = bisect_left(reads, start)
        if at == len(reads):
            return True
        call = bisect_left(self._calls, start)
        return call < len(self._calls) and self._calls[call] < reads[at]

    def _put(self, value: int, register: int) -> None:
        self._held[register] = value
        self._place[value] = register
        self._log.append((len(self._steps), register, value))

    def _drop(self, register: int) -> None:
        value = self._held[register]
        if value >= 0:
            self._held[register] = -1
            self._place[value] = -1

    def _slot(self, value: int) -> int:
        """The slot of a value, made if it has none; constants need none."""
        slot = self.out.slot[value]
        if slot < 0:
            home = self._home[value]
            slot = self._home_slot.get(home, -1)
            if slot < 0:
                slot = self._home_slot[home] = self._new_slot()
            self.out.slot[value] = slot
        return SLOT + slot

    def _depth_of(self, value: int) -> int:
        return self._func.blocks[self._live.def_block[value]].depth

    def _new_slot(self) -> int:
        self.out.slot_count += 1
        return self.out.slot_count - 1

    def _evict(self, register: int) -> None:
        value = self._held[register]
        if not self._constant[value]:
            self._slot(value)
        self._drop(register)

    def _expire(self, at: int) -> None:
        """Free the registers of values that nothing needs at or behind a position."""
        end = self._live.end
        for register, value in enumerate(self._held):
            if value >= 0 and end[value] < at:
                self._drop(register)

    def _free_register(self, floating: bool, at: int, hint: int = -1) -> int:
        """A register that holds nothing, made so if need be by evicting whoever is used last."""
        pool = self._machine.floating if floating else self._machine.general
        held, pinned = self._held, self._pinned
        if hint >= 0 and hint not in pinned and hint not in self._clobbered:
            if held[hint] >= 0:  # its last reader is the instruction under way, or a state before it
                self._drop(hint)
            return hint
        worst, worst_use = -1, -1
        for register in pool:
            if register in pinned or register in self._clobbered:
                continue
            value = held[register]
            if value < 0:
                return register
            use = self._next_use(value, at)
            if self._constant[value]:
                use += 1 << 40
            elif self.out.slot[value] >= 0:
                use += 8
            if use > worst_use:
                worst, worst_use = register, use
        assert worst >= 0, "more operands than registers"
        self._evict(worst)
        return worst

    def _load(self, value: int, register: int) -> None:
        """Bring a value into an empty register."""
        if self._place[value] >= 0:
            source = self._place[value]
            self._steps.append(Step(_MOVE, value, (source,), register))
            self._drop(source)
        elif self._constant[value]:
            self._steps.append(Step(_CONSTANT, value, (), register))
        else:
            self._steps.append(Step(_MOVE, value, (self._slot(value),), register))
        self._put(value, register)

    # ---- instructions ----

    def _vacate(self, register: int, at: int) -> None:
        """Empty a register whose contents must go: elsewhere in the class if that is free, else to a slot."""
        value = self._held[register]
        if value < 0:
            return
        if self._live.end[value] > at:
            pool = self._machine.floating if self._floating[value] else self._machine.general
            for other in pool:
                if self._held[other] < 0 and other not in self._pinned and other not in self._clobbered:
                    self._load(value, other)
                    return
            self._evict(register)
        else:
            self._drop(register)

    def _instruction(self, value: int, at: int) -> None:
        func, live = self._func, self._live
        if func.op[value] == Op.CONST:
            return
        args = func.args[value]
        shape = self._machine.shape(func, value)
        self._pinned.clear()
        self._expire(at)
        if shape.call:
            self._call(value, args, shape, at)
            return
        # A constant stays first: what the machine can hold itself was asked of the second operand.
        worthwhile = shape.swaps and not self._constant[args[0]] and self._place[args[1]] >= 0
        if worthwhile and live.end[args[0]] > at and live.end[args[1]] <= at:
            args = (args[1], args[0], *args[2:])
        self._clobbered = shape.clobbers
        ins = self._operands(args, shape, at)
        for register in shape.clobbers:
            held = self._held[register]
            if held >= 0:
                # An operand that sits here is read before it is destroyed; it only loses its register.
                self._vacate(register, at)
        out = self._result(value, args, ins, shape, at)
        self._steps.append(Step(_OP, value, tuple(ins), out))
        self._clobbered = ()
        self._log.extend([(len(self._steps), register, -1) for register in shape.clobbers])
        if out >= 0:
            self._put(value, out)

    def _call(self, value: int, args: tuple[int, ...], shape: Shape, at: int) -> None:
        """Everything that is needed afterwards goes to its slot; operands go where they are wanted, all at once."""
        moves = []
        for want, arg in zip(shape.inputs, args, strict=True):
            source = self._reading(arg)
            if source != want:
                moves.append((want, source, arg))
        for step in self._parallel(moves):
            self._steps.append(step)
            if 0 <= step.out < SLOT:
                self._log.append((len(self._steps), step.out, step.value))
        for register, held in enumerate(self._held):
            if held >= 0:
                if self._live.end[held] > at:
                    self._evict(register)
                else:
                    self._drop(register)
        self._steps.append(Step(_OP, value, shape.inputs, shape.output))
        self._log.extend([(len(self._steps), register, -1) for register in shape.clobbers])
        if shape.output >= 0:
            self._put(value, shape.output)

    def _operands(self, args: tuple[int, ...], shape: Shape, at: int) -> list[int]:
        ins = [-1] * len(args)
        wanted = shape.inputs
        for position, value in enumerate(args):  # copies into fixed registers, before anything else is placed
            want = wanted[position]
            if want < 0:
                continue
            if self._place[value] != want:
                self._pinned.add(want)
                self._vacate(want, at - 1)
                source = self._reading(value)
                if source < 0:
                    self._steps.append(Step(_CONSTANT, value, (), want))
                else:
                    self._steps.append(Step(_MOVE, value, (source,), want))
                self._log.append((len(self._steps), want, value))
            self._pinned.add(want)
            ins[position] = want
        for position, value in enumerate(args):
            want = wanted[position]
            if want >= 0:
                continue
            place = self._place[value]
            if want == NONE:
                continue
            if want == ANY and place < 0:
                ins[position] = -1 if self._constant[value] else self._slot(value)
                continue
            if place < 0 or place in shape.clobbers:
                self._load(value, self._free_register(self._floating[value], at))
            ins[position] = self._place[value]
            self._pinned.add(ins[position])
        return ins

    def _result(self, value: int, args: tuple[int, ...], ins: list[int], shape: Shape, at: int) -> int:
        func, live = self._func, self._live
        if func.type[value] == NO_TYPE or shape.output == NONE:
            return -1
        floating = self._floating[value]
        hint = self._wanted(value, at)
        held = 0 <= hint < SLOT and self._held[hint] >= 0
        if hint >= SLOT or hint in self._clobbered or (held and (hint in ins or shape.early)):
            hint = -1
        if shape.output >= 0:
            self._vacate(shape.output, at)
            return shape.output
        if shape.output == SAME:
            first = args[0]
            here = ins[0]
            if self._place[first] == here and live.end[first] <= at:
                self._drop(here)
                return here
            out = self._free_register(floating, at, hint)
            self._steps.append(Step(_MOVE, first, (here,), out))
            ins[0] = out
            return out
        if not shape.early:
            for register in set(ins):
                if 0 <= register < 32 and self._held[register] >= 0 and live.end[self._held[register]] <= at:
                    self._drop(register)
                    self._pinned.discard(register)
        return self._free_register(floating, at, hint)

    def _wanted(self, value: int, at: int) -> int:
        """Where the parameter is that a value becomes, if that is known: a register that is free at a position, or the
        slot of both; else -1."""
        out, home = self.out, self._home[value]
        for _ in range(_CHAIN):
            value = self._hint.get(value, -1)
            if value < 0:
                break
            places = out.param_places[self._live.def_block[value]]
            if places:
                place = places[self._position_of[value]]
                if place >= SLOT:
                    return place if self._home[value] == home else -1
                held = self._held[place]
                return place if held < 0 or self._live.end[held] <= at else -1
        return -1

    # ---- blocks and edges ----

    def _begin(self, number: int) -> None:
        block = self._func.blocks[number]
        self._held = [-1] * 32
        for value in self._alive:
            self._place[value] = -1
        self._steps = self.out.steps[number]
        self._log = self.out.log[number]
        entry = self._entry[number]
        assert entry is not None, f"block {number} is reached by no edge"
        for register, value in entry.items():
            self._put(value, register)
        for param, place in zip(block.params, self.out.param_places[number], strict=True):
            if place < SLOT:
                self._put(param, place)
        self._alive = [value for value in self._held if value >= 0]

    def _first_edge(self, edge: Edge, at: int) -> None:
        """Decide the registers on entry to a block from the edge that comes first."""
        func, live = self._func, self._live
        target = func.blocks[edge.target]
        start = live.block_start[edge.target]
        if target.is_header:
            self._enter_loop(edge.target, at)
        slot, header = self.out.slot, target.is_header
        entry = {}
        for register, value in enumerate(self._held):
            if value < 0 or not self._is_alive(value, start):
                continue
            if not header and (self._constant[value] or (slot[value] >= 0 and self._waits(value, start))):
                continue
            entry[register] = value
        taken = set(entry)
        places: list[int] = []
        for param, arg in zip(target.params, edge.args, strict=True):
            place = self._param_place(param, arg, taken, start, edge)
            if place < SLOT:
                taken.add(place)
            places.append(place)
        self._entry[edge.target] = entry
        self.out.param_places[edge.target] = places

    def _param_place(self, param: int, arg: int, taken: set[int], start: int, edge: Edge) -> int:
        """Where a parameter comes in: where the argument is, if possible, or where it will be wanted."""
        live = self._live
        unused = not live.uses[param]
        if unused and live.end[param] < start:
            return self._slot(param)
        here = self._place[arg]
        wanted = self._wanted(param, start)
        waits = self._waits(param, start)
        stored = self._is_stored(arg, param) and not self._is_calm(edge.target)
        if waits and (wanted >= SLOT or (here < 0 and stored)):
            return self._slot(param)
        pool = self._machine.floating if self._floating[param] else self._machine.general
        free = [register for register in pool if register not in taken]
        if waits and (len(free) <= 4 or (unused and stored)):
            return self._slot(param)
        if wanted in free:
            return wanted
        if here in free:
            return here
        for register in free:
            if self._held[register] < 0:
                return register
        return free[0] if free else self._slot(param)

    def _is_calm(self, number: int) -> bool:
        """Whether a block is the header of a loop without calls."""
        live = self._live
        if not self._func.blocks[number].is_header:
            return False
        last = live.block_end[self._func.loop_ends.get(number, len(self._func.blocks)) - 1]
        call = bisect_left(self._calls, live.block_start[number])
        return call == len(self._calls) or self._calls[call] > last

    def _is_stored(self, arg: int, param: int) -> bool:
        """Whether an argument is in the parameter's slot already."""
        return self.out.slot[arg] >= 0 and self._home[arg] == self._home[param]

    def _enter_loop(self, header: int, at: int) -> None:
        """Give the registers to what the loop uses: load it, and put off what only waits."""
        live = self._live
        func = self._func
        stop = func.loop_ends.get(header, len(func.blocks))
        first, last = live.block_start[header], live.block_end[stop - 1]
        for floating, pool in ((False, self._machine.general), (True, self._machine.floating)):
            wanted: dict[int, int] = {}
            for instruction in live.order[max(first + 1, 0) // 2 : last // 2 + 1]:
                for value in func.args[instruction]:
                    if live.position[value] <= first and self._floating[value] == floating:
                        wanted[value] = wanted.get(value, 0) + 1
            params = [
                param for param in func.blocks[header].params if self._floating[param] == floating and live.uses[param]
            ]
            inner = 3
            room = len(pool) - len(params) - inner
            ranked = sorted(wanted, key=lambda value: -wanted[value])
            inside = [value for value in ranked if not (self._constant[value] and not floating)][: max(room, 0)]
            keep = set(inside)
            spare = room - len(keep)
            for register in pool:
                value = self._held[register]
                if value < 0 or value in keep or not self._is_alive(value, first):
                    continue
                if spare > 0 and not self._constant[value]:
                    spare -= 1
                else:
                    self._evict(register)
            for value in inside:
                if self._place[value] >= 0:
                    continue
                free = [register for register in pool if self._held[register] < 0]
                if not free:
                    break
                if self._constant[value] or self.out.slot[value] >= 0:
                    self._load(value, free[0])

    def _edge(self, number: int, edge: Edge, at: int) -> None:
        """The moves of one edge, to what its target expects."""
        if self._entry[edge.target] is None:
            self._first_edge(edge, at)
        entry = self._entry[edge.target]
        assert entry is not None
        moves: list[tuple[int, int, int]] = []  # (to, from, value); from -1: a constant
        target = self._func.blocks[edge.target]
        start, slot = self._live.block_start[edge.target], self.out.slot
        depth = min(self._func.blocks[number].depth, target.depth)
        for register, value in list(entry.items()):
            if self._place[value] == register:
                continue
            if edge.target > number and slot[value] >= 0 and self._waits(value, start):
                del entry[register]  # it is in its slot whichever way control comes, and soon enough read from there
            else:
                moves.append((register, self._reading(value), value))
        for place, arg, param in zip(self.out.param_places[edge.target], edge.args, target.params, strict=True):
            source = self._reading(arg)
            if source == place or (place >= SLOT and slot[arg] == place - SLOT):
                continue
            if place >= SLOT and self._home[arg] == self._home[param] and self._depth_of(arg) <= depth:
                self._slot(arg)  # a store where it is defined does for this edge and others
                continue
            moves.append((place, source, arg))
        self.out.edge_moves[number].append(self._parallel(moves))

    def _reading(self, value: int) -> int:
        if self._place[value] >= 0:
            return self._place[value]
        return -1 if self._constant[value] else self._slot(value)

    def _parallel(self, moves: list[tuple[int, int, int]]) -> list[Step]:
        """Moves that happen at once, as a sequence; -2 stands for the scratch register of the value's class.

        That register is also the way from slot to slot; where there is such a move, a slot of its own breaks cycles.
        """
        out: list[Step] = []
        pending = [move for move in moves if move[1] >= 0]
        constants = [move for move in moves if move[1] < 0]
        through_memory = any(move[0] >= SLOT and move[1] >= SLOT for move in pending)
        while pending:
            sources = [source for _, source, _ in pending]
            ready = next((move for move in pending if move[0] not in sources or (move[0] == move[1])), None)
            if ready is not None:
                out.append(Step(_MOVE, ready[2], (ready[1],), ready[0]))
                pending.remove(ready)
                continue
            _, source, value = pending[0]  # a cycle: park one source, not where moves from slot to slot go through
            parked = -2
            if through_memory:
                if self._swap_slot < 0:
                    self._swap_slot = self._new_slot()
                parked = SLOT + self._swap_slot
            out.append(Step(_MOVE, value, (source,), parked))
            pending = [(t, parked if s == source else s, v) for t, s, v in pending]
        for to, _, value in constants:
            out.append(Step(_CONSTANT, value, (), to))
        return out

    def run(self) -> Allocation:
        """Walk all blocks."""
        func, live = self._func, self._live
        for number, block in enumerate(func.blocks):
            for position, param in enumerate(block.params):
                self._position_of[param] = position
            for edge in block.edges:
                back = edge.target <= number
                for arg, param in zip(edge.args, func.blocks[edge.target].params, strict=True):
                    if back or arg not in self._hint:
                        self._hint[arg] = param
        entry_block = func.blocks[0]
        self._entry[0] = {}
        places = self._machine.parameter_places([func.type[param] for param in entry_block.params])
        self.out.param_places[0] = [
            place if place < SLOT else self._slot(param)
            for place, param in zip(places, entry_block.params, strict=True)
        ]
        for number, block in enumerate(func.blocks):
            if self._entry[number] is None:
                continue
            self._begin(number)
            jumps = func.op[block.instructions[-1]] == Op.JUMP
            for instruction in block.instructions[: -1 if jumps else None]:
                self._instruction(instruction, live.position[instruction])
            at = live.block_end[number] + 1
            self._pinned.clear()
            self._expire(at)
            for edge in block.edges:
                self._edge(number, edge, at)
            if jumps:  # behind what the entry to a loop loads
                self._instruction(block.instructions[-1], at)
            self._alive = [value for value in self._held if value >= 0]
        self._deliver()
        return self.out

    def _deliver(self) -> None:
        """Parameters in registers that have slots: the store is the edges' business where some argument has been stored
        to the same slot."""
        func, slot = self._func, self.out.slot
        ways: dict[int, list[tuple[int, int, Edge]]] = {}
        for number, block in enumerate(func.blocks):
            for way, edge in enumerate(block.edges):
                ways.setdefault(edge.target, []).append((number, way, edge))
        for number, block in enumerate(func.blocks):
            if not number or not self.out.steps[number]:
                continue
            for position, (param, place) in enumerate(zip(block.params, self.out.param_places[number], strict=True)):
                if place >= SLOT or slot[param] < 0:
                    continue
                missing = [
                    (source, way, edge.args[position])
                    for source, way, edge in ways[number]
                    if slot[edge.args[position]] != slot[param] and self.out.steps[source]
                ]
                if len(missing) < len(ways[number]) and all(
                    func.blocks[source].depth <= block.depth for source, _, _ in missing
                ):
                    self.out.delivered.add(param)
                    for source, way, arg in missing:
                        self.out.edge_moves[source][way].append(Step(_MOVE, arg, (place,), SLOT + slot[param]))


def allocate(func: Func, live: Liveness, machine: Machine) -> Allocation:
    """Registers and slots for every value of a function."""
    return _Allocator(func, live, machine).run()
