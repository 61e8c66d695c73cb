"""Executes the SSA form of functions, and says at each opcode what the form's states name.

Arithmetic, memories, tables and globals are the reference interpreter's; what is under test is which values the form
computes from which, in what order things happen, and what local or operand each value stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.reference import instructions
from tests.reference.numeric import NUMERIC, sign_extend
from tests.reference.store import Function, Instance
from tests.reference.traps import Trap, TrapKind
from trapline.compile.ir import Func, Op
from trapline.compile.operations import PURE_OPS
from trapline.compile.pipeline import ModuleTypes, to_ssa
from trapline.wasm.body import Body, decode_body
from trapline.wasm.module import Module
from trapline.wasm.types import EXTERNREF, FUNCREF
from trapline.wasm.validate import validate_body

VIRTUAL = frozenset([0x01, 0x02, 0x03, 0x05, 0x0B])
"""nop, block, loop, else, end: no two interpreters step through these alike."""

State = tuple[int, int, tuple[Any, ...], tuple[Any, ...]]
"""(defined function, Wasm pc, locals, operands) as bits."""


class Lowered:
    """One function: its body, its SSA form, the locals' values at each opcode."""

    def __init__(self, module: Module, defined_index: int, keep_states: bool) -> None:
        self.body: Body = decode_body(module, defined_index)
        validate_body(module, self.body)
        self.func: Func = to_ssa(
            self.body.function_index, self.body, self.body.type, ModuleTypes(module), keep_states
        )
        self.locals_at: list[tuple[int, ...]] = []
        now = list(self.func.initial_locals)
        events = iter([*self.func.local_events, (1 << 60, 0, 0)])
        event = next(events)
        for index in range(len(self.body.opcodes) + 1):
            while event[0] <= index:
                now[event[1]] = event[2]
                event = next(events)
            self.locals_at.append(tuple(now))

    def operands_at(self, index: int) -> list[int]:
        out, cell = [], self.func.stack_at[index]
        assert cell != -2, f"opcode {index} has no state"
        while cell >= 0:
            out.append(self.func.cell_value[cell])
            cell = self.func.cell_below[cell]
        return out[::-1]


def _key(op: int) -> Any:
    return (0xFC, op & 0xFF) if op > 0xFF else op


_LOADS: dict[int, tuple[int, Callable[[int], int] | None]] = {
    0x28: (4, None), 0x29: (8, None), 0x2A: (4, None), 0x2B: (8, None),
    0x2C: (1, sign_extend(8, 32)), 0x2D: (1, None), 0x2E: (2, sign_extend(16, 32)), 0x2F: (2, None),
    0x30: (1, sign_extend(8, 64)), 0x31: (1, None), 0x32: (2, sign_extend(16, 64)), 0x33: (2, None),
    0x34: (4, sign_extend(32, 64)), 0x35: (4, None),
}
_STORES = {0x36: 4, 0x37: 8, 0x38: 4, 0x39: 8, 0x3A: 1, 0x3B: 2, 0x3C: 1, 0x3D: 2, 0x3E: 4}
_LIBRARY = {
    0x25: instructions.table_get,
    0x26: instructions.table_set,
    0x3F: instructions.memory_size,
    0x40: instructions.memory_grow,
    0xFC08: instructions.memory_init,
    0xFC09: instructions.data_drop,
    0xFC0A: instructions.memory_copy,
    0xFC0B: instructions.memory_fill,
    0xFC0C: instructions.table_init,
    0xFC0D: instructions.elem_drop,
    0xFC0E: instructions.table_copy,
    0xFC0F: instructions.table_grow,
    0xFC10: instructions.table_size,
    0xFC11: instructions.table_fill,
}


