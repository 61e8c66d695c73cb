"""Wasm bodies to SSA, in one walk over the opcodes.

Requires: a validated body. Leaves: a Func whose blocks lie in the order of the opcodes, with the state of every opcode.
Raises: nothing; whatever validation let through can be lowered.

Values are numbered while walking: pure operations are folded and looked up among the dominating ones (value numbering),
everything that can trap or that anybody else can see stays an instruction in its place. A merge gets a
parameter for each value on which its predecessors disagree; a loop header for each local that its body sets.

Not done: loads are not looked up, because a debugger may write memory at any stop point; a pass that keeps
memory values in registers has to make them part of the state.
"""

from __future__ import annotations

from typing import Final, Protocol

from trapline.compile.divide import DIVISIONS, divide
from trapline.compile.fold import COMMUTATIVE, FIRST, fold_binary, fold_unary
from trapline.compile.ir import NO_TYPE, Block, Edge, Func, Op
from trapline.compile.labels import Label, assigned_locals
from trapline.compile.operations import LOADS, PLAIN, PURE_OPS, STORES
from trapline.wasm.opcodes import OPCODES
from trapline.wasm.types import F32, F64, FUNCREF, I32, I64, FuncType

__all__ = ["Environment", "SourceBody", "lower"]


class SourceBody(Protocol):
    """What lowering reads of a decoded and validated body: trapline.wasm.body.Body."""

    opcodes: list[int]
    immediates: list[object]
    offsets: list[int]
    ends: list[int]
    elses: list[int]
    locals: list[int]
    reachable: bytearray


class Environment(Protocol):
    """What lowering asks of the module."""

    def type_of(self, type_index: int) -> FuncType: ...
    def type_of_function(self, function_index: int) -> FuncType: ...
    def type_of_global(self, global_index: int) -> tuple[int, bool]: ...
    def type_of_table(self, table_index: int) -> int: ...


_UNREACHABLE, _BLOCK, _LOOP, _IF, _ELSE, _END = 0x00, 0x02, 0x03, 0x04, 0x05, 0x0B
_DEAD: Final = -3
"""The `block` of a frame that began in code that cannot be reached."""
_MASKS: Final = {I32: 0xFFFF_FFFF, I64: 0xFFFF_FFFF_FFFF_FFFF}


