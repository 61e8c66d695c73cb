"""The bodies of generated functions: expressions and statements by kind, chosen with weights.

Requires the types of all functions, the globals, tables and segments of the module. Leaves code that is valid by
construction: `expression(kind)` pushes one value, `statement()` leaves the stack as it was, and both may stand
anywhere, so that branches, calls and traps find operands below them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.reference.binary import FunctionType
from tests.reference.encode import ModuleBuilder, const, op, signed, unsigned
from tests.reference.instructions import LOADS, STORES
from tests.reference.numeric import NUMERIC, Numeric, Opcode

__all__ = ["NUMBERS", "BodyGenerator", "Surroundings", "interesting"]

NUMBERS = ("i32", "i64", "f32", "f64")
LOOP_FUEL = 12
TYPE_BYTE = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "funcref": 0x70, "externref": 0x6F}
CANONICAL_NAN = {"f32": 0x7FC0_0000, "f64": 0x7FF8_0000_0000_0000}

INTEGERS = (
    *(0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 127, 128, 255, 256, 32767, 32768, 65528, 65535, 65536),
    *(-1, -2, -8, -128, -32769),
)
FLOATS = {
    "f32": (
        *(0x0000_0000, 0x8000_0000, 0x3F80_0000, 0xBF80_0000, 0x3F00_0000, 0xBF00_0000, 0x3FC0_0000, 0x4020_0000),
        *(0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0xFFC0_0000, 0x7FA0_0000, 0xFF80_0001, 0x7FFF_FFFF),  # inf, NaN
        *(0x0000_0001, 0x807F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0xFF7F_FFFF, 0x4B00_0001, 0x4AFF_FFFF),  # extremes
        *(0x4F00_0000, 0x4EFF_FFFF, 0xCF00_0000, 0xCF00_0001, 0x4F80_0000, 0x4F7F_FFFF),  # about 2**31 and 2**32
        *(0x5F00_0000, 0x5EFF_FFFF, 0xDF00_0000, 0xDF00_0001, 0x5F80_0000, 0x5F7F_FFFF),  # about 2**63 and 2**64
    ),
    "f64": (
        *(0, 1 << 63, 0x3FF0_0000_0000_0000, 0xBFF0_0000_0000_0000, 0x3FE0_0000_0000_0000, 0x4004_0000_0000_0000),
        *(0x7FF0_0000_0000_0000, 0xFFF0_0000_0000_0000, 0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0000),
        *(0x7FF4_0000_0000_0000, 0xFFF0_0000_0000_0001, 0x7FFF_FFFF_FFFF_FFFF),  # NaN
        *(1, 0x000F_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000, 0x7FEF_FFFF_FFFF_FFFF, 0x4330_0000_0000_0001),
        *(0x41DF_FFFF_FFC0_0000, 0x41E0_0000_0000_0000, 0xC1E0_0000_0020_0000, 0x41EF_FFFF_FFE0_0000),
        *(0x43DF_FFFF_FFFF_FFFF, 0x43E0_0000_0000_0000, 0xC3E0_0000_0000_0001, 0x43EF_FFFF_FFFF_FFFF),
        *(0x47EF_FFFF_E000_0000, 0x47EF_FFFF_F000_0000, 0x3690_0000_0000_0000, 0x36A0_0000_0000_0000),  # f32's ends
    ),
}


def interesting(rng: random.Random, kind: str) -> int:
    """Bits of a number, often one at the edge of something."""
    width = int(kind[1:])
    choice = rng.random()
    if choice < 0.15:
        return rng.getrandbits(width)
    if kind[0] == "f":
        return rng.choice(FLOATS[kind])
    if choice < 0.3:
        return ((1 << rng.randrange(width)) + rng.randint(-1, 1)) & (1 << width) - 1
    if choice < 0.4:
        return (1 << width - 1) - rng.randrange(2)
    return rng.choice(INTEGERS) & (1 << width) - 1


class Row(NamedTuple):
    opcode: Opcode
    row: Numeric
    traps: bool
    opens_nan: bool  # whether the specification leaves the bits of a NaN result open


def rows_by_result() -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {kind: [] for kind in NUMBERS}
    for opcode, row in NUMERIC.items():
        name = row.name.partition(".")[2]
        traps = name.startswith(("div_", "rem_", "trunc_s", "trunc_u")) and row.result[0] == "i"
        keeps_bits = name.startswith(("abs", "neg", "copysign", "convert", "reinterpret"))
        found[row.result].append(Row(opcode, row, traps, row.result[0] == "f" and not keeps_bits))
    return found


NUMERIC_ROWS = rows_by_result()


class Label(NamedTuple):
    """An enclosing block: what a branch to it takes along, and whether that goes back."""

    carried: tuple[str, ...]
    is_loop: bool


class Surroundings(NamedTuple):
    """What a body may use of its module."""

    builder: ModuleBuilder
    functions: Sequence[FunctionType]
    globals: Sequence[tuple[str, bool]]  # (type, mutable); the first is the fuel and not for bodies
    deterministic_nans: bool


class BodyGenerator:
    """One body. Its locals: the parameters, the loop fuel, a scratch f32 and f64, and some of every type."""

    def __init__(self, rng: random.Random, around: Surroundings, function_type: FunctionType, size: int) -> None:
        self.rng = rng
        self.around = around
        self.type = function_type
        self.code = bytearray()
        self.budget = size
        self.labels: list[Label] = []
        params = len(function_type.params)
        self.fuel = params
        self.scratch = {"f32": params + 1, "f64": params + 2}
        kinds = (*NUMBERS, "funcref", "externref")
        self.declared = ["i32", "f32", "f64", *kinds, *rng.choices(NUMBERS, k=rng.randrange(5))]
        self.readable: dict[str, list[int]] = {kind: [] for kind in kinds}
        self.writable: dict[str, list[int]] = {kind: [] for kind in kinds}
        for index, kind in enumerate((*function_type.params, *self.declared)):
            self.readable[kind].append(index)
            if not params <= index < params + 3:
                self.writable[kind].append(index)

    def run(self) -> tuple[list[str], bytes]:
        """(declared locals, instructions)."""
        results = self.type.results
        self.labels.append(Label(results, False))
        self.emit(op(0x23, 0), op(0x45), b"\x04\x40")  # out of fuel: return something
        self.emit(*(const(kind, 1) for kind in results), op(0x0F), op(0x0B))
        self.emit(op(0x23, 0), const("i32", 1), op(0x6B), op(0x24, 0))
        self.emit(const("i32", LOOP_FUEL), op(0x21, self.fuel))
        for _ in range(self.rng.randint(1, 4)):
            self.statement()
        while self.budget > 0:
            self.statement()
        for kind in results:
            self.expression(kind)
        return self.declared, bytes(self.code)

    def emit(self, *parts: bytes) -> None:
        for part in parts:
            self.code += part

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    # Expressions: each pushes one value of the type `kind`.

    def expression(self, kind: str, depth: int = 0) -> None:
        self.budget -= 1
        if self.budget <= 0 or depth > 6 or self.chance(0.15 + 0.05 * depth):
            self.leaf(kind)
            return
        if self.chance(0.04):
            # A value below a statement: an operand that must survive whatever the statement does.
            self.expression(kind, depth + 1)
            self.statement(depth + 2)
            return
        makers: list[Callable[[str, int], None]] = [self.tee, self.select, self.block, self.if_else]
        makers += [self.loop, self.call]
        weights = [1.0, 1.0, 1.5, 1.5, 0.7, 1.5]
        if kind in NUMBERS:
            makers += [self.numeric, self.load]
            weights += [7.0, 2.0]
        if kind == "i32":
            makers.append(self.size_or_test)
            weights.append(0.7)
        if kind == "funcref":
            makers.append(self.table_get)
            weights.append(1.0)
        if kind == "externref":
            makers.append(self.table_get)
            weights.append(2.0)
        self.rng.choices(makers, weights)[0](kind, depth)

    def leaf(self, kind: str) -> None:
        choice = self.rng.random()
        if choice < 0.5:
            self.emit(op(0x20, self.rng.choice(self.readable[kind])))
        elif kind == "funcref" and choice < 0.85:
            self.emit(op(0xD2, self.rng.randrange(len(self.around.functions))))
        elif kind in NUMBERS and choice < 0.65:
            self.emit(op(0x23, self.any_global(kind)))
        else:
            self.emit(const(kind, interesting(self.rng, kind) if kind in NUMBERS else None))

    def any_global(self, kind: str, mutable: bool = False) -> int:
        found = [
            index
            for index, (type_, is_mutable) in enumerate(self.around.globals)
            if index and type_ == kind and (is_mutable or not mutable)
        ]
        return self.rng.choice(found)

    def numeric(self, kind: str, depth: int) -> None:
        opcode, row, traps, opens_nan = self.rng.choice(NUMERIC_ROWS[kind])
        if traps and self.chance(0.75):
            self.tame(opcode, row, depth)
        else:
            for param in row.params:
                self.expression(param, depth + 1)
            self.emit(op(opcode))
        if opens_nan and self.around.deterministic_nans:
            local = op(0x22, self.scratch[kind])
            again = op(0x20, self.scratch[kind]) * 2
            equal = op(0x5B if kind == "f32" else 0x61)
            self.emit(local, const(kind, CANONICAL_NAN[kind]), again, equal, op(0x1B), local)

    def tame(self, opcode: Opcode, row: Numeric, depth: int) -> None:
        """An instruction that may trap, with operands for which it seldom or never does."""
        kind = row.params[0]
        if len(row.params) == 2:
            self.expression(kind, depth + 1)
            self.expression(kind, depth + 1)
            self.emit(const(kind, self.rng.choice((1, 1, 5, 0x40))), op(0x72 if kind == "i32" else 0x84))  # or
        else:
            self.expression("i32", depth + 1)
            if row.name.endswith(f"_u({kind})"):
                self.emit(const("i32", 1), op(0x76))  # shr_u, so that it is not negative
            else:
                self.emit(const("i32", self.rng.randrange(4)), op(0x75))  # shr_s, so that it rounds to itself
            self.emit(op(0xB2 if kind == "f32" else 0xB7))
            if row.result == "i32" and kind == "f32":
                self.emit(const("f32", 0x3F00_0000), op(0x94))  # halved, for 2**31 - 1 rounds up
                if self.around.deterministic_nans:
                    self.emit(op(0x22, self.scratch["f32"]))
        self.emit(op(opcode))

    def address(self, depth: int) -> None:
        """Pushes an address, mostly inside the first page, now and then at its end or anywhere."""
        choice = self.rng.random()
        if choice < 0.3:
            self.emit(const("i32", self.rng.randrange(256)))
        elif choice < 0.42:
            self.emit(const("i32", 65536 - self.rng.randint(8, 20)))
        elif choice < 0.45:
            self.emit(const("i32", 65536 - self.rng.randrange(8)))
        else:
            self.expression("i32", depth + 1)
            if choice < 0.97:
                self.emit(const("i32", self.rng.choice((0xFF, 0xFFF8, 0x7FFF))), op(0x71))

    def memory_argument(self, width_bytes: int) -> bytes:
        choice = self.rng.random()
        if choice < 0.95:
            offset = self.rng.choice((0, 0, 0, 1, 4, 8))
        elif choice < 0.985:
            offset = self.rng.randrange(65536)
        else:
            offset = self.rng.choice((65536 - width_bytes, 65535, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF))
        return unsigned(self.rng.randrange(width_bytes.bit_length())) + unsigned(offset)

    def load(self, kind: str, depth: int) -> None:
        opcode, access = self.rng.choice([item for item in LOADS.items() if item[1].type == kind])
        self.address(depth)
        self.emit(op(opcode), self.memory_argument(access.width_bytes))

    def tee(self, kind: str, depth: int) -> None:
        self.expression(kind, depth + 1)
        self.emit(op(0x22, self.rng.choice(self.writable[kind])))

    def select(self, kind: str, depth: int) -> None:
        self.expression(kind, depth + 1)
        self.expression(kind, depth + 1)
        self.expression("i32", depth + 1)
        typed = kind not in NUMBERS or self.chance(0.3)
        self.emit(bytes((0x1C, 1, TYPE_BYTE[kind])) if typed else op(0x1B))

    def size_or_test(self, kind: str, depth: int) -> None:
        choice = self.rng.random()
        if choice < 0.25:
            self.emit(op(0x3F, 0))
        elif choice < 0.4:
            self.emit(const("i32", self.rng.choice((0, 1, 1, 2, 65536))), op(0x40, 0))
        elif choice < 0.5:
            self.emit(op((0xFC, 16), self.rng.randrange(2)))
        elif choice < 0.65:
            table = self.rng.randrange(2)
            self.expression(("funcref", "externref")[table], depth + 1)
            self.emit(const("i32", self.rng.randrange(5)), op((0xFC, 15), table))
        else:
            self.expression(self.rng.choice(("funcref", "externref")), depth + 1)
            self.emit(op(0xD1))

    def table_index(self, depth: int, below: int) -> None:
        if self.chance(0.4):
            self.emit(const("i32", self.rng.randrange(below + 1 if self.chance(0.1) else below)))
        else:
            self.expression("i32", depth + 1)
            if self.chance(0.95):
                self.emit(const("i32", below - 1), op(0x71))

    def table_get(self, kind: str, depth: int) -> None:
        table = int(kind == "externref")
        self.table_index(depth, 4)
        self.emit(op(0x25, table))

    # Blocks

    def block_type(self, params: Sequence[str], results: Sequence[str]) -> bytes:
        if not params and not results and self.chance(0.8):
            return b"\x40"
        if not params and len(results) == 1 and self.chance(0.8):
            return bytes((TYPE_BYTE[results[0]],))
        return signed(self.around.builder.type_index(params, results))

    def some_kinds(self) -> tuple[str, ...]:
        return tuple(self.rng.choices(NUMBERS, k=self.rng.choice((0, 0, 0, 0, 1, 1, 2, 3))))

    def take(self, kinds: Sequence[str]) -> None:
        """Takes values of these types off the stack."""
        for kind in reversed(kinds):
            if self.chance(0.7):
                self.emit(op(0x21, self.rng.choice(self.writable[kind])))
            else:
                self.emit(op(0x1A))

    def enter(self, opcode: int, kinds: Sequence[str], depth: int, condition: bool = False) -> tuple[str, ...]:
        """Opens a block with random parameters and the given results; gives the types of its parameters."""
        params = self.some_kinds()
        for kind in params:
            self.expression(kind, depth + 1)
        if condition:
            self.expression("i32", depth + 1)
        self.emit(op(opcode), self.block_type(params, kinds))
        self.labels.append(Label(params if opcode == 0x03 else tuple(kinds), opcode == 0x03))
        return params

    def inside(self, params: Sequence[str], kinds: Sequence[str], depth: int) -> None:
        """The content of a block: its parameters are taken, some statements run, its results are pushed."""
        self.take(params)
        for _ in range(self.rng.randrange(3)):
            self.statement(depth + 1)
        for kind in kinds:
            self.expression(kind, depth + 1)

    def leave(self, kinds: Sequence[str]) -> None:
        self.labels.pop()
        self.emit(op(0x0B))
        self.take(kinds)

    def results_for(self, kind: str) -> tuple[str, ...]:
        """The types that a block or call gives where one of type `kind` is wanted; the others are taken off."""
        return (kind, *self.some_kinds()) if self.chance(0.3) else (kind,)

    def block(self, kind: str, depth: int) -> None:
        kinds = self.results_for(kind)
        self.inside(self.enter(0x02, kinds, depth), kinds, depth)
        self.leave(kinds[1:])

    def loop(self, kind: str, depth: int) -> None:
        kinds = self.results_for(kind)
        params = self.enter(0x03, kinds, depth)
        self.take(params)
        for _ in range(self.rng.randrange(3)):
            self.statement(depth + 1)
        self.go_back(params, depth)
        for result in kinds:
            self.expression(result, depth + 1)
        self.leave(kinds[1:])

    def if_else(self, kind: str, depth: int) -> None:
        kinds = self.results_for(kind)
        params = self.enter(0x04, kinds, depth, condition=True)
        self.inside(params, kinds, depth)
        self.emit(op(0x05))
        self.inside(params, kinds, depth)
        self.leave(kinds[1:])

    def spend_fuel(self) -> None:
        """Pushes whether there is fuel left for another way back."""
        self.emit(op(0x20, self.fuel), const("i32", 1), op(0x6B), op(0x22, self.fuel), const("i32", 0), op(0x4A))

    def go_back(self, params: Sequence[str], depth: int) -> None:
        """A conditional branch to the innermost label, a loop."""
        for kind in params:
            self.expression(kind, depth + 1)
        self.spend_fuel()
        self.emit(op(0x0D, 0))
        self.take(params)

    # Calls

    def call(self, kind: str, depth: int) -> None:
        fitting = [at for at, found in enumerate(self.around.functions) if kind in found.results[:1]]
        if not fitting:
            self.leaf(kind)
            return
        function = self.rng.choice(fitting)
        self.invoke(function, depth)
        self.take(self.around.functions[function].results[1:])

    def invoke(self, function: int, depth: int) -> None:
        """A call of a function, or through the table of one of its type, which may well not be there."""
        function_type = self.around.functions[function]
        for param in function_type.params:
            self.expression(param, depth + 1)
        if self.chance(0.6):
            self.emit(op(0x10, function))
            return
        if self.chance(0.85):
            # Put it there first, so that the call does not trap.
            slot = self.rng.randrange(12)
            self.emit(const("i32", slot), op(0xD2, function), op(0x26, 0), const("i32", slot))
        else:
            self.table_index(depth, 16)  # beyond its end, too
        self.emit(op(0x11, self.around.builder.type_index(*function_type), 0))

    # Statements: each leaves the stack as it was.

    def statement(self, depth: int = 0) -> None:
        self.budget -= 1
        if self.budget <= 0 or depth > 7:
            self.set_local(depth)
            return
        makers: list[tuple[Callable[[int], None], float]] = [
            (self.set_local, 4),
            (self.set_global, 1.5),
            (self.store, 3),
            (self.drop, 0.7),
            (self.plain_block, 1.5),
            (self.plain_if, 2),
            (self.plain_loop, 2),
            (self.branch_if, 3),
            (self.branch, 1.5),
            (self.switch, 1),
            (self.call_statement, 1),
            (self.bulk, 1.5),
            (self.give_up, 0.15),
        ]
        self.rng.choices([maker for maker, _ in makers], [weight for _, weight in makers])[0](depth)

    def set_local(self, depth: int) -> None:
        kind = self.rng.choice((*NUMBERS, *NUMBERS, "funcref", "externref"))
        self.expression(kind, depth + 1)
        self.emit(op(0x21, self.rng.choice(self.writable[kind])))

    def set_global(self, depth: int) -> None:
        kind = self.rng.choice(NUMBERS)
        self.expression(kind, depth + 1)
        self.emit(op(0x24, self.any_global(kind, mutable=True)))

    def store(self, depth: int) -> None:
        opcode, access = self.rng.choice(list(STORES.items()))
        self.address(depth)
        self.expression(access.type, depth + 1)
        self.emit(op(opcode), self.memory_argument(access.width_bytes))

    def drop(self, depth: int) -> None:
        self.expression(self.rng.choice(NUMBERS), depth + 1)
        self.emit(op(0x1A))

    def plain_block(self, depth: int) -> None:
        kinds = self.some_kinds()
        self.inside(self.enter(0x02, kinds, depth), kinds, depth)
        self.leave(kinds)

    def plain_if(self, depth: int) -> None:
        kinds = self.some_kinds()
        params = self.enter(0x04, kinds, depth, condition=True)
        self.inside(params, kinds, depth)
        if params != kinds or self.chance(0.4):
            self.emit(op(0x05))
            self.inside(params, kinds, depth)
        self.leave(kinds)

    def plain_loop(self, depth: int) -> None:
        params = self.enter(0x03, (), depth)
        self.take(params)
        for _ in range(self.rng.randint(1, 3)):
            self.statement(depth + 1)
        self.go_back(params, depth)
        self.leave(())

    def branch_if(self, depth: int) -> None:
        """A conditional branch to any label; what it would have taken along is then taken off."""
        at = self.rng.randrange(len(self.labels))
        label = self.labels[-1 - at]
        for kind in label.carried:
            self.expression(kind, depth + 1)
        self.expression("i32", depth + 1)
        if label.is_loop:
            self.spend_fuel()
            self.emit(op(0x71))
        self.emit(op(0x0D, at))
        self.take(label.carried)

    def branch(self, depth: int) -> None:
        """An unconditional branch, br_table or return, inside an `if`; now and then with dead code behind it."""
        self.expression("i32", depth + 1)
        self.spend_fuel()
        self.emit(op(0x71), b"\x04\x40")
        self.labels.append(Label((), False))
        if self.chance(0.5):
            # Operands that the branch leaves behind.
            for _ in range(self.rng.randint(1, 2)):
                self.expression(self.rng.choice(NUMBERS), depth + 1)
        label = self.rng.choice(self.labels)
        fitting = [at for at, found in enumerate(reversed(self.labels)) if found.carried == label.carried]
        for kind in label.carried:
            self.expression(kind, depth + 1)
        choice = self.rng.random()
        if choice < 0.4:
            self.expression("i32", depth + 1)
            goals = self.rng.choices(fitting, k=self.rng.randint(0, 5))
            self.emit(const("i32", 7), op(0x71), op(0x0E, len(goals), *goals, self.rng.choice(fitting)))
        elif choice < 0.8 or label is not self.labels[0]:
            self.emit(op(0x0C, self.rng.choice(fitting)))
        else:
            self.emit(op(0x0F))
        if self.chance(0.3):
            self.statement(depth + 1)
        self.labels.pop()
        self.emit(op(0x0B))

    def switch(self, depth: int) -> None:
        """Nested blocks with a br_table in the innermost: cases that fall through."""
        count = self.rng.randint(1, 4)
        for _ in range(count):
            self.emit(b"\x02\x40")
            self.labels.append(Label((), False))
        self.expression("i32", depth + 1)
        goals = [self.rng.randrange(count) for _ in range(self.rng.randint(1, 6))]
        self.emit(const("i32", 7), op(0x71), op(0x0E, len(goals), *goals, count - 1))
        for _ in range(count):
            self.labels.pop()
            self.emit(op(0x0B))
            if self.chance(0.7):
                self.statement(depth + 2)

    def call_statement(self, depth: int) -> None:
        function = self.rng.randrange(len(self.around.functions))
        self.invoke(function, depth)
        self.take(self.around.functions[function].results)

    def small(self, below: int) -> None:
        self.emit(const("i32", self.rng.randrange(below)))

    def bulk(self, depth: int) -> None:
        choice = self.rng.randrange(9)
        if choice == 0:
            self.address(depth)
            self.expression("i32", depth + 1)
            self.small(40)
            self.emit(op((0xFC, 11), 0))
        elif choice == 1:
            self.address(depth)
            self.address(depth)
            self.small(40)
            self.emit(op((0xFC, 10), 0, 0))
        elif choice in (2, 3):
            segment = self.rng.randrange(4)  # those from the second on are active, and so dropped
            self.address(depth)
            self.small(3)
            self.small(12 if segment < 2 else 1)
            self.emit(op((0xFC, 8), segment, 0))
        elif choice == 4:
            self.table_index(depth, 8)
            self.small(4)
            self.small(4)
            self.emit(op((0xFC, 12), self.rng.randrange(3 if self.chance(0.1) else 2), 0))
        elif choice == 5:
            table = self.rng.randrange(2)
            for below in (8, 8, 5) if table == 0 else (4, 4, 2):
                self.small(below)
            self.emit(op((0xFC, 14), table, table))
        elif choice == 6:
            table = self.rng.randrange(2)
            self.small(8 if table == 0 else 3)
            self.expression(("funcref", "externref")[table], depth + 1)
            self.small(4 if table == 0 else 3)
            self.emit(op((0xFC, 17), table))
        elif choice == 7:
            table = self.rng.randrange(2)
            self.table_index(depth, 8 if table == 0 else 4)
            self.expression(("funcref", "externref")[table], depth + 1)
            self.emit(op(0x26, table))
        elif self.chance(0.3):
            self.emit(op((0xFC, 9), self.rng.randrange(4)))
        else:
            self.emit(op((0xFC, 13), self.rng.randrange(4)) if self.chance(0.3) else op(0x01))

    def give_up(self, depth: int) -> None:
        self.expression("i32", depth + 1)
        self.emit(b"\x04\x40", op(0x00), op(0x0B))
