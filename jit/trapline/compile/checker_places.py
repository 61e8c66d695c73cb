"""Proves an allocation: which SSA values lie where, found from the steps alone.

Requires: a checked Func with its Flow, its Allocation, the machine. Leaves: for each block what every place holds on
entry. Raises: CheckError where a step reads a place that need not hold its operand, or does what the machine forbids.

A place holds a set of values, all equal to what is in there. Where ways meet the sets intersect; on the way back to a
loop's header everything that the loop defines is forgotten, since it is about to be defined anew. The walk goes on
until nothing changes, so what remains holds on every way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trapline.compile.allocate import ANY, NONE, REG, SAME, SLOT, Allocation, Machine, Shape, Step
from trapline.compile.checker_ssa import CheckError, Flow
from trapline.compile.ir import NO_TYPE, Func, Op
from trapline.wasm.types import F32, F64

__all__ = ["Contents", "Places", "check_places"]

Contents = dict[int, frozenset[int]]
"""Place -> the values it holds."""

_MOVE, _CONSTANT, _OP = 0, 1, 2
_SCRATCH: Final = (-2, -3)
"""Keys of the scratch registers: of the general and of the floating-point class."""


class Places:
    """What places hold on entry to each block; `walk` goes through a block again."""

    def __init__(self, func: Func, flow: Flow, allocation: Allocation, machine: Machine) -> None:
        self.func = func
        self.allocation = allocation
        self.entry: list[Contents | None] = [None] * len(func.blocks)
        self.first_operand: dict[int, int] = {}
        """Value -> the operand that the machine takes first, where it may exchange them."""
        self._flow = flow
        self._machine = machine
        self._sets: dict[int, frozenset[int]] = {}
        self._floating = [type_ in (F32, F64) for type_ in func.type]
        self._shapes: dict[int, Shape] = {}

    def shape(self, value: int) -> Shape:
        """What the machine asks for an instruction."""
        found = self._shapes.get(value)
        if found is None:
            found = self._shapes[value] = self._machine.shape(self.func, value)
        return found

    def _only(self, value: int) -> frozenset[int]:
        found = self._sets.get(value)
        if found is None:
            found = self._sets[value] = frozenset([value])
        return found

    def _fail(
        self, block: int, step: Step | None, what: str, found: object = None, expected: object = None
    ) -> CheckError:
        opcode = self.func.pos[step.value] if step is not None else -1
        return CheckError(self.func.index, what, block=block, opcode=opcode, found=found, expected=expected)

    # ---- the fixpoint ----

    def solve(self) -> None:
        """Contents on entry to every block that is reached."""
        func, allocation = self.func, self.allocation
        start: Contents = {}
        block = func.blocks[0]
        for param, place in zip(
            block.params, self._machine.parameter_places([func.type[param] for param in block.params]), strict=True
        ):
            if place < SLOT:
                start[place] = self._only(param)
            slot = allocation.slot[param]
            if slot >= 0:
                start[SLOT + slot] = self._only(param)
        self.entry[0] = start
        waiting = {0}
        while waiting:
            number = min(waiting)
            waiting.discard(number)
            entry = self.entry[number]
            assert entry is not None
            contents = dict(entry)
            for step in allocation.steps[number]:
                self.apply(number, step, contents, check=False)
            for way, edge in enumerate(func.blocks[number].edges):
                arriving = self._along(number, way, contents, check=False)
                before = self.entry[edge.target]
                after = arriving if before is None else _meet(before, arriving)
                if after is not before:
                    self.entry[edge.target] = after
                    waiting.add(edge.target)

    def check(self, visit: Callable[[int, int, Contents], None] | None = None) -> None:
        """Every step and edge against what its places hold; `visit(block, step, contents)` before each step and at
        the end of each block."""
        for number, block in enumerate(self.func.blocks):
            entry = self.entry[number]
            steps = self.allocation.steps[number]
            if entry is None:
                raise self._fail(number, None, "a block that no walk reaches")
            self._complete(number)
            contents = dict(entry)
            for index, step in enumerate(steps):
                if visit is not None:
                    visit(number, index, contents)
                self.apply(number, step, contents, check=True)
            if visit is not None:
                visit(number, len(steps), contents)
            for way in range(len(block.edges)):
                self._along(number, way, contents, check=True)

    def _complete(self, number: int) -> None:
        """Every instruction but constants is a step, in order."""
        func = self.func
        wanted = [value for value in func.blocks[number].instructions if func.op[value] != Op.CONST]
        found = [step.value for step in self.allocation.steps[number] if step.kind == _OP]
        if found != wanted:
            raise self._fail(number, None, "instructions that are steps", found, wanted)

    # ---- steps ----

    def apply(self, block: int, step: Step, contents: Contents, *, check: bool) -> None:
        """What a step changes; with `check`, whether it may."""
        if step.kind == _OP:
            self._operation(block, step, contents, check)
        else:
            self._move(block, step, contents, check)

    def _move(self, block: int, step: Step, contents: Contents, check: bool) -> None:
        value, floating = step.value, self._floating[step.value]
        scratch = _SCRATCH[floating]
        out = scratch if step.out == -2 else step.out
        if check and 0 <= out < 32 and (out >= 16) != floating:
            raise self._fail(block, step, f"value {value} goes to a register of another class", out)
        if step.kind == _CONSTANT:
            if check and self.func.op[value] != Op.CONST:
                raise self._fail(block, step, f"value {value} is no constant")
            contents[out] = self._only(value)
            contents.pop(_SCRATCH[0], None)
            return
        source = scratch if step.ins[0] == -2 else step.ins[0]
        held = contents.get(source, frozenset())
        if value not in held:
            home = self._flow.home[value]
            if check and home is not None and self._flow.dominates(home[0], block):
                raise self._fail(block, step, f"a move from place {source}", sorted(held), value)
            # Lives are intervals of the layout, so a place may be kept, and moved, for a value of another way.
            contents.pop(out, None)
            return
        if source >= 32 and out >= 32:
            contents.pop(_SCRATCH[not floating], None)  # it goes by the other class, see Moves.move
        contents[out] = held

    def _operation(self, block: int, step: Step, contents: Contents, check: bool) -> None:
        func = self.func
        value, out = step.value, step.out
        op = func.op[value]
        shape = self.shape(value)
        if check:
            self._operands(block, step, shape, contents)
            self._result(block, step, shape)
        for scratch in _SCRATCH:
            contents.pop(scratch, None)
        if shape.call and op != Op.RETURN:
            for place in [place for place in contents if not SLOT <= place < SLOT + self.allocation.slot_count]:
                del contents[place]
        else:
            for register in shape.clobbers:
                contents.pop(register, None)
        if out >= 0:
            contents[out] = self._only(value)
        slot = self.allocation.slot[value]
        if slot >= 0 and func.type[value] != NO_TYPE:
            if check and out < 0:
                raise self._fail(block, step, f"value {value} has a slot and comes from nowhere")
            contents[SLOT + slot] = self._only(value)

    def _operands(self, block: int, step: Step, shape: Shape, contents: Contents) -> None:
        func = self.func
        args = func.args[step.value]
        if func.op[step.value] == Op.RESULT:
            self._further_result(block, step, shape)
            return
        if len(step.ins) != len(args) or len(shape.inputs) != len(args):
            raise self._fail(block, step, "operands", len(step.ins), len(args))
        wrong = self._misplaced(args, step, contents)
        if wrong is not None and shape.swaps:
            swapped = (args[1], args[0], *args[2:])
            if self._misplaced(swapped, step, contents) is None:
                self.first_operand[step.value] = args[1]
                args, wrong = swapped, None
        elif shape.swaps:
            self.first_operand[step.value] = args[0]
        if wrong is not None:
            place = step.ins[wrong]
            held = sorted(contents.get(place, frozenset()))
            raise self._fail(block, step, f"operand {wrong} of value {step.value} in place {place}", held, args[wrong])
        for position, (place, want, arg) in enumerate(zip(step.ins, shape.inputs, args, strict=True)):
            if want >= 0:
                fits = place == want
            elif want == NONE or place < 0:
                fits = want in (NONE, ANY) and place < 0 and func.op[arg] == Op.CONST
            elif want == REG:
                fits = self._is_register(place, arg)
            else:
                fits = want == ANY and (self._is_register(place, arg) or SLOT <= place < SLOT + self._slots)
            if not fits:
                raise self._fail(block, step, f"place of operand {position} of value {step.value}", place, want)

    @property
    def _slots(self) -> int:
        return self.allocation.slot_count

    def _misplaced(self, args: tuple[int, ...], step: Step, contents: Contents) -> int | None:
        """The first operand that is not where the step reads it."""
        for position, (place, arg) in enumerate(zip(step.ins, args, strict=True)):
            if place < 0:
                if self.func.op[arg] != Op.CONST:
                    return position
            elif arg not in contents.get(place, frozenset()):
                return position
        return None

    def _is_register(self, place: int, value: int) -> bool:
        return place in (self._machine.floating if self._floating[value] else self._machine.general)

    def _further_result(self, block: int, step: Step, shape: Shape) -> None:
        """A result beyond the first is taken before any other instruction or move runs."""
        func = self.func
        call = func.args[step.value][0]
        steps = self.allocation.steps[block]
        at = steps.index(step)
        while at > 0 and steps[at].kind == _OP and func.op[steps[at].value] == Op.RESULT:
            at -= 1
        if steps[at].kind != _OP or steps[at].value != call:
            raise self._fail(
                block, step, f"result {step.value} is not taken right behind its call", steps[at].value, call
            )

    def _result(self, block: int, step: Step, shape: Shape) -> None:
        out, want = step.out, shape.output
        if self.func.type[step.value] == NO_TYPE or want == NONE:
            fits = out < 0
        elif want >= 0:
            fits = out == want
        elif want == SAME:
            fits = out == step.ins[0] and self._is_register(out, step.value)
        else:
            fits = self._is_register(out, step.value) and not (shape.early and out in step.ins)
        if not fits:
            raise self._fail(block, step, f"place of value {step.value}", out, want)

    # ---- edges ----

    def _along(self, number: int, way: int, contents: Contents, *, check: bool) -> Contents:
        """What places hold where an edge arrives."""
        func, allocation = self.func, self.allocation
        edge = func.blocks[number].edges[way]
        target = func.blocks[edge.target]
        out = dict(contents)
        for step in allocation.edge_moves[number][way]:
            self._move(number, step, out, check)
        for scratch in _SCRATCH:
            out.pop(scratch, None)
        places = allocation.param_places[edge.target]
        if len(places) != len(target.params):
            raise self._fail(
                number, None, f"places of parameters of block {edge.target}", len(places), len(target.params)
            )
        arrived: list[tuple[int, int]] = []
        for param, place, arg in zip(target.params, places, edge.args, strict=True):
            held = out.get(place, frozenset())
            if check and arg not in held:
                what = f"parameter {param} of block {edge.target} in place {place}"
                raise self._fail(number, None, what, sorted(held), arg)
            arrived.append((place, param))
            if param in allocation.delivered:
                slot = SLOT + allocation.slot[param]
                if check and arg not in out.get(slot, frozenset()):
                    what = f"parameter {param} of block {edge.target} in its slot"
                    raise self._fail(number, None, what, sorted(out.get(slot, frozenset())), arg)
                arrived.append((slot, param))
        if edge.target <= number:
            self._forget(out, edge.target, self._flow.loop_of[edge.target])
        for place, param in arrived:
            out[place] = out.get(place, frozenset()) | self._only(param)
        for param, place in arrived_slots(target.params, allocation):
            out[place] = self._only(param)
        return out

    def _forget(self, contents: Contents, first: int, stop: int) -> None:
        """Values that the blocks [first, stop) define."""
        home = self._flow.home
        func = self.func
        for place, values in list(contents.items()):
            kept = [
                value
                for value in values
                if func.op[value] == Op.CONST or not first <= (home[value] or (-1, 0))[0] < stop
            ]
            if not kept:
                del contents[place]
            elif len(kept) < len(values):
                contents[place] = frozenset(kept)


def arrived_slots(params: list[int], allocation: Allocation) -> list[tuple[int, int]]:
    """(parameter, slot as a place) of those that a block stores before its first step."""
    slot, delivered = allocation.slot, allocation.delivered
    return [(param, SLOT + slot[param]) for param in params if slot[param] >= 0 and param not in delivered]


def _meet(before: Contents, arriving: Contents) -> Contents:
    """What holds on both ways; `before` itself where that is all of it."""
    out: Contents = {}
    same = True
    for place, values in before.items():
        other = arriving.get(place)
        if other is None:
            same = False
        elif other is values or values <= other:
            out[place] = values
        else:
            same = False
            both = values & other
            if both:
                out[place] = both
    return before if same else out


def check_places(func: Func, flow: Flow, allocation: Allocation, machine: Machine) -> Places:
    """Contents of every place in every block of a function. Checks nothing: `Places.check` does."""
    places = Places(func, flow, allocation, machine)
    places.solve()
    return places