class _FakeFrame:
    """All that the reference's stateful instructions look at."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance


class SsaInterpreter:
    """Runs functions of one instance of the reference in their SSA form; `trace` gets each state."""

    def __init__(self, module: Module, instance: Instance, trace: Callable[[State], None], keep_states: bool) -> None:
        self._module = module
        self._instance = instance
        self._frame = _FakeFrame(instance)
        self._trace = trace
        self._keep_states = keep_states
        self._lowered: dict[int, Lowered] = {}
        self.depth_limit = 150

    def call(self, function: Function, arguments: list[Any], depth: int = 0) -> list[Any]:
        """Results of a function; raises Trap."""
        if depth >= self.depth_limit:
            raise Trap(TrapKind.STACK_EXHAUSTED)
        index = function.defined_index
        if index not in self._lowered:
            self._lowered[index] = Lowered(self._module, index, self._keep_states)
        return _Activation(self, self._lowered[index], index, depth).run(arguments)


class _Activation:
    def __init__(self, owner: SsaInterpreter, lowered: Lowered, index: int, depth: int) -> None:
        self._owner = owner
        self._lowered = lowered
        self._func = lowered.func
        self._index = index
        self._depth = depth
        self._values: dict[int, Any] = {}
        self._results: dict[int, list[Any]] = {}
        placed = {value for block in self._func.blocks for value in block.instructions}
        self._unplaced = {value for value in range(len(self._func.op)) if value not in placed} - {
            param for block in self._func.blocks for param in block.params
        }
        """Instructions in no block: fused into others, or removed."""
        for value, op in enumerate(self._func.op):
            if op == Op.CONST:  # the same everywhere, computed or not
                is_reference = self._func.type[value] in (FUNCREF, EXTERNREF)
                self._values[value] = None if is_reference else self._func.imm[value]

    def _state(self, opcode: int) -> None:
        body = self._lowered.body
        if body.opcodes[opcode] in VIRTUAL:
            return
        named = [*self._lowered.locals_at[opcode], *self._lowered.operands_at(opcode)]
        count = len(body.locals)
        bits = [self._bits(value, opcode) for value in named]
        self._owner._trace((self._index, body.offsets[opcode], tuple(bits[:count]), tuple(bits[count:])))

    def _bits(self, value: int, opcode: int) -> Any:
        """What a state shows: a pure value that is not computed yet, or never will be, from its operands."""
        func = self._func
        is_late = value in self._unplaced or func.pos[value] == opcode
        if func.op[value] in PURE_OPS and func.op[value] != Op.CONST and is_late:
            args = [self._bits(arg, opcode) for arg in func.args[value]]
            return "dead" if "dead" in args else self._pure(value, args)
        if not self._owner._keep_states:
            return self._values.get(value, "dead")
        assert value in self._values, f"opcode {opcode} names value {value}, which has not been computed"
        return self._values[value]

    def _pure(self, value: int, args: list[Any]) -> Any:
        op = self._func.op[value]
        if op == 0x1B:
            return args[0] if args[2] else args[1]
        if op == 0xD1:
            return int(args[0] is None)
        if op == Op.REF_FUNC:
            return self._owner._instance.functions[self._func.imm[value]]  # type: ignore[index]
        return NUMERIC[_key(op)].function(*args)

    def run(self, arguments: list[Any]) -> list[Any]:
        func = self._func
        self._values.update(zip(func.blocks[0].params, arguments, strict=True))
        number = 0
        while True:
            block = func.blocks[number]
            opcode = block.start_pos
            for instruction in block.instructions:
                pos = func.pos[instruction]
                while opcode <= pos:
                    self._state(opcode)
                    opcode += 1
                way = self._execute(instruction)
            if way is None:
                return self._returned
            edge = block.edges[way]
            target = func.blocks[edge.target]
            moved = [self._values[arg] for arg in edge.args]
            self._values.update(zip(target.params, moved, strict=True))
            number = edge.target

    _returned: list[Any]

    def _execute(self, instruction: int) -> int | None:
        """Does one instruction; a terminator says which edge, None for a return."""
        func, values = self._func, self._values
        op, imm = func.op[instruction], func.imm[instruction]
        args = [values[arg] for arg in func.args[instruction] if op != Op.RESULT]
        if op in (Op.CONST, Op.JUMP):
            return 0
        if op == Op.BRANCH:
            holds = args[0] if imm is None else NUMERIC[_key(imm)].function(*args)
            return 0 if holds else 1
        if op == Op.SWITCH:
            edges = next(block for block in func.blocks if block.instructions[-1:] == [instruction]).edges
            return min(args[0], len(edges) - 1)
        if op == Op.RETURN:
            self._returned = args
            return None
        if op == Op.TRAP:
            raise Trap(TrapKind.UNREACHABLE)
        if op == Op.RESULT:
            values[instruction] = self._results[func.args[instruction][0]][imm]
        elif op in (Op.CALL, Op.CALL_INDIRECT):
            self._call(instruction, op, args, imm)
        elif op == Op.COPY:
            values[instruction] = args[0]
        elif op == Op.GLOBAL_GET:
            values[instruction] = self._owner._instance.globals[imm].value
        elif op == Op.GLOBAL_SET:
            self._owner._instance.globals[imm].value = args[0]
        elif op == Op.REF_FUNC:
            values[instruction] = self._owner._instance.functions[imm]
        elif op == Op.LIBCALL:
            code, immediate = imm
            at = immediate if isinstance(immediate, tuple) else (immediate or 0,)
            _LIBRARY[code](self._owner._frame, args, at)
            if args:
                values[instruction] = args[-1]
        elif op == 0x1B:
            values[instruction] = args[0] if args[2] else args[1]
        elif op == 0xD1:
            values[instruction] = int(args[0] is None)
        elif op in _LOADS or op in _STORES:
            self._access(instruction, op, args, imm)
        else:
            values[instruction] = NUMERIC[_key(op)].function(*args)
        return 0

    def _access(self, instruction: int, op: int, args: list[Any], imm: Any) -> None:
        data = self._owner._instance.memories[0].data
        at = args[0] + imm[1]
        count = _STORES[op] if op in _STORES else _LOADS[op][0]
        if at + count > len(data):
            raise Trap(TrapKind.MEMORY_BOUNDS)
        if op in _STORES:
            data[at : at + count] = (args[1] & (1 << 8 * count) - 1).to_bytes(count, "little")
        else:
            extend = _LOADS[op][1]
            bits = int.from_bytes(data[at : at + count], "little")
            self._values[instruction] = extend(bits) if extend else bits

    def _call(self, instruction: int, op: int, args: list[Any], imm: Any) -> None:
        owner, instance = self._owner, self._owner._instance
        if op == Op.CALL:
            function = instance.functions[imm]
        else:
            items = instance.tables[imm[1]].items
            element = args.pop()
            if element >= len(items):
                raise Trap(TrapKind.UNDEFINED_ELEMENT)
            function = items[element]
            if function is None:
                raise Trap(TrapKind.UNINITIALIZED_ELEMENT)
            if function.type != instance.module.types[imm[0]]:
                raise Trap(TrapKind.INDIRECT_CALL_TYPE)
        results = owner.call(function, args, self._depth + 1)
        self._results[instruction] = results
        if results:
            self._values[instruction] = results[0]