class _Lowering:
    def __init__(self, func: Func, body: SourceBody, type_: FuncType, environment: Environment, full: bool) -> None:
        self._func = func
        self._body = body
        self._type = type_
        self._environment = environment
        self._full = full
        self._block = Block(-1, 0, 0)
        self._number = 0
        func.blocks.append(self._block)
        self._loop = -1
        self._depth = 0
        self._depths: list[int] = []
        """Of each value, the depth of the loops it is defined in; those of the present depth are not there yet."""
        self._cell = -1
        self._locals: list[int] = []
        self._named: list[int] = []
        self._known: dict[tuple[object, ...], int] = {}
        self._log: list[tuple[tuple[object, ...], int | None]] = []
        self._labels: list[Label] = []
        self._assigned = assigned_locals(body.opcodes, body.immediates)

    # ---- blocks ----

    def _start(self, pos: int) -> int:
        """Begin a new block here; returns its number."""
        self._block = Block(self._loop, self._depth, pos)
        self._number = len(self._func.blocks)
        self._func.blocks.append(self._block)
        return self._number

    def _emit(self, op: int, args: tuple[int, ...], type_: int, imm: object, pos: int) -> int:
        number = self._func.add(op, args, type_, imm, pos)
        self._block.instructions.append(number)
        return number

    def _link(self, edge: Edge, target: int) -> None:
        self._block.edges.append(edge)
        if target >= 0:
            self._func.blocks[target].predecessors.append(self._number)

    def _change_depth(self, depth: int) -> None:
        self._depths += [self._depth] * (len(self._func.op) - len(self._depths))
        self._depth = depth

    # ---- the operand stack: a chain of cells, so that a state is one number ----

    def _push(self, value: int) -> None:
        func = self._func
        func.cell_value.append(value)
        func.cell_below.append(self._cell)
        self._cell = len(func.cell_value) - 1

    def _pop(self) -> int:
        cell = self._cell
        self._cell = self._func.cell_below[cell]
        return self._func.cell_value[cell]

    def _pop_many(self, count: int) -> list[int]:
        out = [self._pop() for _ in range(count)]
        out.reverse()
        return out

    def _top(self, count: int) -> list[int]:
        cell, out = self._cell, []
        for _ in range(count):
            out.append(self._func.cell_value[cell])
            cell = self._func.cell_below[cell]
        out.reverse()
        return out

    # ---- value numbering ----

    def _constant(self, type_: int, bits: int, pos: int) -> int:
        return self._value((Op.CONST, type_, bits), Op.CONST, (), type_, bits, pos)

    def _value(self, key: tuple[object, ...], op: int, args: tuple[int, ...], type_: int, imm: object, pos: int) -> int:
        """The number of a pure value: a dominating one with the same key, or a new instruction."""
        found = self._known.get(key)
        if found is not None:
            return found
        number = self._emit(op, args, type_, imm, pos)
        self._log.append((key, None))
        self._known[key] = number
        return number

    def _forget(self, mark: int) -> None:
        """Back to the values known at a mark of the undo log."""
        log, known = self._log, self._known
        while len(log) > mark:
            key, before = log.pop()
            if before is None:
                del known[key]
            else:
                known[key] = before

    def _pure(self, code: int, args: tuple[int, ...], type_: int, pos: int) -> int:
        func = self._func
        op, imm = func.op, func.imm
        if len(args) == 1:
            if op[args[0]] == Op.CONST:
                bits = fold_unary(code, imm[args[0]])  # type: ignore[arg-type]
                if bits is not None:
                    return self._constant(type_, bits, pos)
        else:
            a, b = args
            left = imm[a] if op[a] == Op.CONST else None
            right = imm[b] if op[b] == Op.CONST else None
            if code in COMMUTATIVE and (right is None and (left is not None or b < a)):
                a, b, left, right = b, a, right, left
                args = (a, b)
            if right is not None or a == b:
                folded = fold_binary(code, left, right, a == b)  # type: ignore[arg-type]
                if folded == FIRST:
                    return a
                if folded is not None:
                    return self._constant(type_, folded, pos)
        return self._value((code, *args), code, args, type_, None, pos)

    def _trapping(self, code: int, args: tuple[int, ...], type_: int, pos: int) -> int:
        """An operation that may trap, unless it is a division by a constant that says it cannot."""
        if code in DIVISIONS and self._func.op[args[1]] == Op.CONST:
            bits = self._func.imm[args[1]]
            assert isinstance(bits, int)
            quotient = divide(_Builder(self, pos), code, args[0], bits)
            if quotient is not None:
                return quotient
        return self._emit(code, args, type_, None, pos)

    # ---- locals ----

    def _name(self, pos: int, local: int, value: int) -> None:
        """From opcode `pos` on, the local holds the value."""
        if self._named[local] != value:
            self._named[local] = value
            self._func.local_events.append((pos, local, value))

    def _own(self, value: int, local: int) -> None:
        """A local takes a value: the first to do so owns it, and a second time nobody does."""
        owner = self._func.owner
        owner[value] = local if value not in owner else -1

    def _carried(self, label: Label, results: list[int]) -> list[int]:
        now = self._locals
        return results + [now[local] for local in label.assigned]

    # ---- control ----

    def _branch_edge(self, depth: int) -> tuple[Edge, int]:
        """An edge to a label that carries the top of the stack, and its target if that is known already."""
        label = self._labels[-1 - depth]
        edge = Edge(label.block, self._carried(label, self._top(label.arity)))
        if not label.is_loop:
            label.incoming.append((self._number, edge))
        return edge, label.block

    def _jump(self, edge: Edge, target: int, pos: int) -> None:
        self._emit(Op.JUMP, (), NO_TYPE, None, pos)
        self._link(edge, target)

    def _begin_loop(self, index: int, params: tuple[int, ...], results: tuple[int, ...]) -> None:
        assigned = self._assigned[index]
        carried = self._pop_many(len(params))
        label = Label(True, results, len(params), assigned, self._cell)
        self._emit(Op.JUMP, (), NO_TYPE, None, index)
        edge = Edge(-1, self._carried(label, carried))
        entered_from, entry = self._number, self._block
        self._loop = len(self._func.blocks)
        self._change_depth(self._depth + 1)
        header = self._start(index + 1)
        self._block.is_header = True
        edge.target = header
        entry.edges.append(edge)
        self._block.predecessors.append(entered_from)
        label.block = header
        func = self._func
        types = [*params, *(func.type[self._locals[local]] for local in assigned)]
        values = []
        for position, type_ in enumerate(types):
            value = func.add(Op.PARAM, (), type_, position, index + 1)
            self._block.params.append(value)
            values.append(value)
        for value in values[: len(params)]:
            self._push(value)
        for local, value in zip(assigned, values[len(params) :], strict=True):
            self._locals[local] = value
            self._own(value, local)
            self._name(index + 1, local, value)
        self._labels.append(label)

    def _merge(self, label: Label, pos: int) -> bool:
        """Begin the block behind a frame's end from its incoming edges; False when nothing comes in.

        Values on which the edges disagree become parameters, and so do those that a loop has made which ends here: what
        happens to them behind the loop, a store to a slot above all, must not happen in it. Values that are the same
        along every edge share a parameter.
        """
        func = self._func
        incoming = label.incoming
        self._cell = label.base_cell
        if not incoming:
            return False
        self._start(pos)
        block = self._block
        for source, edge in incoming:
            edge.target = self._number
            block.predecessors.append(source)
        depths, depth = self._depths, self._depth
        values: list[int] = []
        kept: list[int] = []
        made: dict[tuple[int, ...], int] = {}
        for at, args in enumerate(zip(*[edge.args for _, edge in incoming], strict=True)):
            first = args[0]
            if args.count(first) == len(args) and (
                first >= len(depths) or depths[first] <= depth or func.op[first] == Op.CONST
            ):
                values.append(first)
                continue
            value = made.get(args, -1)
            if value < 0:
                value = made[args] = func.add(Op.PARAM, (), func.type[first], len(kept), pos)
                block.params.append(value)
                kept.append(at)
            values.append(value)
        for _, edge in incoming:
            edge.args = [edge.args[at] for at in kept]
        block_params = set(block.params)
        for value in values[: label.arity]:
            self._push(value)
        for local, value in zip(label.assigned, values[label.arity :], strict=True):
            self._locals[local] = value
            if value in block_params:
                self._own(value, local)
            self._name(pos, local, value)
        return True

    def _end(self, index: int, falls: bool) -> bool:
        """The `end` of the innermost frame; whether the code behind it can be reached."""
        label = self._labels.pop()
        if label.else_edge is not None:  # an `if` without `else`: the condition's other way leads here
            label.incoming.append((label.else_edge.target, label.else_edge))
            label.else_edge = None
        if label.is_loop:
            self._func.loop_ends[label.block] = len(self._func.blocks)
            header = self._func.blocks[label.block]
            self._loop = self._outer_loop()
            self._change_depth(header.depth - 1)
            if not falls:
                self._cell = label.base_cell
                return False
            label.arity = len(label.result_types)
        if falls:
            edge = Edge(-1, self._carried(label, self._top(label.arity)))
            label.incoming.append((self._number, edge))
            self._jump(edge, -1, index)
        if len(label.incoming) > 1 or not falls:
            self._forget(label.mark)
        return self._merge(label, index + 1)

    def _outer_loop(self) -> int:
        for label in reversed(self._labels):
            if label.is_loop:
                return label.block
        return -1

    def _begin_if(self, index: int, params: tuple[int, ...], results: tuple[int, ...]) -> None:
        condition = self._pop()
        carried = self._top(len(params))
        base = self._cell
        for _ in params:
            base = self._func.cell_below[base]
        label = Label(False, results, len(results), self._assigned[index], base)
        label.else_cell = self._cell
        label.else_locals = list(self._locals)
        label.mark = len(self._log)
        self._labels.append(label)
        self._emit(Op.BRANCH, (condition,), NO_TYPE, None, index)
        source, head = self._number, self._block
        taken = self._start(index + 1)
        self._block.predecessors.append(source)
        # Where there is no `else`, the other way carries the block's parameters, which then are its results.
        other = Edge(-1, self._carried(label, carried))
        head.edges += [Edge(taken, []), other]
        label.else_edge = other
        other.target = source  # until it is known: where the edge comes from

    def _else(self, index: int, falls: bool) -> None:
        label = self._labels[-1]
        assert label.else_edge is not None
        if falls:
            edge = Edge(-1, self._carried(label, self._top(label.arity)))
            label.incoming.append((self._number, edge))
            self._jump(edge, -1, index)
        self._forget(label.mark)
        source = label.else_edge.target
        self._locals = list(label.else_locals)
        self._cell = label.else_cell
        label.else_edge.target = self._start(index + 1)
        label.else_edge.args = []
        self._block.predecessors.append(source)
        label.else_edge = None
        for local in label.assigned:
            self._name(index + 1, local, self._locals[local])

    def _br_if(self, depth: int, index: int) -> None:
        condition = self._pop()
        self._emit(Op.BRANCH, (condition,), NO_TYPE, None, index)
        edge, target = self._branch_edge(depth)
        self._link(edge, target)
        source, head = self._number, self._block
        follow = self._start(index + 1)
        head.edges.append(Edge(follow, []))
        self._block.predecessors.append(source)

    def _br_table(self, depths: tuple[int, ...], index: int) -> None:
        selector = self._pop()
        self._emit(Op.SWITCH, (selector,), NO_TYPE, len(depths), index)
        for depth in depths:
            edge, target = self._branch_edge(depth)
            self._link(edge, target)

    # ---- calls and everything else with an effect ----

    def _call(self, op: int, type_: FuncType, args: tuple[int, ...], imm: object, pos: int) -> None:
        results = type_.results
        number = self._emit(op, args, results[0] if results else NO_TYPE, imm, pos)
        if len(results) > 1:
            self._func.result_types_of[number] = results
        for position, result_type in enumerate(results):
            value = number if position == 0 else self._emit(Op.RESULT, (number,), result_type, position, pos)
            self._push(value)

    def _effect(self, code: int, index: int) -> None:
        """An opcode that is neither control nor plain: globals, tables, references, bulk memory, calls, select."""
        imm = self._body.immediates[index]
        environment = self._environment
        if code == 0x10:
            assert isinstance(imm, int)
            type_ = environment.type_of_function(imm)
            self._call(Op.CALL, type_, tuple(self._pop_many(len(type_.params))), imm, index)
        elif code == 0x11:
            assert isinstance(imm, tuple)
            type_ = environment.type_of(imm[0])
            self._call(Op.CALL_INDIRECT, type_, tuple(self._pop_many(len(type_.params) + 1)), imm, index)
        elif code == 0x1A:
            self._pop()
        elif code in (0x1B, 0x1C):
            first, second, condition = self._pop_many(3)
            self._select(first, second, condition, index)
        elif code == 0x23:
            assert isinstance(imm, int)
            self._push(self._emit(Op.GLOBAL_GET, (), environment.type_of_global(imm)[0], imm, index))
        elif code == 0x24:
            self._emit(Op.GLOBAL_SET, (self._pop(),), NO_TYPE, imm, index)
        elif code == 0xD0:
            assert isinstance(imm, int)
            self._push(self._constant(imm, 0, index))
        elif code == 0xD1:
            value = self._pop()
            self._push(self._value((0xD1, value), 0xD1, (value,), I32, None, index))
        elif code == 0xD2:
            self._push(self._value((Op.REF_FUNC, imm), Op.REF_FUNC, (), FUNCREF, imm, index))
        else:
            self._library(code, imm, index)

    def _select(self, first: int, second: int, condition: int, index: int) -> None:
        func = self._func
        if first == second:
            self._push(first)
        elif func.op[condition] == Op.CONST:
            self._push(first if func.imm[condition] else second)
        else:
            args = (first, second, condition)
            self._push(self._value((0x1B, *args), 0x1B, args, func.type[first], None, index))

    def _library(self, code: int, imm: object, index: int) -> None:
        """Opcodes that a function of the runtime carries out."""
        row = OPCODES[code]
        counts = {0x25: 1, 0x26: 2, 0xFC0F: 2, 0xFC11: 3}
        args = tuple(self._pop_many(counts.get(code, len(row.operands))))
        type_ = row.results[0] if row.results else NO_TYPE
        if code == 0x25:
            assert isinstance(imm, int)
            type_ = self._environment.type_of_table(imm)
        elif code == 0xFC0F:
            type_ = I32
        number = self._emit(Op.LIBCALL, args, type_, (code, imm), index)
        if type_ != NO_TYPE:
            self._push(number)

    # ---- the walk ----

    def _prologue(self) -> None:
        func = self._func
        for position, type_ in enumerate(self._type.params):
            value = func.add(Op.PARAM, (), type_, position, 0)
            self._block.params.append(value)
            self._locals.append(value)
            self._own(value, position)
        for type_ in self._body.locals[len(self._type.params) :]:
            self._locals.append(self._constant(type_, 0, 0))
        func.initial_locals = list(self._locals)
        self._named = list(self._locals)
        self._labels.append(Label(False, self._type.results, len(self._type.results), [], -1))

    def run(self) -> None:
        """Walk the body from its first opcode to its last `end`."""
        self._prologue()
        func, body = self._func, self._body
        opcodes, immediates, reachable = body.opcodes, body.immediates, body.reachable
        stack_at = func.stack_at
        falls = True
        for index, code in enumerate(opcodes):
            if not falls:
                # Dead code: only the ends of frames that live code began matter.
                if code in (_BLOCK, _LOOP, _IF):
                    self._labels.append(Label(False, (), 0, [], -1))
                    self._labels[-1].block = _DEAD
                elif code == _ELSE and self._labels[-1].block != _DEAD:
                    self._else(index, False)
                    falls = True
                elif code == _END:
                    if self._labels[-1].block == _DEAD:
                        self._labels.pop()
                    elif len(self._labels) == 1:
                        falls = self._finish(index, False)
                    else:
                        falls = self._end(index, False)
                continue
            assert reachable[index], f"opcode {index} is reached, but validation says that it is not"
            stack_at[index] = self._cell
            if code == 0x20:
                self._push(self._locals[immediates[index]])  # type: ignore[call-overload]
                continue
            plain = PLAIN.get(code)
            if plain is not None:
                count, type_, pure = plain
                if count == 2:
                    second = self._pop()
                    args: tuple[int, ...] = (self._pop(), second)
                else:
                    args = (self._pop(),)
                if pure:
                    self._push(self._pure(code, args, type_, index))
                else:
                    self._push(self._trapping(code, args, type_, index))
            elif code == 0x21 or code == 0x22:
                local = immediates[index]
                assert isinstance(local, int)
                value = self._pop() if code == 0x21 else func.cell_value[self._cell]
                value = self._taken(value, index)
                if code == 0x22:
                    self._pop()
                    self._push(value)
                self._own(value, local)
                self._locals[local] = value
                self._name(index + 1, local, value)
            elif 0x41 <= code <= 0x44:
                bits = immediates[index]
                assert isinstance(bits, int)
                const_type = (I32, I64, F32, F64)[code - 0x41]
                mask = _MASKS.get(const_type)
                self._push(self._constant(const_type, bits if mask is None else bits & mask, index))
            elif code in LOADS:
                self._push(self._emit(code, (self._pop(),), LOADS[code], immediates[index], index))
            elif code in STORES:
                second = self._pop()
                self._emit(code, (self._pop(), second), NO_TYPE, immediates[index], index)
            elif code <= 0x0F:
                falls = self._control(code, index)
            else:
                self._effect(code, index)
        stack_at[len(opcodes)] = self._cell if falls else -2

    def _taken(self, value: int, index: int) -> int:
        """What a local takes at an opcode when it is given a value.

        The state before that opcode still names the local's old value, and no instruction lies between. So a pure value
        made just before is computed here instead: the old one need not outlive the computation, and the state in
        between recomputes the new one from its operands. What an effect made gets a second name here, for the same
        end: old and new can have one home.
        """
        func, instructions = self._func, self._block.instructions
        op = func.op[value]
        if op in PURE_OPS:
            just_made = instructions and instructions[-1] == value and func.pos[value] == index - 1
            if just_made and self._body.opcodes[index - 1] != 0x22:
                func.pos[value] = index
        elif self._full and op != Op.PARAM and value not in func.owner:
            return self._emit(Op.COPY, (value,), func.type[value], None, index)
        return value

    def _control(self, code: int, index: int) -> bool:
        """A control opcode in live code; whether the next opcode is live."""
        imm = self._body.immediates[index]
        if code == _END:
            if len(self._labels) == 1:
                return self._finish(index, True)
            return self._end(index, True)
        if code == _BLOCK:
            assert isinstance(imm, tuple)
            params, results = imm
            base = self._cell
            for _ in params:
                base = self._func.cell_below[base]
            label = Label(False, results, len(results), self._assigned[index], base)
            label.mark = len(self._log)
            self._labels.append(label)
        elif code == _LOOP:
            assert isinstance(imm, tuple)
            self._begin_loop(index, *imm)
        elif code == _IF:
            assert isinstance(imm, tuple)
            self._begin_if(index, *imm)
        elif code == _ELSE:
            self._else(index, True)
        elif code == _UNREACHABLE:
            self._emit(Op.TRAP, (), NO_TYPE, "unreachable", index)
            return False
        elif code == 0x0D:
            assert isinstance(imm, int)
            self._br_if(imm, index)
        elif code == 0x0C:
            assert isinstance(imm, int)
            edge, target = self._branch_edge(imm)
            self._jump(edge, target, index)
            return False
        elif code == 0x0E:
            assert isinstance(imm, tuple)
            self._br_table((*imm[0], imm[1]), index)
            return False
        elif code == 0x0F:
            label = self._labels[0]
            edge = Edge(-1, self._carried(label, self._top(label.arity)))
            label.incoming.append((self._number, edge))
            self._jump(edge, -1, index)
            return False
        return True

    def _finish(self, index: int, falls: bool) -> bool:
        """The function's own `end`: every way out meets in one block that returns."""
        label = self._labels[0]
        if (not falls or label.incoming) and not self._end(index, falls):
            return False
        results = self._top(label.arity)
        self._emit(Op.RETURN, tuple(results), NO_TYPE, None, index)
        return False


class _Builder:
    """Pure operations of one opcode."""

    def __init__(self, lowering: _Lowering, pos: int) -> None:
        self._lowering = lowering
        self._pos = pos

    def constant(self, type_: int, bits: int) -> int:
        return self._lowering._constant(type_, bits, self._pos)

    def pure(self, code: int, args: tuple[int, ...], type_: int) -> int:
        return self._lowering._pure(code, args, type_, self._pos)


def lower(index: int, body: SourceBody, type_: FuncType, environment: Environment, full: bool) -> Func:
    """SSA of one function. `index` is its function index; the body must be valid; `full`: its states will be kept."""
    func = Func(index, len(body.opcodes))
    func.result_types = type_.results
    lowering = _Lowering(func, body, type_, environment, full)
    lowering.run()
    return func
