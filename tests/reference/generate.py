"""Seeded generation of valid modules that end: weighted toward control flow, memory edges, NaNs, traps and calls.

`generate(seed)` gives the same module on every Python version. A module imports nothing. Each exported function
`run0`, `run1`, ... refills a global of fuel and calls another function; calls spend that fuel, and branches back to a
loop spend a local of each call, so that every run ends. Floats cross the border of the module as integers of their
bits. `state` gives the mutable globals and the sizes of the memory and the tables. In a few modules `exhaust` calls
itself without end, with no other effect, and in some there is a start function, which may trap.

With `deterministic_nans` (the default) each instruction whose NaN result the specification leaves open is followed by
instructions that make any NaN the canonical one, so that every engine must agree on every bit.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.reference.binary import FunctionType
from tests.reference.encode import ModuleBuilder, const, op
from tests.reference.generate_body import NUMBERS, BodyGenerator, Surroundings, interesting

__all__ = ["Call", "GeneratedModule", "generate"]

CALL_FUEL = 30
TO_CARRIER = {"f32": op(0xBC), "f64": op(0xBD)}
FROM_CARRIER = {"f32": op(0xBE), "f64": op(0xBF)}
# (element type, minimum, maximum)
TABLES = (("funcref", 12, 20), ("externref", 4, 8))


@dataclass(frozen=True)
class Call:
    """An exported function to call, with arguments as bits; an externref is None or an int that stands for it."""

    export: str
    arguments: tuple[int | None, ...]


@dataclass(frozen=True)
class GeneratedModule:
    """A module, the types of its exported functions, and calls to make in this order, of which the last is "state".

    It also exports its memory as "memory" and its mutable globals under the names in `globals`, with their types.
    """

    seed: int
    content: bytes
    exports: dict[str, FunctionType]
    globals: dict[str, str]
    calls: tuple[Call, ...]


def generate(seed: int, size: int = 60, *, deterministic_nans: bool = True) -> GeneratedModule:
    """The module for a seed.

    size: about how many expressions and statements stand in a function.
    """
    rng = random.Random(seed)
    builder = ModuleBuilder()
    count = rng.randint(2, 5)
    types = [random_type(rng) for _ in range(count)]
    for function_type in types:
        builder.type_index(*function_type)
    builder.memories.append((1, rng.choice((1, 2, 3, None))))
    builder.tables += TABLES
    globals_ = add_globals(rng, builder)
    around = Surroundings(builder, types, [(kind, mutable) for kind, mutable, _ in builder.globals], deterministic_nans)
    add_segments(rng, builder, count)
    for function_type in types:
        locals_, code = BodyGenerator(rng, around, function_type, size).run()
        builder.function(*function_type, code, locals_)
    exports = {}
    for index, function_type in enumerate(types):
        exports[f"run{index}"] = add_entry(builder, index, function_type)
    exports["state"] = add_state(builder)
    if rng.random() < 0.1:
        body = BodyGenerator(rng, around, FunctionType((), ()), size // 3)
        locals_, code = body.run()
        builder.start = builder.function((), (), code, locals_)
    if rng.random() < 0.02:
        index = len(builder.functions)
        deeper = op(0x20, 0) + const("i32", 1) + op(0x6A) + op(0x10, index)
        builder.export_function("exhaust", "i32", "i32", deeper)
        exports["exhaust"] = FunctionType(("i32",), ("i32",))
    builder.exports.append(("memory", "memory", 0))
    calls = []
    for name, function_type in exports.items():
        times = 3 if name.startswith("run") else 1
        calls += [Call(name, random_arguments(rng, function_type.params)) for _ in range(times)]
    rng.shuffle(calls)
    calls.append(Call("state", ()))
    return GeneratedModule(seed, builder.encode(), exports, globals_, tuple(calls))


def random_type(rng: random.Random) -> FunctionType:
    params = rng.choices((*NUMBERS, "externref"), (4, 4, 3, 3, 1), k=rng.choice((0, 1, 1, 2, 2, 3, 4)))
    results = rng.choices((*NUMBERS, "funcref", "externref"), (6, 6, 5, 5, 1, 1), k=rng.choice((0, 1, 1, 1, 1, 2, 3)))
    return FunctionType(tuple(params), tuple(results))


def random_arguments(rng: random.Random, params: Sequence[str]) -> tuple[int | None, ...]:
    return tuple(
        rng.choice((None, rng.randrange(100))) if kind == "externref" else interesting(rng, kind) for kind in params
    )


def carrier(kind: str) -> str:
    """The integer type of a number's width, in which it crosses the border of the module bit for bit."""
    return f"i{kind[1:]}" if kind[0] == "f" and kind in NUMBERS else kind


