"""Executes a function as allocation left it: every operand is read from the place it should be in, and must be there.

The machine here is a model: it has as many registers as a test gives it, asks for fixed registers, overwritten operands
and destroyed registers the way x86-64 does, and fills whatever an instruction may destroy with rubbish.
"""

from __future__ import annotations

from typing import Any

from tests.compile.ssa import Lowered, SsaInterpreter, _Activation
from trapline.compile.allocate import ANY, NONE, REG, SAME, SLOT, Allocation, Shape, Step, allocate
from trapline.compile.ir import NO_TYPE, Func, Op
from trapline.compile.liveness import analyse
from trapline.compile.operations import PURE_OPS
from trapline.wasm.types import F32, F64

RUBBISH = ("rubbish",)
_SHIFTS = frozenset([*range(0x74, 0x79), *range(0x86, 0x8B)])
_DIVISIONS = frozenset([*range(0x6D, 0x71), *range(0x7F, 0x83)])
_TWO_ADDRESS = frozenset(
    [*range(0x6A, 0x6D), *range(0x71, 0x74), *range(0x7C, 0x7F), *range(0x83, 0x86), *range(0x92, 0xA7)]
)
_COMMUTES = frozenset([0x6A, 0x6C, 0x71, 0x72, 0x73, 0x7C, 0x7E, 0x83, 0x84, 0x85])


class Model:
    """A machine with few registers: general ones from 0, floating-point ones from 16."""

    def __init__(self, general: int, floating: int) -> None:
        self.general = tuple(range(general))
        self.floating = tuple(range(16, 16 + floating))

    def parameter_places(self, types: list[int]) -> list[int]:
        """Registers while there are any, then slots of the caller: 1000 and up."""
        return self.places(types, 1000)

    def places(self, types: list[int], beyond: int) -> list[int]:
        free = {False: list(self.general), True: list(self.floating)}
        out = []
        for type_ in types:
            pool = free[type_ in (F32, F64)]
            if pool:
                out.append(pool.pop(0))
            else:
                out.append(beyond)
                beyond += 1
        return out

    def shape(self, func: Func, value: int) -> Shape:
        op, args = func.op[value], func.args[value]
        everything = (*self.general, *self.floating)
        types = [func.type[arg] for arg in args]
        result = REG if func.type[value] != NO_TYPE else NONE
        if op in (Op.CALL, Op.CALL_INDIRECT, Op.LIBCALL):
            output = self.places([func.type[value]], 1000)[0] if func.type[value] != NO_TYPE else NONE
            return Shape(tuple(self.places(types, 1000)), output, everything, call=True)
        if op == Op.RETURN:
            return Shape(tuple(self.places(types, 1000)), NONE, everything, call=True)
        if op == Op.RESULT:
            return Shape((NONE,), REG)
        if op == Op.COPY:
            return Shape((REG,), SAME)
        if op in _SHIFTS:
            return Shape((REG, 1), SAME)
        if op in _DIVISIONS:
            return Shape((0, REG), 2, (0, 2))
        if op in _TWO_ADDRESS:
            return Shape((REG, ANY), SAME, swaps=op in _COMMUTES)
        if op == 0x1B:
            return Shape((REG, REG, REG), REG, early=True)
        return Shape((REG,) * len(args), result)


class Placed:
    """One function, lowered and allocated for a model."""

    def __init__(self, lowered: Lowered, model: Model, full: bool) -> None:
        self.lowered = lowered
        self.live = analyse(lowered.func, full)
        self.allocation: Allocation = allocate(lowered.func, self.live, model)
        self.model = model
        self.full = full


class PlacedInterpreter(SsaInterpreter):
    """Runs functions through their allocation; `model` says for which machine."""

    model: Model
    checked_states = 0

    def call(self, function: Any, arguments: list[Any], depth: int = 0) -> list[Any]:
        if depth == 0:
            self._placed = getattr(self, "_placed", {})
        index = function.defined_index
        if index not in self._lowered:
            self._lowered[index] = Lowered(self._module, index, self._keep_states)
            self._placed[index] = Placed(self._lowered[index], self.model, self._keep_states)
        if depth >= self.depth_limit:
            return super().call(function, arguments, depth)
        return _PlacedActivation(self, self._placed[index], index, depth).run(arguments)

    _placed: dict[int, Placed]


