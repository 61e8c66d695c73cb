"""Allocated SSA to x86-64 bytes, with the offset of every stop point, step and trap site.

Requires: a Func and its Allocation for the machine of `shapes` with the target's features. Leaves: an Emitted, to be
placed at a multiple of 16. Invariant: nothing but this module and those it is built from knows an instruction.

A block's steps come in order; a value with a slot is stored there right behind its definition. A way out of a block
whose edge makes moves gets them in line where control falls through, else out of line. Behind the function's last
block come moves, then trap instructions, then data: jump tables and constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from trapline.arch.x86_64.assembler import Assembler, Condition, Reg
from trapline.compile.allocate import SLOT, Allocation, Step
from trapline.compile.ir import Func, Op
from trapline.compile.x86_64.calls import Calls
from trapline.compile.x86_64.integers import CONDITIONS
from trapline.compile.x86_64.layout import (
    FLOAT_ARGUMENTS,
    FLOAT_SCRATCH,
    GUARD_BYTES,
    SCRATCH,
    STACK_WORD,
    STRIDE_BYTES,
    SWITCH_SCRATCH,
    SWITCH_TABLE_WAYS,
    places,
    word_count,
)
from trapline.compile.x86_64.moves import Site
from trapline.compile.x86_64.target import Target
from trapline.wasm.types import F32, F64

__all__ = ["Emitted", "TrapRow", "emit"]

_SELECT: Final = 0x1B
_THREE: Final = frozenset([0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E])
"""add, sub, mul: what `apart` may do."""


class TrapRow(NamedTuple):
    """Where code may trap, or comes back from a call.

    offset  of the instruction; of kind "call" behind it, where its return address points
    pos     opcode index
    kind    "stack", "memory" (by a fault), "division", "truncation 32", "truncation 64" or the words of the trap;
            "memory bounds" and "table bounds" for what is compared or C functions say
    place   of the operand that tells more, or -1
    block   and `step` of the allocation it belongs to, -1 for those in the function's first instructions. Again from
            the start: go to the step's start (with the operands in the places it names, which a C function has
            destroyed). Go on without: behind the step.
    """

    offset: int
    pos: int
    kind: str
    place: int
    block: int
    step: int


@dataclass(slots=True)
class Emitted:
    """The bytes of one function, and what is where, as offsets in them.

    stops           (offset, opcode index) by offset
    traps           rows in the order of emission
    block_offsets   of each block: where it begins; parameters are stored to their slots before its first step
    step_offsets    of each block: where each step begins, then where the last one ends. A move without bytes has become
                    part of the instruction behind it: its register does not hold the value in between
    edge_offsets    of each block, for each of its edges: [start, stop) of the moves and of the jump behind them, in
                    line (then within the last step) or out of line; empty for an edge that is only a branch
    type_fixups     (offset of 4 bytes that become the type's number when the code is placed, type index)
    dispatches      [start, stop): code that has an address of this copy of the code in a register and jumps there; who
                    moves a pc from one copy to another moves one in here to the start
    data_start      from here on no byte is an instruction
    jump_tables     (offset, entries): entries of 4 bytes, signed, the distance of an instruction from the table's start
    frame_bytes     what the function takes of the stack below the caller's rbp
    """

    code: bytes
    stops: list[tuple[int, int]]
    traps: list[TrapRow]
    block_offsets: list[int]
    step_offsets: list[list[int]]
    edge_offsets: list[list[tuple[int, int]]]
    type_fixups: list[tuple[int, int]]
    dispatches: list[tuple[int, int]]
    data_start: int
    jump_tables: list[tuple[int, int]]
    frame_bytes: int


class _Late(NamedTuple):
    """The moves of an edge, out of line."""

    label: int
    moves: list[Step]
    target: int
    edges: list[tuple[int, int]]  # (block, edge) that come here


class _Emitter(Calls):
    def __init__(self, func: Func, allocation: Allocation, target: Target, anchors: bool) -> None:
        super().__init__(Assembler(), func, target)
        self._allocation = allocation
        self._anchors = anchors
        self._labels = [self.a.label() for _ in func.blocks]
        self._stops: list[tuple[int, int]] = []
        self._late: list[_Late] = []
        self._late_by_moves: dict[tuple[object, ...], _Late] = {}
        self._tables: list[tuple[int, list[int]]] = []  # (label of the table, labels it leads to)
        self._dispatches: list[tuple[int, int]] = []
        # As indices of pieces:
        self._blocks: list[int] = []
        self._steps: list[list[int]] = []
        self._edges: list[list[tuple[int, int]]] = [[(0, 0)] * len(block.edges) for block in func.blocks]
        words = 1 + allocation.slot_count + self._outgoing_words()
        self._frame_bytes = (8 * words + 15) // 16 * 16

    def _outgoing_words(self) -> int:
        """What the calls need above their return addresses."""
        func, most = self.func, 0
        for value, op in enumerate(func.op):
            if (op == Op.CALL or op == Op.CALL_INDIRECT) and len(func.args[value]) > len(FLOAT_ARGUMENTS):
                args = func.args[value] if op == Op.CALL else func.args[value][:-1]
                most = max(most, word_count([func.type[arg] for arg in args]))
        for types in func.result_types_of.values():
            most = max(most, word_count(types))
        return most

    # ---- the function ----

    def run(self) -> Emitted:
        a = self.a
        self._prologue()
        for number in range(len(self.func.blocks)):
            self._block(number)
        for late in self._late:
            a.bind(late.label)
            start = len(a._pieces)
            self._moves(late.moves)
            a.jmp_l(self._labels[late.target])
            for number, way in late.edges:
                self._edges[number][way] = start, len(a._pieces)
        for label, site in self.late_sites:
            a.bind(label)
            self.sites.append(site._replace(piece=len(a._pieces)))
            a.hlt()
        data = a.here()
        for table, ways in self._tables:
            a.align(4)
            a.bind(table)
            a.data(bytes(4 * len(ways)))
        code = a.finish()
        return self._emitted(self._with_tables(code), a.offset(data))

    def _with_tables(self, code: bytes) -> bytes:
        """Jump tables filled in: distances from the table's start."""
        if not self._tables:
            return code
        filled, offset = bytearray(code), self.a.offset
        for table, ways in self._tables:
            start = offset(table)
            entries = [(offset(way) - start).to_bytes(4, "little", signed=True) for way in ways]
            filled[start : start + 4 * len(ways)] = b"".join(entries)
        return bytes(filled)

    def _emitted(self, code: bytes, data_start: int) -> Emitted:
        starts = self.a._starts
        return Emitted(
            code,
            [(starts[piece], pos) for piece, pos in self._stops],
            [
                TrapRow(starts[piece], pos, kind, place, block, step)
                for piece, pos, kind, place, block, step in self.sites
            ],
            [starts[piece] for piece in self._blocks],
            [[starts[piece] for piece in pieces] for pieces in self._steps],
            [[(starts[first], starts[last]) for first, last in edges] for edges in self._edges],
            [(starts[piece + 1] - 4, type_) for piece, type_ in self.type_uses],
            [(starts[first], starts[last]) for first, last in self._dispatches],
            data_start,
            [(self.a.offset(table), len(ways)) for table, ways in self._tables],
            self._frame_bytes + 8,
        )

    def _prologue(self) -> None:
        """Touch the stack as far down as this frame and the C functions below it may need it, then make the frame.

        The caller has touched GUARD_BYTES below its own frame, so one touch does while the frame is not larger than
        a stride; no touch jumps over the guard.
        """
        a = self.a
        a.bind(self.entry)
        last = self._frame_bytes + GUARD_BYTES
        for depth in (*range(GUARD_BYTES + STRIDE_BYTES, last, STRIDE_BYTES), last):
            self.sites.append(Site(len(a._pieces), 0, "stack", -1, -1, -1))
            a.test32_mr(Reg.RSP, -depth, Reg.RAX)
        a.push_r(Reg.RBP)
        a.mov64_rr(Reg.RBP, Reg.RSP)
        a.sub64_ri(Reg.RSP, self._frame_bytes)
        a.mov64_mr(Reg.RBP, -8, Reg.R15)
        params = self.func.blocks[0].params
        types = [self.func.type[param] for param in params]
        for param, type_, place in zip(params, types, places(types, STACK_WORD), strict=True):
            slot = self._allocation.slot[param]
            if slot < 0:
                continue
            if place >= STACK_WORD:
                register = 16 + FLOAT_SCRATCH if type_ in (F32, F64) else SCRATCH
                self.load(register, Reg.RBP, 16 + 8 * (place - STACK_WORD), type_)
                place = register
            self.store(*self.memory(SLOT + slot), place, type_)

    def _stored(self, value: int, place: int) -> None:
        slot = self._allocation.slot[value]
        if slot >= 0 and place != SLOT + slot:
            self.store(*self.memory(SLOT + slot), place, self.func.type[value])

    def _moves(self, steps: list[Step]) -> None:
        for step in steps:
            if step.kind == 0:
                self.move(step)
            else:
                self.constant(step.value, step.out)

    def _block(self, number: int) -> None:
        block, func, pieces = self.func.blocks[number], self.func, self.a._pieces
        steps = self._allocation.steps[number]
        self._blocks.append(len(pieces))
        marks: list[int] = []
        self._steps.append(marks)
        if steps:
            self.a.bind(self._labels[number])
            if number:
                for param, place in zip(block.params, self._allocation.param_places[number], strict=True):
                    if param not in self._allocation.delivered:
                        self._stored(param, place)
            self._stops.append((len(pieces), block.start_pos))
        last = block.start_pos
        self.block_number = number
        first = -1  # where a move that is part of the next step's instruction comes from
        for index, step in enumerate(steps):
            marks.append(len(pieces))
            kind, value, ins, out = step
            if kind == 0:
                if out < 16 and 0 <= ins[0] < 16 and self._joins(steps[index + 1], out):
                    first = ins[0]
                else:
                    self.move(step)
                continue
            if kind == 1:
                self.constant(value, out)
                continue
            self.step_number = index
            op, pos = func.op[value], func.pos[value]
            if pos != last:
                self._stops.append((len(pieces), pos))
                last = pos
            if op in (Op.JUMP, Op.BRANCH, Op.SWITCH):
                self._terminator(number, step)
                continue
            if first >= 0:
                self.apart(step, op, first)
                first = -1
            else:
                self._operation(step, op)
            if out >= 0:
                self._stored(value, out)
        marks.append(len(pieces))

    def _joins(self, step: Step, out: int) -> bool:
        """Whether the move of a first operand and this step are one instruction."""
        op = self.func.op[step.value]
        return (
            step.kind == 2 and step.out == out and op in _THREE and step.ins[0] == out
        ) and self.has_three_operands(step, op)

    # ---- control ----

    def _way(self, number: int, way: int) -> int:
        """A label that leads along an edge: the target's, or that of moves out of line."""
        moves = self._allocation.edge_moves[number][way]
        target = self.func.blocks[number].edges[way].target
        here = len(self.a._pieces)
        self._edges[number][way] = here, here
        if not moves:
            return self._labels[target]
        key = (number, target, *moves)
        late = self._late_by_moves.get(key)
        if late is None:
            late = _Late(self.a.label(), moves, target, [])
            self._late.append(late)
            self._late_by_moves[key] = late
        late.edges.append((number, way))
        return late.label

    def _fall(self, number: int, way: int) -> None:
        """Along an edge in line."""
        start = len(self.a._pieces)
        self._moves(self._allocation.edge_moves[number][way])
        target = self.func.blocks[number].edges[way].target
        if target != number + 1:
            self.a.jmp_l(self._labels[target])
        self._edges[number][way] = start, len(self.a._pieces)

    def _needs_anchor(self, number: int) -> bool:
        """Whether a block that ends in a jump has opcodes but no code, and other ways lead to where it falls through:
        its stop points would be those of the next block. checker_paths.py proves that this is enough."""
        func = self.func
        block = func.blocks[number]
        target = block.edges[0].target
        return (
            len(self.a._pieces) == self._blocks[number]
            and target == number + 1
            and not self._allocation.edge_moves[number][0]
            and len(func.blocks[target].predecessors) > 1
            and block.start_pos <= func.pos[block.instructions[-1]]
        )

    def _terminator(self, number: int, step: Step) -> None:
        op = self.func.op[step.value]
        edges = self.func.blocks[number].edges
        if op == Op.JUMP:
            if self._anchors and self._needs_anchor(number):
                self.a.nop()
            self._fall(number, 0)
        elif op == Op.BRANCH:
            holds = self._condition(step)
            if edges[0].target == number + 1:
                self.a.jcc_l(holds ^ 1, self._way(number, 1))
                self._fall(number, 0)
            elif edges[0].target <= number and self._allocation.edge_moves[number][0]:
                # The way back makes its moves in line: one taken jump a round, not two.
                onwards = self.a.label()
                self.a.jcc_l(holds ^ 1, onwards)
                self._fall(number, 0)
                self.a.bind(onwards)
                self._fall(number, 1)
            else:
                self.a.jcc_l(holds, self._way(number, 0))
                self._fall(number, 1)
        elif len(edges) >= SWITCH_TABLE_WAYS:
            self._table_jump(number, step.ins[0], len(edges) - 1)
        else:
            self._few_ways(number, step.ins[0], len(edges) - 1)

    def _few_ways(self, number: int, selector: int, default: int) -> None:
        """Comparisons, each of which tells two ways from the rest."""
        a = self.a
        for way in range(1, default, 2):
            a.cmp32_ri(selector, way)
            a.jcc_l(Condition.B, self._way(number, way - 1))
            a.jcc_l(Condition.E, self._way(number, way))
        if default & 1:
            if default > 1:
                a.cmp32_ri(selector, default - 1)
            else:
                a.test32_rr(selector, selector)
            a.jcc_l(Condition.E, self._way(number, default - 1))
        self._fall(number, default)

    def _table_jump(self, number: int, selector: int, default: int) -> None:
        """A table of distances from its own start; whatever is beyond it goes along the last way."""
        a = self.a
        table, beyond = a.label(), a.label()
        falls = bool(self._allocation.edge_moves[number][default])
        a.cmp32_ri(selector, default)
        a.jcc_l(Condition.AE, beyond if falls else self._way(number, default))
        start = len(a._pieces)
        a.lea64_rp(SCRATCH, table)
        a.movsxd64_32_rx(SWITCH_SCRATCH, SCRATCH, selector, 4, 0)
        a.add64_rr(SCRATCH, SWITCH_SCRATCH)
        a.jmp_r(SCRATCH)
        self._dispatches.append((start, len(a._pieces)))
        self._tables.append((table, [self._way(number, way) for way in range(default)]))
        if falls:
            a.bind(beyond)
            self._fall(number, default)

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

    def _operation(self, step: Step, op: int) -> None:
        if op >= 0x45:
            _NUMERIC[op](self, step, op)
        elif 0x28 <= op <= 0x3E:
            self.access(step, op)
        elif op == _SELECT:
            self._select(step)
        elif op == Op.RETURN:
            self.a.leave()
            self.a.ret()
        elif op == Op.TRAP:
            self.trap_row(step.value, "unreachable")
            self.a.hlt()
        elif op == Op.CALL:
            self.call(step)
        elif op == Op.CALL_INDIRECT:
            self.call_indirect(step)
        elif op == Op.LIBCALL:
            self.library(step)
        elif op == Op.RESULT:
            self.result(step)
        elif op == Op.COPY:
            pass  # its operand is in its register already
        else:
            self.instance(step, op)

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


def _numeric_methods() -> dict[int, Callable[[_Emitter, Step, int], None]]:
    rows: list[tuple[Callable[[_Emitter, Step, int], None], Iterable[int]]] = [
        (_Emitter.unary, (0x45, 0x50, 0x67, 0x68, 0x69, 0x79, 0x7A, 0x7B, 0xA7, 0xAC, 0xAD, *range(0xBC, 0xC5), 0xD1)),
        (_Emitter.comparison, (*range(0x46, 0x50), *range(0x51, 0x5B))),
        (_Emitter.compare_floats, range(0x5B, 0x67)),
        (_Emitter.alu, (0x6A, 0x6B, 0x71, 0x72, 0x73, 0x7C, 0x7D, 0x83, 0x84, 0x85)),
        (_Emitter.multiply, (0x6C, 0x7E)),
        (_Emitter.divide, (*range(0x6D, 0x71), *range(0x7F, 0x83))),
        (_Emitter.shift, (*range(0x74, 0x79), *range(0x86, 0x8B))),
        (_Emitter.sign, (0x8B, 0x8C, 0x99, 0x9A)),
        (_Emitter.unary_float, (*range(0x8D, 0x92), *range(0x9B, 0xA0))),
        (_Emitter.arithmetic, (*range(0x92, 0x96), *range(0xA0, 0xA4))),
        (_Emitter.extreme, (0x96, 0x97, 0xA4, 0xA5)),
        (_Emitter.copysign, (0x98, 0xA6)),
        (_Emitter.truncate, (0xA8, 0xA9, 0xAA, 0xAB, 0xAE, 0xAF, 0xB0, 0xB1)),
        (_Emitter.convert, range(0xB2, 0xBC)),
        (_Emitter.saturate, range(0xFC00, 0xFC08)),
    ]
    return {op: method for method, ops in rows for op in ops}


_NUMERIC: Final = _numeric_methods()
"""Numeric opcode -> what emits it."""


def emit(func: Func, allocation: Allocation, target: Target, anchors: bool = False) -> Emitted:
    """The bytes of one function; with `anchors` a stop and the one before it always tell the opcode."""
    return _Emitter(func, allocation, target, anchors).run()
