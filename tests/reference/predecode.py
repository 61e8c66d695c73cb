"""A function body as a list of operations with matched labels: what the interpreter's loop runs.

Requires a valid body. Leaves one operation per opcode that can be reached, in the order of the bytes, with the byte
offset of the opcode and the types of the operand stack before it; code after an unconditional branch, up to the next
`else` or `end`, cannot be reached and leaves nothing. The types come from one pass over the stack effects, as in the
specification's appendix "Validation algorithm", without its checks.

An operation is (kind, a, b, c); `Kind` says what a, b and c are. Places are indices into the list. A branch goes

    block, if   to the operation after the `end`
    loop        to the `loop` itself, which the specification makes the continuation of its label
    function    to the RETURN that closes the list; it has no opcode of its own (offset -1)

and `if` goes, when its operand is zero, behind its `else`, or to its `end` where there is no `else`.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from tests.reference.binary import FunctionType, MalformedError, Module, Reader
from tests.reference.instructions import LOADS, STATEFUL, STORES
from tests.reference.numeric import NUMERIC, Opcode
from tests.reference.store import zero

__all__ = ["NO_OPCODE", "Code", "Kind", "Operation", "predecode"]

NO_OPCODE = -1


class Kind(enum.IntEnum):
    LOCAL_GET = 0  # a: local
    CONST = 1  # a: value
    BINARY = 2  # a: function
    LOCAL_SET = 3  # a: local
    LOCAL_TEE = 4  # a: local
    UNARY = 5  # a: function
    BR_IF = 6  # a: place
    LOAD = 7  # a: offset, b: width in bytes, c: memory
    STORE = 8  # a: offset, b: width in bytes, c: (memory, mask)
    NOP = 9  # also block, loop and the `end` of either or of an if
    IF = 10  # a: place to go to when zero
    JUMP = 11  # a: place; a branch that leaves the stack as it is, and the `else` at the end of the first arm
    BR_MOVE = 12  # a: place, b: height of the stack below the label, c: operands that the branch takes along
    BR_IF_MOVE = 13  # as BR_MOVE
    BR_TABLE = 14  # a: list of (place, height, operands), the default last
    CALL = 15  # a: function index, b: parameters
    RETURN = 16  # a: results
    GLOBAL_GET = 17  # a: global
    GLOBAL_SET = 18  # a: global
    LOAD_EXTEND = 19  # a: offset, b: width in bytes, c: (memory, function)
    DROP = 20
    SELECT = 21
    STATEFUL = 22  # a: function (frame, stack, indices), b: indices
    CALL_INDIRECT = 23  # a: FunctionType, b: table
    SIMPLE = 24  # a: function of the operands that gives one value, b: operands; for other counts than one and two
    UNREACHABLE = 25


Operation = tuple[int, Any, Any, Any]


class Code(NamedTuple):
    """A body ready to run. `offsets` and `types` have an entry for each operation."""

    operations: list[Operation]
    offsets: list[int]
    types: list[tuple[str, ...]]
    local_types: tuple[str, ...]
    zeros: list[Any]  # what the locals behind the parameters start with
    params: int
    results: int


class Label:
    """An open block. `height` is that of the stack below its parameters."""

    def __init__(self, opcode: int, block_type: FunctionType, height: int, place: int, reachable: bool) -> None:
        self.opcode = opcode
        self.type = block_type
        self.height = height
        self.place = place  # of the opening operation
        self.reachable = reachable  # whether the block can be entered at all
        self.waiting: list[tuple[int, int | None]] = []  # operations, with entry if a BR_TABLE, that go behind its end


BLOCK, LOOP, IF, ELSE, END = 0x02, 0x03, 0x04, 0x05, 0x0B
FUNCTION = 0x00  # stands for the opcode of the label of the whole body
CONSTANTS: dict[Opcode, str] = {0x41: "i32", 0x42: "i64", 0x43: "f32", 0x44: "f64"}


def predecode(module: Module, defined_index: int) -> Code:
    return _Predecoder(module, defined_index).run()


class _Predecoder:
    def __init__(self, module: Module, defined_index: int) -> None:
        body = module.bodies[defined_index]
        self.module = module
        self.function_type = module.types[module.functions[defined_index]]
        self.local_types = self.function_type.params + body.locals
        self.zeros = [zero(kind) for kind in body.locals]
        self.reader = Reader(module.content, body.start, body.stop)
        self.operations: list[Operation] = []
        self.offsets: list[int] = []
        self.types: list[tuple[str, ...]] = []
        self.stack: list[str] = []
        self.reachable = True
        self.labels: list[Label] = []
        self.offset = 0  # of the opcode being read

    def run(self) -> Code:
        reader = self.reader
        self.labels.append(Label(FUNCTION, FunctionType((), self.function_type.results), 0, 0, True))
        while self.labels:
            self.offset = reader.at
            opcode = reader.opcode()
            if opcode in (BLOCK, LOOP, IF):
                assert isinstance(opcode, int)
                self.open(opcode)
            elif opcode == ELSE:
                self.else_()
            elif opcode == END:
                self.end()
            elif not self.control(opcode) and not self.variable(opcode):
                self.table_driven(opcode)
        if reader.at != reader.stop:
            raise MalformedError(f"the body ends at {reader.stop:#x}, its last `end` at {reader.at:#x}")
        function_type = self.function_type
        counts = len(function_type.params), len(function_type.results)
        return Code(self.operations, self.offsets, self.types, self.local_types, self.zeros, *counts)

    # Emission

    def emit(self, kind: Kind, a: Any = None, b: Any = None, c: Any = None) -> None:
        """Adds an operation with the stack as it is; in code that cannot be reached, nothing."""
        if self.reachable:
            self.operations.append((int(kind), a, b, c))
            self.offsets.append(self.offset)
            self.types.append(tuple(self.stack))

    def effect(self, params: int, results: tuple[str, ...] = ()) -> None:
        """Takes operands off the stack of types and puts results on it."""
        if self.reachable:
            if params:
                del self.stack[len(self.stack) - params :]
            self.stack += results

    def stop(self) -> None:
        """What follows, up to the next `else` or `end`, cannot be reached."""
        self.reachable = False

    # Control

    def open(self, opcode: int) -> None:
        block_type = self.reader.block_type(self.module.types)
        self.emit(Kind.IF if opcode == IF else Kind.NOP)
        if opcode == IF:
            self.effect(1)
        height = len(self.stack) - len(block_type.params)
        self.labels.append(Label(opcode, block_type, height, len(self.operations) - 1, self.reachable))

    def else_(self) -> None:
        label = self.labels[-1]
        if self.reachable:
            label.waiting.append((len(self.operations), None))
            self.emit(Kind.JUMP)
        if label.reachable:
            self.reachable = True
            self.target(label.place, len(self.operations))
            self.stack[label.height :] = label.type.params
        label.opcode = ELSE

    def end(self) -> None:
        label = self.labels.pop()
        if label.opcode == FUNCTION:
            self.emit(Kind.RETURN, len(label.type.results))
            self.reachable = True
            self.offset = NO_OPCODE
            self.stack = list(label.type.results)
            for place, entry in label.waiting:
                self.target(place, len(self.operations), entry)
            self.emit(Kind.RETURN, len(label.type.results))
            return
        if label.reachable:
            if label.opcode == IF:  # without an `else`, so that its parameters are its results
                self.reachable = True
                self.target(label.place, len(self.operations))
            self.stack[label.height :] = label.type.results
            self.emit(Kind.NOP)
            for place, entry in label.waiting:
                self.target(place, len(self.operations), entry)
            self.reachable = True

    def target(self, place: int, to: int, entry: int | None = None) -> None:
        """Gives an operation emitted before the place it goes to; `entry` is the one in a BR_TABLE."""
        kind, a, b, c = self.operations[place]
        if entry is None:
            self.operations[place] = (kind, to, b, c)
        else:
            a[entry] = (to, *a[entry][1:])

    def goal(self, depth: int, entry: int | None = None) -> tuple[int, int, int]:
        """(place, height, operands) of a branch in the operation to be emitted next.

        A place behind an `end` not yet read is given as 0, and filled in at that `end`.
        """
        label = self.labels[-1 - depth]
        if label.opcode == LOOP:
            return label.place, label.height, len(label.type.params)
        label.waiting.append((len(self.operations), entry))
        return 0, label.height, len(label.type.results)

    def control(self, opcode: Opcode) -> bool:
        """Reads one of the instructions that may go elsewhere than to the next; False if it is none of them."""
        reader = self.reader
        if opcode == 0x00:
            self.emit(Kind.UNREACHABLE)
            self.stop()
        elif opcode == 0x01:
            self.emit(Kind.NOP)
        elif opcode in (0x0C, 0x0D):
            depth = reader.unsigned()
            if self.reachable:
                self.jump(depth, conditional=opcode == 0x0D)
        elif opcode == 0x0E:
            depths = [*reader.vector(reader.unsigned), reader.unsigned()]
            if self.reachable:
                self.emit(Kind.BR_TABLE, [self.goal(depth, entry) for entry, depth in enumerate(depths)])
            self.stop()
        elif opcode == 0x0F:
            self.emit(Kind.RETURN, len(self.function_type.results))
            self.stop()
        elif opcode == 0x10:
            function = reader.unsigned()
            params, results = self.module.function_types[function]
            self.emit(Kind.CALL, function, len(params))
            self.effect(len(params), results)
        elif opcode == 0x11:
            function_type = self.module.types[reader.unsigned()]
            self.emit(Kind.CALL_INDIRECT, function_type, reader.unsigned())
            self.effect(len(function_type.params) + 1, function_type.results)
        else:
            return False
        return True

    def jump(self, depth: int, conditional: bool) -> None:
        place, height, operands = self.goal(depth)
        moves = len(self.stack) - int(conditional) != height + operands
        if conditional:
            self.emit(Kind.BR_IF_MOVE if moves else Kind.BR_IF, place, height, operands)
            self.effect(1)
        else:
            self.emit(Kind.BR_MOVE if moves else Kind.JUMP, place, height, operands)
            self.stop()

    # Variables, constants and the parametric instructions

    def variable(self, opcode: Opcode) -> bool:
        reader = self.reader
        if opcode == 0x1A:
            self.emit(Kind.DROP)
            self.effect(1)
        elif opcode in (0x1B, 0x1C):
            if opcode == 0x1C:
                reader.vector(reader.value_type)
            self.emit(Kind.SELECT)
            self.effect(2)  # the type that stays is that of the first operand
        elif opcode in (0x20, 0x21, 0x22):
            local = reader.unsigned()
            self.emit({0x20: Kind.LOCAL_GET, 0x21: Kind.LOCAL_SET, 0x22: Kind.LOCAL_TEE}[opcode], local)
            self.effect(0 if opcode == 0x20 else 1, () if opcode == 0x21 else (self.local_types[local],))
        elif opcode == 0x23:
            index = reader.unsigned()
            self.emit(Kind.GLOBAL_GET, index)
            self.effect(0, (self.module.global_types[index].type,))
        elif opcode == 0x24:
            self.emit(Kind.GLOBAL_SET, reader.unsigned())
            self.effect(1)
        elif opcode in CONSTANTS:
            self.emit(Kind.CONST, self.constant(opcode))
            self.effect(0, (CONSTANTS[opcode],))
        elif opcode == 0xD0:
            kind = reader.value_type()
            self.emit(Kind.CONST, None)
            self.effect(0, (kind,))
        else:
            return False
        return True

    def constant(self, opcode: Opcode) -> int:
        if opcode == 0x41:
            return self.reader.signed(32) & 0xFFFF_FFFF
        if opcode == 0x42:
            return self.reader.signed(64) & 0xFFFF_FFFF_FFFF_FFFF
        return int.from_bytes(self.reader.bytes(4 if opcode == 0x43 else 8), "little")

    # What the tables describe

    def table_driven(self, opcode: Opcode) -> None:
        if opcode in NUMERIC:
            row = NUMERIC[opcode]
            count = len(row.params)
            kind = {1: Kind.UNARY, 2: Kind.BINARY}.get(count, Kind.SIMPLE)
            self.emit(kind, row.function, count)
            self.effect(count, (row.result,))
        elif opcode in LOADS:
            access = LOADS[opcode]
            offset = self.memory_argument()
            if access.extend is None:
                self.emit(Kind.LOAD, offset, access.width_bytes, 0)
            else:
                self.emit(Kind.LOAD_EXTEND, offset, access.width_bytes, (0, access.extend))
            self.effect(1, (access.type,))
        elif opcode in STORES:
            access = STORES[opcode]
            mask = (1 << 8 * access.width_bytes) - 1
            self.emit(Kind.STORE, self.memory_argument(), access.width_bytes, (0, mask))
            self.effect(2)
        elif opcode in STATEFUL:
            self.stateful(opcode)
        else:
            raise MalformedError(f"at {self.offset:#x}: opcode {opcode} is not known to the reference")

    def memory_argument(self) -> int:
        """The offset; the alignment before it is a hint. (Multiple memories add an index here.)"""
        self.reader.unsigned()
        return self.reader.unsigned()

    def stateful(self, opcode: Opcode) -> None:
        row = STATEFUL[opcode]
        indices = tuple(self.reader.unsigned() for _ in range(row.indices))
        self.emit(Kind.STATEFUL, row.execute, indices)
        results = tuple(
            self.module.table_types[indices[0]].element if name == "element" else name for name in row.results
        )
        self.effect(len(row.params), results)

