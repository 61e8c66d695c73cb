"""Register allocation in one forward walk over the layout, with next uses and loops in view.

Requires: SSA in its layout, its Liveness, a Machine. Leaves: an Allocation: for each block the steps to emit, for each
edge the moves it makes, for each value its slot if it has one, and a log of which value is in which register when.
Invariants: a value with a slot is stored there where it is defined and never changes, so the slot is right from then
on; two values never share a register; a move never goes through memory but by the scratch register.

The walk keeps the contents of the registers. A value that must give up its register gets a slot; it costs a store at
its definition, however often it gives up a register. Where blocks meet, the first edge decides which registers hold
what, and later edges move things there. A loop header's registers are chosen for the loop: values that the loop uses
get registers first, and values it does not use wait in slots when registers are scarce.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from trapline.compile.ir import NO_TYPE, Edge, Func, Op
from trapline.compile.liveness import Liveness
from trapline.wasm.types import F32, F64

__all__ = ["ANY", "NONE", "REG", "SAME", "SLOT", "Allocation", "Machine", "Shape", "Step", "allocate"]

SLOT: Final = 64
"""Places: 0-15 general registers, 16-31 floating-point registers, SLOT + k the k-th slot of the frame."""

REG: Final = -1
"""In or out: any register of the value's class."""
ANY: Final = -2
"""In: a register, a slot or a constant, as it happens to be."""
SAME: Final = -3
"""Out: the register of the first operand, which is overwritten."""
NONE: Final = -4
"""Out: no register. In: a constant that the instruction holds itself."""

_MOVE, _CONSTANT, _OP = 0, 1, 2


class Shape(NamedTuple):
    """What an instruction asks of its operands: a register number, or one of the codes above.

    `clobbers` are registers it destroys; `early` says that the result is written before every operand is read.
    `swaps` says that the first two operands may change places. `call` says that it destroys every register and that all
    inputs are places to move to at once, slots of the outgoing area included.
    """

    inputs: tuple[int, ...]
    output: int
    clobbers: tuple[int, ...] = ()
    early: bool = False
    swaps: bool = False
    call: bool = False


class Machine(Protocol):
    """What allocation asks of an architecture."""

    general: tuple[int, ...]
    floating: tuple[int, ...]

    def shape(self, func: Func, value: int) -> Shape: ...
    def parameter_places(self, types: list[int]) -> list[int]: ...


class Step(NamedTuple):
    """One thing to emit: kind 0 a move from `ins[0]` to `out`, 1 the constant `value` into `out`, 2 the instruction."""

    kind: int
    value: int
    ins: tuple[int, ...]
    out: int


class Allocation:
    """What emission and the frame table read.

    `steps[b]` in order; `edge_moves[b][k]` for the k-th edge; `slot[v]` or -1; `log[b]`: (number of steps before it
    holds, register, value or -1 for rubbish), the block's entry first. A value stays in a register, as far as a state
    is concerned, until something else is written there, however early the allocator gave it up. `param_places[b]`:
    where the block finds its parameters.
    """

    __slots__ = ("edge_moves", "log", "param_places", "slot", "slot_count", "steps")

    def __init__(self, values: int, blocks: int) -> None:
        self.steps: list[list[Step]] = [[] for _ in range(blocks)]
        self.edge_moves: list[list[list[Step]]] = [[] for _ in range(blocks)]
        self.slot = [-1] * values
        self.slot_count = 0
        self.log: list[list[tuple[int, int, int]]] = [[] for _ in range(blocks)]
        self.param_places: list[list[int]] = [[] for _ in range(blocks)]


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
        """Value -> a block parameter that it becomes."""
        self._clobbered: tuple[int, ...] = ()
        """What the instruction under way destroys: no place for anything that outlives it."""
        self._alive: list[int] = []
        """What the block before left in registers."""
        self._floating = [type_ in (F32, F64) for type_ in func.type]
        self._constant = [op == Op.CONST for op in func.op]

    # ---- what is where ----

    def _next_use(self, value: int, at: int) -> int:
        uses = self._live.uses[value]
        cursor = self._cursor[value]
        while cursor < len(uses) and uses[cursor] < at:
            cursor += 1
        self._cursor[value] = cursor
        return uses[cursor] if cursor < len(uses) else 1 << 60

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
            slot = self.out.slot_count
            self.out.slot_count += 1
            self.out.slot[value] = slot
        return SLOT + slot

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
        if hint >= 0 and held[hint] < 0 and hint not in pinned and hint not in self._clobbered:
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
        hint = self._hint.get(value, -1)
        if hint >= 0:
            hint = self._param_register(hint)
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

    def _param_register(self, param: int) -> int:
        block = self._live.def_block[param]
        places = self.out.param_places[block]
        if not places:
            return -1
        place = places[self._func.blocks[block].params.index(param)]
        if place >= SLOT:
            return -1
        held = self._held[place]
        return place if held < 0 else -1

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
        entry = {
            register: value
            for register, value in enumerate(self._held)
            if value >= 0 and live.end[value] > start and not (self._constant[value] and not target.is_header)
        }
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
        live = self._live
        here = self._place[arg]
        if not live.uses[param] and live.end[param] < start:
            return self._slot(param)
        unused = not live.uses[param]
        if here >= 0 and here not in taken and not unused:
            return here
        pool = self._machine.floating if self._floating[param] else self._machine.general
        free = [register for register in pool if register not in taken]
        if unused and len(free) <= 4:
            return self._slot(param)
        hint = self._hint.get(param, -1)
        if hint >= 0:
            wanted = self._param_register(hint)
            if wanted in free:
                return wanted
        for register in free:
            if self._held[register] < 0:
                return register
        return free[0] if free else self._slot(param)

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
                if value < 0 or value in keep or live.end[value] <= first:
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
        for register, value in entry.items():
            if self._place[value] != register:
                moves.append((register, self._reading(value), value))
        for place, arg in zip(self.out.param_places[edge.target], edge.args, strict=True):
            source = self._reading(arg)
            if source != place:
                moves.append((place, source, arg))
        self.out.edge_moves[number].append(self._parallel(moves))

    def _reading(self, value: int) -> int:
        if self._place[value] >= 0:
            return self._place[value]
        return -1 if self._constant[value] else self._slot(value)

    def _parallel(self, moves: list[tuple[int, int, int]]) -> list[Step]:
        """Moves that happen at once, as a sequence; -2 stands for the scratch register of the value's class."""
        out: list[Step] = []
        pending = [move for move in moves if move[1] >= 0]
        constants = [move for move in moves if move[1] < 0]
        while pending:
            sources = [source for _, source, _ in pending]
            ready = next((move for move in pending if move[0] not in sources or (move[0] == move[1])), None)
            if ready is not None:
                out.append(Step(_MOVE, ready[2], (ready[1],), ready[0]))
                pending.remove(ready)
                continue
            to, source, value = pending[0]  # a cycle: park one source in the scratch register
            out.append(Step(_MOVE, value, (source,), -2))
            pending = [(t, -2 if s == source else s, v) for t, s, v in pending]
        for to, _, value in constants:
            out.append(Step(_CONSTANT, value, (), to))
        return out

    def run(self) -> Allocation:
        """Walk all blocks."""
        func, live = self._func, self._live
        for block in func.blocks:
            for edge in block.edges:
                target = func.blocks[edge.target]
                for arg, param in zip(edge.args, target.params, strict=True):
                    self._hint.setdefault(arg, param)
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
        return self.out


def allocate(func: Func, live: Liveness, machine: Machine) -> Allocation:
    """Registers and slots for every value of a function."""
    return _Allocator(func, live, machine).run()