class _PlacedActivation(_Activation):
    def __init__(self, owner: PlacedInterpreter, placed: Placed, index: int, depth: int) -> None:
        super().__init__(owner, placed.lowered, index, depth)
        self._placed = placed
        self._places: dict[int, Any] = {}
        self._block = 0
        self._done = 0
        """Steps of the block that have been executed."""

    def _read(self, place: int) -> Any:
        assert place in self._places, f"place {place} holds nothing"
        return self._places[place]

    def _expect(self, place: int, value: int, what: str) -> None:
        found, wanted = self._read(place), self._values[value]
        assert found is wanted or found == wanted, f"{what}: place {place} holds {found!r}, value {value} is {wanted!r}"

    def _stored(self, value: int) -> None:
        slot = self._placed.allocation.slot[value]
        if slot >= 0:
            self._places[SLOT + slot] = self._values[value]

    def _state(self, opcode: int) -> None:
        super()._state(opcode)
        if not self._placed.full or self._lowered.body.opcodes[opcode] in (0x02, 0x03, 0x05, 0x0B):
            return
        allocation = self._placed.allocation
        log = allocation.log[self._block]
        registers = {register: value for at, register, value in log if at <= self._done}
        held = {value: register for register, value in registers.items() if value >= 0}
        func = self._func
        named = {*self._lowered.locals_at[opcode], *self._lowered.operands_at(opcode)}
        work = list(named)
        while work:
            value = work.pop()
            if func.op[value] == Op.CONST:
                continue
            if func.op[value] in PURE_OPS and (value in self._unplaced or func.pos[value] == opcode):
                work += func.args[value]  # recomputed
                continue
            if allocation.slot[value] >= 0:
                self._expect(SLOT + allocation.slot[value], value, f"state of opcode {opcode}, slot")
            else:
                assert value in held, f"state of opcode {opcode}: value {value} is nowhere"
                self._expect(held[value], value, f"state of opcode {opcode}, register")

    def _move(self, step: Step) -> None:
        if step.kind == 0:
            self._expect(step.ins[0], step.value, "move")
            self._places[step.out] = self._read(step.ins[0])
        else:
            self._places[step.out] = self._values[step.value]

    def run(self, arguments: list[Any]) -> list[Any]:
        func, allocation = self._func, self._placed.allocation
        params = func.blocks[0].params
        self._values.update(zip(params, arguments, strict=True))
        for place, argument in zip(allocation.param_places[0], arguments, strict=True):
            self._places[place] = argument
        while True:
            block = func.blocks[self._block]
            for param, place in zip(block.params, allocation.param_places[self._block], strict=True):
                self._expect(place, param, "parameter")
                if param in allocation.delivered:
                    self._expect(SLOT + allocation.slot[param], param, "slot of a parameter")
                else:
                    self._stored(param)
            way = self._run_block()
            if way is None:
                return self._returned
            edge = block.edges[way]
            for step in allocation.edge_moves[self._block][way]:
                self._move(step)
            target = func.blocks[edge.target]
            moved = [self._values[arg] for arg in edge.args]
            self._values.update(zip(target.params, moved, strict=True))
            self._block = edge.target

    def _run_block(self) -> int | None:
        func, allocation = self._func, self._placed.allocation
        block = func.blocks[self._block]
        steps = allocation.steps[self._block]
        opcode, self._done = block.start_pos, 0
        way: int | None = 0
        for instruction in block.instructions:
            while opcode <= func.pos[instruction]:
                self._state(opcode)
                opcode += 1
            if func.op[instruction] == Op.CONST:
                continue
            while not (steps[self._done].kind == 2 and steps[self._done].value == instruction):
                self._move(steps[self._done])
                self._done += 1
            way = self._operation(steps[self._done], instruction)
            self._done += 1
        return way

    def _operation(self, step: Step, instruction: int) -> int | None:
        func = self._func
        shape = self._placed.model.shape(func, instruction)
        args = list(func.args[instruction])
        if func.op[instruction] != Op.RESULT:
            if shape.swaps and any(
                place >= 0 and self._places.get(place) != self._values[arg]
                for place, arg in zip(step.ins, args, strict=True)
            ):
                args[0], args[1] = args[1], args[0]
            for place, arg in zip(step.ins, args, strict=True):
                if place >= 0:
                    self._expect(place, arg, f"operand of instruction {instruction} (op {func.op[instruction]})")
                else:
                    assert func.op[arg] == Op.CONST, f"instruction {instruction} finds value {arg} nowhere"
        if shape.output == SAME:
            assert step.ins[0] == step.out, f"instruction {instruction} overwrites another register than its operand's"
        way = self._execute(instruction)
        for register in shape.clobbers:
            self._places[register] = RUBBISH
        if step.out >= 0:
            self._places[step.out] = self._values[instruction]
        if func.type[instruction] != NO_TYPE:
            self._stored(instruction)
        return way