def add_entry(builder: ModuleBuilder, function: int, function_type: FunctionType) -> FunctionType:
    """Exports a function that refills the fuel and calls another, with integers in place of floats."""
    entry = FunctionType(*(tuple(map(carrier, kinds)) for kinds in function_type))
    code = const("i32", CALL_FUEL) + op(0x24, 0)
    for at, kind in enumerate(function_type.params):
        code += op(0x20, at) + FROM_CARRIER.get(kind, b"")
    code += op(0x10, function)
    params = len(function_type.params)
    for at in reversed(range(len(function_type.results))):
        code += op(0x21, params + at)
    for at, kind in enumerate(function_type.results):
        code += op(0x20, params + at) + TO_CARRIER.get(kind, b"")
    index = builder.function(*entry, code, function_type.results)
    builder.exports.append((f"run{function}", "func", index))
    return entry


def add_state(builder: ModuleBuilder) -> FunctionType:
    """Exports a function that gives the bits of all mutable globals, and the sizes of the memory and the tables."""
    code, results = b"", []
    for index, (kind, mutable, _) in enumerate(builder.globals):
        if mutable:
            code += op(0x23, index) + TO_CARRIER.get(kind, b"")
            results.append(carrier(kind))
    code += op(0x3F, 0) + op((0xFC, 16), 0) + op((0xFC, 16), 1)
    entry = FunctionType((), (*results, "i32", "i32", "i32"))
    builder.exports.append(("state", "func", builder.function(*entry, code)))
    return entry


def add_globals(rng: random.Random, builder: ModuleBuilder) -> dict[str, str]:
    """Global 0 is the fuel; then at least one of each kind of number. Gives the mutable ones, which are exported."""
    builder.globals.append(("i32", True, const("i32", CALL_FUEL)))
    for kind in (*NUMBERS, *rng.choices(NUMBERS, k=2)):
        builder.globals.append((kind, True, const(kind, interesting(rng, kind))))
    for kind in rng.choices(("i32", "i64"), k=2):
        first, second = (const(kind, interesting(rng, kind)) for _ in range(2))
        extended = rng.choice((0x6A, 0x6B, 0x6C) if kind == "i32" else (0x7C, 0x7D, 0x7E))
        builder.globals.append((kind, False, first + second + op(extended)))
    exported = {}
    for index, (kind, mutable, _) in enumerate(builder.globals):
        if mutable:
            builder.exports.append((f"global{index}", "global", index))
            exported[f"global{index}"] = kind
    return exported


def add_segments(rng: random.Random, builder: ModuleBuilder, functions: int) -> None:
    """Two passive element segments, one active and one declarative; two passive data segments and two active ones."""

    def some(count: int) -> list[int]:
        return [rng.randrange(functions) for _ in range(count)]

    builder.elements.append(("passive", 0, b"", some(6)))
    builder.elements.append(("passive", 0, b"", some(3)))
    start = rng.randrange(4)
    builder.elements.append(("active", 0, const("i32", start), some(rng.randint(4, 8))))
    builder.elements.append(("declarative", 0, b"", list(range(functions))))
    for mode, offset in (("passive", 0), ("passive", 0), ("active", rng.randrange(200)), ("active", 65536 - 40)):
        content = rng.randbytes(rng.randint(1, 40))
        builder.data.append((mode, const("i32", offset), content))
