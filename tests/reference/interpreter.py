"""A reference interpreter of WebAssembly that shows its whole state, from the specification's chapter "Execution".

It shares nothing with the package under test: its decoder, tables and arithmetic are its own. Wasm calls live on a list
of frames, so that the state of every frame can be read at each opcode, at each trap and inside each host function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.reference.binary import (
    ConstExpression,
    FunctionType,
    GlobalType,
    Import,
    Limits,
    MemoryType,
    Module,
    TableType,
    decode,
)
from tests.reference.instructions import memory_init, table_init
from tests.reference.numeric import NUMERIC
from tests.reference.predecode import NO_OPCODE, Code, Kind, predecode
from tests.reference.store import (
    Extern,
    Frame,
    Function,
    Global,
    HostFunction,
    Instance,
    Memory,
    Table,
    TypedValue,
    Value,
)
from tests.reference.traps import LinkError, StepLimit, Trap, TrapKind

__all__ = ["FrameState", "Interpreter", "Limit"]


@dataclass(frozen=True)
class FrameState:
    """One frame as a debugger sees it.

    function    index among the functions that the module defines; `index` counts imports too
    pc          byte offset of the current opcode from the start of the module
    locals      parameters and declared locals, with types, as bits
    operands    the operand stack, bottom first; of a frame that is in a call, what lies below the call's arguments
    arguments   those of the call that the frame is in; empty for a frame that is not in one
    activation  0 for frames of the outermost `invoke`, 1 for those of one made by a host function below, and so on
    """

    instance: Instance
    function: int
    index: int
    pc: int
    locals: tuple[TypedValue, ...]
    operands: tuple[TypedValue, ...]
    arguments: tuple[TypedValue, ...]
    activation: int


@dataclass
class Limit:
    """What the specification leaves to an implementation."""

    frames: int = 10_000  # deeper calls trap with "call stack exhausted"
    activations: int = 50  # so do deeper nestings of invoke -> host function -> invoke
    memory_pages: int = 4096  # memories beyond do not grow
    table_elements: int = 20_000_000
    steps: int | None = None  # opcodes over the interpreter's life, then StepLimit is raised


class Interpreter:
    """Instantiates and runs modules.

    Imports are mappings from (module, name) to externs: functions, tables, memories or globals of other instances, or
    those made by the embedder (HostFunction, Table, Memory, Global). Values are bits; see `store`.
    """

    def __init__(self, limit: Limit | None = None) -> None:
        self.limit = limit or Limit()
        self.steps = 0  # opcodes executed; counted only while limit.steps is set
        self._frames: list[Frame] = []
        self._activations = 0
        self._on_step: Callable[[], None] | None = None
        self._on_trap: Callable[[Trap], None] | None = None

    # Looking

    def on_step(self, callback: Callable[[], None] | None) -> None:
        """Sets what is called before each opcode, `block`, `loop`, `else` and `end` included.

        It is heeded by invocations that begin later and by those that had a callback when they began.
        """
        self._on_step = callback

    def on_trap(self, callback: Callable[[Trap], None] | None) -> None:
        """Sets what is called at a trap, once, while the frames still stand."""
        self._on_trap = callback

    def frames(self) -> list[FrameState]:
        """The frames of all activations, innermost first. Empty outside of `invoke`."""
        return [self._state(frame) for frame in reversed(self._frames)]

    @property
    def depth(self) -> int:
        return len(self._frames)

    def _state(self, frame: Frame) -> FrameState:
        code, function = frame.code, frame.function
        types = code.types[frame.pc]
        height = len(frame.stack)
        # Between a call_indirect and its return, its own operand is neither an operand nor an argument.
        missing = len(types) - height - len(frame.arguments)
        assert missing == 0 or (missing == 1 and code.operations[frame.pc][0] == Kind.CALL_INDIRECT), types
        return FrameState(
            frame.instance,
            function.defined_index,
            function.index,
            code.offsets[frame.pc],
            tuple(map(TypedValue, code.local_types, frame.locals)),
            tuple(map(TypedValue, types[:height], frame.stack)),
            tuple(map(TypedValue, types[height:], frame.arguments)),
            frame.activation,
        )

    # Instantiation

    def instantiate(self, module: Module | bytes, imports: Mapping[tuple[str, str], Extern] | None = None) -> Instance:
        """Instantiates a valid module and runs its start function. Raises LinkError and Trap."""
        if isinstance(module, bytes):
            module = decode(module)
        instance = Instance(module)
        for wanted in module.imports:
            self._import(instance, wanted, imports or {})
        for defined, type_index in enumerate(module.functions):
            index = len(instance.functions)
            instance.functions.append(Function(module.types[type_index], instance, index, defined))
        for global_type, expression in module.globals:
            instance.globals.append(Global(global_type, self.evaluate(instance, expression)))
        for table_type, expression in module.tables:
            value = self.evaluate(instance, expression)
            instance.tables.append(Table(table_type, value, self.limit.table_elements))
        instance.memories += [Memory(memory_type, self.limit.memory_pages) for memory_type in module.memories]
        for element in module.elements:
            instance.elements.append([self.evaluate(instance, item) for item in element.items])
        instance.data += [data.content for data in module.data]
        spaces: dict[str, Sequence[Extern]] = {
            "func": instance.functions,
            "table": instance.tables,
            "memory": instance.memories,
            "global": instance.globals,
        }
        for export in module.exports:
            instance.exports[export.name] = spaces[export.kind][export.index]
        self._segments(instance)
        if module.start is not None:
            self.invoke(instance.functions[module.start], ())
        return instance

    def _import(self, instance: Instance, wanted: Import, imports: Mapping[tuple[str, str], Extern]) -> None:
        extern = imports.get((wanted.module, wanted.name))
        if extern is None:
            raise LinkError(f"unknown import: {wanted.module!r} {wanted.name!r}")
        expected = wanted.type
        if isinstance(extern, Function | HostFunction) and isinstance(expected, FunctionType):
            fits = extern.type == expected
            instance.functions.append(extern)
        elif isinstance(extern, Table) and isinstance(expected, TableType):
            fits = extern.element == expected.element and limits_match(extern.type.limits, expected.limits)
            instance.tables.append(extern)
        elif isinstance(extern, Memory) and isinstance(expected, MemoryType):
            fits = limits_match(extern.type.limits, expected.limits)
            instance.memories.append(extern)
        elif isinstance(extern, Global) and isinstance(expected, GlobalType):
            fits = extern.type == expected
            instance.globals.append(extern)
        else:
            fits = False
        if not fits:
            raise LinkError(f"incompatible import type: {wanted.module!r} {wanted.name!r}, expected {expected}")

    def evaluate(self, instance: Instance, expression: ConstExpression) -> Value:
        """The value of a constant expression."""
        stack: list[Value] = []
        for opcode, immediate in expression:
            if opcode == 0x23:
                stack.append(instance.globals[int(immediate)].value)
            elif opcode == 0xD2:
                stack.append(instance.functions[int(immediate)])
            elif opcode == 0xD0:
                stack.append(None)
            elif opcode in NUMERIC:
                right = stack.pop()
                stack[-1] = NUMERIC[opcode].function(stack[-1], right)
            else:
                stack.append(immediate)
        return stack[-1]

    def _segments(self, instance: Instance) -> None:
        """Copies the active segments in their order, as if by table.init and memory.init, and drops them."""
        nothing = Frame.__new__(Frame)
        nothing.instance = instance
        try:
            for index, element in enumerate(instance.module.elements):
                if element.mode == "active":
                    start = self.evaluate(instance, element.offset)
                    table_init(nothing, [start, 0, len(element.items)], (index, element.table))
                if element.mode != "passive":
                    instance.elements[index] = []
            for index, data in enumerate(instance.module.data):
                if data.mode == "active":
                    start = self.evaluate(instance, data.offset)
                    memory_init(nothing, [start, 0, len(data.content)], (index, data.memory))
                    instance.data[index] = b""
        except Trap as trap:
            self._report(trap)
            raise

    # Execution

    def invoke(self, function: Function | HostFunction, arguments: Sequence[Value]) -> list[Value]:
        """Calls a function with values as bits and gives its results.

        Raises Trap, StepLimit, and whatever a host function raises; no frame is left behind then.
        """
        if isinstance(function, HostFunction):
            return list(function.call(arguments))
        if len(arguments) != len(function.type.params):
            raise TypeError(f"{len(arguments)} arguments for {function.type}")
        base = len(self._frames)
        if base >= self.limit.frames or self._activations >= self.limit.activations:
            trap = Trap(TrapKind.STACK_EXHAUSTED)
            self._report(trap)
            raise trap
        code = self._code(function)
        self._frames.append(Frame(function, [*arguments, *code.zeros], self._activations))
        self._activations += 1
        try:
            return self._run(base)
        finally:
            self._activations -= 1
            del self._frames[base:]

    @staticmethod
    def _code(function: Function) -> Code:
        if function.code is None:
            function.code = predecode(function.instance.module, function.defined_index)
        code: Code = function.code
        return code

    def _report(self, trap: Trap) -> None:
        if not trap.reported:
            trap.reported = True
            if self._on_trap is not None:
                self._on_trap(trap)

    def _host_call(self, frame: Frame, function: HostFunction, count: int, indirect: int) -> None:
        """Calls a host function with `count` operands, below the index of a call_indirect (`indirect` is 1).

        If it raises, the operands are back in their place.
        """
        stack = frame.stack
        start = len(stack) - count - indirect
        taken = stack[start:]
        del stack[start:]
        frame.arguments = taken[:count]
        try:
            stack += function.call(tuple(frame.arguments))
        except BaseException:
            stack += taken
            raise
        finally:
            frame.arguments = []

    def _callee(self, frame: Frame, function_type: FunctionType, table: int) -> Function | HostFunction:
        """What call_indirect calls; its operand stays on the stack."""
        items = frame.instance.tables[table].items
        index = frame.stack[-1]
        if index >= len(items):
            raise Trap(TrapKind.UNDEFINED_ELEMENT)
        function: Function | HostFunction | None = items[index]
        if function is None:
            raise Trap(TrapKind.UNINITIALIZED_ELEMENT)
        if function.type != function_type:
            raise Trap(TrapKind.INDIRECT_CALL_TYPE)
        return function

    def _count_step(self) -> None:
        self.steps += 1
        if self.limit.steps is not None and self.steps > self.limit.steps:
            raise StepLimit(f"{self.limit.steps} opcodes executed")

    def _run(self, base: int) -> list[Value]:
        """Runs the innermost frame until it returns to where there were `base` frames."""
        frames = self._frames
        frame = frames[-1]
        pc = frame.pc
        looks = self._on_step is not None or self.limit.steps is not None
        try:
            while True:  # once for each change of frame
                operations, offsets = frame.code.operations, frame.code.offsets
                instance, stack, values = frame.instance, frame.stack, frame.locals
                memories = instance.memories
                while True:  # once for each opcode
                    kind, a, b, c = operations[pc]
                    if looks and offsets[pc] != NO_OPCODE:
                        frame.pc = pc
                        self._count_step()
                        if self._on_step is not None:
                            self._on_step()
                    # Most frequent first; the numbers are those of Kind.
                    if kind == 0:  # LOCAL_GET
                        stack.append(values[a])
                    elif kind == 1:  # CONST
                        stack.append(a)
                    elif kind == 2:  # BINARY
                        stack[-2] = a(stack[-2], stack[-1])
                        stack.pop()
                    elif kind == 3:  # LOCAL_SET
                        values[a] = stack.pop()
                    elif kind == 4:  # LOCAL_TEE
                        values[a] = stack[-1]
                    elif kind == 5:  # UNARY
                        stack[-1] = a(stack[-1])
                    elif kind == 6:  # BR_IF
                        if stack.pop():
                            pc = a
                            continue
                    elif kind == 7:  # LOAD
                        data = memories[c].data
                        at = stack[-1] + a
                        if at + b > len(data):
                            raise Trap(TrapKind.MEMORY_BOUNDS)
                        stack[-1] = int.from_bytes(data[at : at + b], "little")
                    elif kind == 8:  # STORE
                        data = memories[c[0]].data
                        at = stack[-2] + a
                        if at + b > len(data):
                            raise Trap(TrapKind.MEMORY_BOUNDS)
                        data[at : at + b] = (stack[-1] & c[1]).to_bytes(b, "little")
                        del stack[-2:]
                    elif kind == 9:  # NOP
                        pass
                    elif kind == 10:  # IF
                        if not stack.pop():
                            pc = a
                            continue
                    elif kind == 11:  # JUMP
                        pc = a
                        continue
                    elif kind == 12:  # BR_MOVE
                        stack[b:] = stack[len(stack) - c :]
                        pc = a
                        continue
                    elif kind == 13:  # BR_IF_MOVE
                        if stack.pop():
                            stack[b:] = stack[len(stack) - c :]
                            pc = a
                            continue
                    elif kind == 14:  # BR_TABLE
                        choice = stack.pop()
                        pc, height, count = a[choice] if choice < len(a) else a[-1]
                        stack[height:] = stack[len(stack) - count :]
                        continue
                    elif kind == 15 or kind == 23:  # CALL, CALL_INDIRECT
                        frame.pc = pc
                        if kind == 15:
                            function, count, indirect = instance.functions[a], b, 0
                        else:
                            function, count, indirect = self._callee(frame, a, b), len(a.params), 1
                        if isinstance(function, Function):
                            if len(frames) >= self.limit.frames:
                                raise Trap(TrapKind.STACK_EXHAUSTED)
                            code = function.code or self._code(function)
                            top = len(stack) - indirect
                            arguments = stack[top - count : top]
                            del stack[top - count :]
                            frame.arguments = arguments
                            frame = Frame(function, arguments + code.zeros, frame.activation)
                            frames.append(frame)
                            pc = 0
                            break
                        self._host_call(frame, function, count, indirect)
                    elif kind == 16:  # RETURN
                        results = stack[len(stack) - a :]
                        if len(frames) == base + 1:
                            return results
                        frames.pop()
                        frame = frames[-1]
                        frame.arguments = []
                        frame.stack += results
                        pc = frame.pc + 1
                        break
                    elif kind == 17:  # GLOBAL_GET
                        stack.append(instance.globals[a].value)
                    elif kind == 18:  # GLOBAL_SET
                        instance.globals[a].value = stack.pop()
                    elif kind == 19:  # LOAD_EXTEND
                        data = memories[c[0]].data
                        at = stack[-1] + a
                        if at + b > len(data):
                            raise Trap(TrapKind.MEMORY_BOUNDS)
                        stack[-1] = c[1](int.from_bytes(data[at : at + b], "little"))
                    elif kind == 20:  # DROP
                        stack.pop()
                    elif kind == 21:  # SELECT
                        condition, second = stack.pop(), stack.pop()
                        if not condition:
                            stack[-1] = second
                    elif kind == 22:  # STATEFUL
                        a(frame, stack, b)
                    elif kind == 24:  # SIMPLE
                        start = len(stack) - b
                        stack[start:] = [a(*stack[start:])]
                    else:
                        assert kind == Kind.UNREACHABLE, f"operation {kind}"
                        raise Trap(TrapKind.UNREACHABLE)
                    pc += 1
        except Trap as trap:
            frame.pc = pc
            self._report(trap)
            raise


def limits_match(found: Limits, expected: Limits) -> bool:
    """Whether what was found may be imported where `expected` is declared."""
    if found.minimum < expected.minimum:
        return False
    return expected.maximum is None or (found.maximum is not None and found.maximum <= expected.maximum)
