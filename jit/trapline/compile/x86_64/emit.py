"""Allocated SSA to x86-64 bytes, with the offset of every stop point and trap site.

Requires: a Func, its Allocation for the machine of `shapes`, a callee's and type's number for every call. Leaves: an
Emitted. Invariant: nothing but this module and those it is built from knows an instruction.

A block's steps come in order; a value with a slot is stored there right behind its definition. A way out of a block
whose edge makes moves gets them in line where control falls through, else out of line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from trapline.arch.x86_64.assembler import Assembler, Condition, Reg
from trapline.compile.allocate import SLOT, Allocation, Step
from trapline.compile.ir import Func, Op
from trapline.compile.x86_64.floats import Floats
from trapline.compile.x86_64.integers import CONDITIONS
from trapline.compile.x86_64.layout import (
    BUFFER,
    CHECK_STUB,
    FUNCTIONS,
    GLOBALS,
    GUARD_BYTES,
    MEMORY_BASE,
    RECORD_INSTANCE,
    RECORD_TYPE,
    REQUEST,
    RESULT_WORD,
    SCRATCH,
    STACK_WORD,
    TABLE_BYTES,
    TABLE_COUNT,
    TABLE_INDEX,
    TABLES,
    places,
)

__all__ = ["Emitted", "TrapRow", "emit"]

_SELECT: Final = 0x1B


@dataclass(frozen=True, slots=True)
class TrapRow:
    """Where code may trap: offset of the instruction, opcode index, kind, place of the operand that tells more."""

    offset: int
    pos: int
    kind: str
    place: int


@dataclass(slots=True)
class Emitted:
    """The bytes of one function.

    `stops`: (offset, opcode index) by offset; `traps` in the order of emission.
    """

    code: bytes
    stops: list[tuple[int, int]] = field(default_factory=list)
    traps: list[TrapRow] = field(default_factory=list)


class _Emitter(Floats):
    def __init__(
        self, func: Func, allocation: Allocation, imported: int, type_numbers: list[int], requests: list[object]
    ) -> None:
        super().__init__(Assembler(), func)
        self._allocation = allocation
        self._imported = imported
        self._type_numbers = type_numbers
        self._requests = requests
        self._labels = [self.a.label() for _ in func.blocks]
        self._stops: list[tuple[int, int]] = []
        self._rows: list[tuple[int, int, str, int]] = []  # (index of the piece, opcode index, kind, place)
        self._late: list[tuple[int, list[Step], int]] = []  # (label, moves, target block)
        self._trap_labels: list[tuple[int, int, str, int]] = []
        outgoing = 0
        for steps in allocation.steps:
            for step in steps:
                for place in (*step.ins, step.out):
                    if STACK_WORD <= place < RESULT_WORD:
                        outgoing = max(outgoing, place - STACK_WORD + 1)
        words = 1 + allocation.slot_count + outgoing
        self._frame_bytes = (8 * words + 15) // 16 * 16

    # ---- traps ----

    def trap_row(self, value: int, kind: str, place: int) -> None:
        self._rows.append((len(self.a._pieces), self.func.pos[value], kind, place))

    def trap_if(self, value: int, condition: int, kind: str, place: int) -> None:
        label = self.a.label()
        self.a.jcc_l(condition, label)
        self._trap_labels.append((label, self.func.pos[value], kind, place))

    # ---- the function ----

    def run(self) -> Emitted:
        a = self.a
        self._rows.append((0, 0, "stack", -1))
        a.test32_mr(Reg.RSP, -(self._frame_bytes + GUARD_BYTES), Reg.RAX)
        a.push_r(Reg.RBP)
        a.mov64_rr(Reg.RBP, Reg.RSP)
        a.sub64_ri(Reg.RSP, self._frame_bytes)
        a.mov64_mr(Reg.RBP, -8, Reg.R15)
        self._parameters()
        for number in range(len(self.func.blocks)):
            if self._allocation.steps[number]:
                self._block(number)
        for label, moves, target in self._late:
            a.bind(label)
            self._moves(moves)
            a.jmp_l(self._labels[target])
        for label, pos, kind, place in self._trap_labels:
            a.bind(label)
            self._rows.append((len(a._pieces), pos, kind, place))
            a.hlt()
        code = a.finish()
        starts = a._starts
        return Emitted(
            code,
            [(starts[piece], pos) for piece, pos in self._stops],
            [TrapRow(starts[piece], pos, kind, place) for piece, pos, kind, place in self._rows],
        )

    def _parameters(self) -> None:
        """Parameters that live in slots, from the registers or words in which they came."""
        params = self.func.blocks[0].params
        found = places([self.func.type[param] for param in params], STACK_WORD)
        for param, place in zip(params, found, strict=True):
            slot = self._allocation.slot[param]
            if slot < 0:
                continue
            if place >= STACK_WORD:
                self.load(SCRATCH, *self.incoming(place))
                place = SCRATCH
            self.store(*self.memory(SLOT + slot), place)

    def _stored(self, value: int, place: int) -> None:
        slot = self._allocation.slot[value]
        if slot >= 0 and place != SLOT + slot:
            self.store(*self.memory(SLOT + slot), place)

    def _moves(self, steps: list[Step]) -> None:
        for step in steps:
            if step.kind == 0:
                self.move(step)
            else:
                self.constant(step.value, step.out)

    def _block(self, number: int) -> None:
        block, func = self.func.blocks[number], self.func
        self.a.bind(self._labels[number])
        if number:
            for param, place in zip(block.params, self._allocation.param_places[number], strict=True):
                self._stored(param, place)
        self._stops.append((len(self.a._pieces), block.start_pos))
        last = block.start_pos
        for step in self._allocation.steps[number]:
            if step.kind == 0:
                self.move(step)
            elif step.kind == 1:
                self.constant(step.value, step.out)
            else:
                pos = func.pos[step.value]
                if pos != last:
                    self._stops.append((len(self.a._pieces), pos))
                    last = pos
                if func.op[step.value] in (Op.JUMP, Op.BRANCH, Op.SWITCH):
                    self._terminator(number, step)
                else:
                    self._operation(step)
                    if step.out >= 0:
                        self._stored(step.value, step.out)

    # ---- control ----

    def _way(self, number: int, way: int) -> int:
        """A label that leads along an edge: the target's, or that of moves out of line."""
        moves = self._allocation.edge_moves[number][way]
        target = self.func.blocks[number].edges[way].target
        if not moves:
            return self._labels[target]
        label = self.a.label()
        self._late.append((label, moves, target))
        return label

    def _fall(self, number: int, way: int) -> None:
        """Along an edge in line."""
        self._moves(self._allocation.edge_moves[number][way])
        target = self.func.blocks[number].edges[way].target
        if target != number + 1:
            self.a.jmp_l(self._labels[target])

    def _terminator(self, number: int, step: Step) -> None:
        op = self.func.op[step.value]
        edges = self.func.blocks[number].edges
        if op == Op.JUMP:
            self._fall(number, 0)
        elif op == Op.BRANCH:
            holds = self._condition(step)
            if edges[0].target == number + 1:
                self.a.jcc_l(holds ^ 1, self._way(number, 1))
                self._fall(number, 0)
            else:
                self.a.jcc_l(holds, self._way(number, 0))
                self._fall(number, 1)
        else:
            for way in range(len(edges) - 1):
                self.a.cmp32_ri(step.ins[0], way)
                self.a.jcc_l(Condition.E, self._way(number, way))
            self._fall(number, len(edges) - 1)

    def _condition(self, step: Step) -> int:
        """Sets the flags for a BRANCH; the condition code under which it goes along its first edge."""
        compared = self.func.imm[step.value]
        if compared is None:
            self.a.test32_rr(step.ins[0], step.ins[0])
            return Condition.NE
        assert isinstance(compared, int)
        if compared in (0x45, 0x50):
            (self.a.test32_rr if compared == 0x45 else self.a.test64_rr)(step.ins[0], step.ins[0])
            return Condition.E
        self.compare(step, compared)
        return CONDITIONS[compared - (0x51 if compared >= 0x51 else 0x46)]

    # ---- everything else ----

    def _operation(self, step: Step) -> None:
        op = self.func.op[step.value]
        if op >= 0x45:
            self._numeric(step, op)
        elif 0x28 <= op <= 0x3E:
            self.access(step, op)
        elif op == _SELECT:
            self._select(step)
        elif op == Op.RETURN:
            self.a.leave()
            self.a.ret()
        elif op == Op.TRAP:
            self.trap_row(step.value, "unreachable", -1)
            self.a.hlt()
        elif op == Op.CALL:
            self._call(step)
        elif op == Op.CALL_INDIRECT:
            self._call_indirect(step)
        elif op == Op.LIBCALL:
            self._library(step)
        elif op == Op.RESULT:
            self._result(step)
        else:
            self._instance(step, op)

    def _numeric(self, step: Step, op: int) -> None:
        if op >= 0xFC00:
            self.saturate(step, op)
        elif op in (0x6A, 0x6B, 0x71, 0x72, 0x73, 0x7C, 0x7D, 0x83, 0x84, 0x85):
            self.alu(step, op)
        elif op in (0x6C, 0x7E):
            self.multiply(step, op)
        elif 0x74 <= op <= 0x78 or 0x86 <= op <= 0x8A:
            self.shift(step, op)
        elif 0x6D <= op <= 0x70 or 0x7F <= op <= 0x82:
            self.divide(step, op)
        elif 0x46 <= op <= 0x4F or 0x51 <= op <= 0x5A:
            self.compare(step, op)
            self.flag(CONDITIONS[op - (0x51 if op >= 0x51 else 0x46)], step.out)
        elif 0x5B <= op <= 0x66:
            self.compare_floats(step, op)
        elif 0x92 <= op <= 0x95 or 0xA0 <= op <= 0xA3:
            self.arithmetic(step, op)
        elif op in (0x96, 0x97, 0xA4, 0xA5):
            self.extreme(step, op)
        elif op in (0x98, 0xA6):
            self.copysign(step, op)
        elif op in (0x8B, 0x8C, 0x99, 0x9A):
            self.sign(step, op)
        elif 0x8D <= op <= 0x91 or 0x9B <= op <= 0x9F:
            self.unary_float(step, op)
        elif op in (0xA8, 0xA9, 0xAA, 0xAB, 0xAE, 0xAF, 0xB0, 0xB1):
            self.truncate(step, op)
        elif 0xB2 <= op <= 0xBB:
            self.convert(step, op)
        else:
            self.unary(step, op)

    def _select(self, step: Step) -> None:
        _, second, condition = step.ins
        a = self.a
        a.test32_rr(condition, condition)
        if step.out >= 16:
            keep = a.label()
            a.jcc_l(Condition.NE, keep)
            a.movaps_rr(step.out - 16, second - 16)
            a.bind(keep)
        else:
            a.cmove64_rr(step.out, second)

    def _enter(self, step: Step) -> None:
        """Call the function whose record r11 points at, in its own instance; back in ours."""
        a = self.a
        self.trap_row(step.value, "call", -1)
        a.mov64_rm(Reg.R15, SCRATCH, RECORD_INSTANCE)
        a.mov64_rm(Reg.R14, Reg.R15, MEMORY_BASE)
        a.call_m(SCRATCH, 0)
        a.mov64_rm(Reg.R15, Reg.RBP, -8)
        a.mov64_rm(Reg.R14, Reg.R15, MEMORY_BASE)

    def _call(self, step: Step) -> None:
        index = self.func.imm[step.value]
        assert isinstance(index, int)
        a = self.a
        a.mov64_rm(SCRATCH, Reg.R15, FUNCTIONS)
        a.mov64_rm(SCRATCH, SCRATCH, 8 * index)
        if index < self._imported:
            self._enter(step)
        else:
            self.trap_row(step.value, "call", -1)
            a.call_m(SCRATCH, 0)

    def _call_indirect(self, step: Step) -> None:
        imm = self.func.imm[step.value]
        assert isinstance(imm, tuple)
        type_index, table = imm
        a = self.a
        a.mov64_rm(SCRATCH, Reg.R15, TABLES)
        a.cmp32_rm(TABLE_INDEX, SCRATCH, table * TABLE_BYTES + TABLE_COUNT)
        self.trap_if(step.value, Condition.AE, "undefined element", -1)
        a.mov64_rm(SCRATCH, SCRATCH, table * TABLE_BYTES)
        a.mov64_rx(SCRATCH, SCRATCH, TABLE_INDEX, 8, 0)
        a.test64_rr(SCRATCH, SCRATCH)
        self.trap_if(step.value, Condition.E, "uninitialized element", -1)
        a.cmp32_mi(SCRATCH, RECORD_TYPE, self._type_numbers[type_index])
        self.trap_if(step.value, Condition.NE, "indirect call type mismatch", -1)
        self._enter(step)

    def _library(self, step: Step) -> None:
        """Operands into the instance's buffer, a number into its request word, and over to the host."""
        a = self.a
        func = self.func
        for position, place in enumerate(step.ins):
            assert place < STACK_WORD, "library calls take few operands"
            self.store(Reg.R15, BUFFER + 8 * position, place)
        self._requests.append(func.imm[step.value])
        a.mov64_mi(Reg.R15, REQUEST, len(self._requests) - 1)
        self.trap_row(step.value, "library", -1)
        a.call_m(Reg.R15, CHECK_STUB)
        if step.out >= 0:
            self.load(step.out, Reg.R15, BUFFER)

    def _result(self, step: Step) -> None:
        position = self.func.imm[step.value]
        assert isinstance(position, int)
        types = self.func.result_types_of[self.func.args[step.value][0]]
        place = places(list(types), RESULT_WORD)[position]
        if place >= RESULT_WORD:
            self.load(step.out, *self.memory(place))

    def _instance(self, step: Step, op: int) -> None:
        """Globals and references."""
        a, imm = self.a, self.func.imm[step.value]
        assert isinstance(imm, int)
        if op == Op.REF_FUNC:
            a.mov64_rm(step.out, Reg.R15, FUNCTIONS)
            a.mov64_rm(step.out, step.out, imm * 8)
            return
        a.mov64_rm(SCRATCH, Reg.R15, GLOBALS)
        a.mov64_rm(SCRATCH, SCRATCH, 8 * imm)
        if op == Op.GLOBAL_GET:
            self.load(step.out, SCRATCH, 0)
        else:
            self.store(SCRATCH, 0, step.ins[0])


def emit(
    func: Func, allocation: Allocation, *, imported: int, type_numbers: list[int], requests: list[object]
) -> Emitted:
    """The bytes of one function.

    `imported` functions come first in the index space; `type_numbers` gives each type of the module its number in
    function records; `requests` collects what the numbers of library calls mean.
    """
    return _Emitter(func, allocation, imported, type_numbers, requests).run()
