"""What generated modules do not reach: long signatures, large frames, jump tables, imports, the edges of memories."""

from __future__ import annotations

import ctypes
import platform
import random
import re
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.compile.comparison import Call, both, compare_all
from tests.compile.native import NativeInstance, WasmTrap
from tests.compile.tables import check_tables
from tests.reference.binary import FunctionType
from tests.reference.encode import ModuleBuilder, const, op, unsigned
from tests.reference.generate import generate
from tests.reference.generate_body import interesting
from tests.reference.instructions import LOADS, STORES
from tests.reference.interpreter import Interpreter, Limit
from tests.reference.numeric import NUMERIC
from tests.reference.store import Extern, HostFunction
from trapline import Event, StopReason
from trapline.arch.x86_64.features import Features, features_of
from trapline.asm.disassemble import disassemble
from trapline.compile.instance import InstanceLayout
from trapline.compile.ir import Op
from trapline.compile.libcalls import helper_immediate, may_fail
from trapline.compile.x86_64.layout import GUARD_BYTES, STRIDE_BYTES, places, word_count
from trapline.compile.x86_64.thunks import LAZY_BYTES, entry_thunk, host_thunk, lazy_thunks
from trapline.wasm.decode import decode
from trapline.wasm.types import F32, F64, I32, I64, FuncType
from trapline.wasm.validate import validate

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")
LEVELS = pytest.mark.parametrize("full", [True, False], ids=["full", "live"])
NUMBERS = ("i32", "i64", "f32", "f64")
FROM_I64 = {"i32": op(0xA7), "i64": b"", "f32": op(0xA7) + op(0xBE), "f64": op(0xBF)}


def kinds_of(rng: random.Random, count: int) -> tuple[str, ...]:
    return tuple(rng.choice(NUMBERS) for _ in range(count))


# ---- signatures ----


@LEVELS
@pytest.mark.parametrize(("params", "results"), [(9, 9), (40, 3), (3, 40), (200, 150), (1000, 1000)])
@pytest.mark.parametrize("way", ["itself", "own", "table", "host", "lazy"])
def test_values_beyond_the_registers(params: int, results: int, way: str, full: bool) -> None:
    """Every result is one of the parameters; the callee gets them from a caller that passes its own parameters on."""
    rng = random.Random(f"{params} {results} {way}")
    taken = kinds_of(rng, params)
    sources = [rng.randrange(params) for _ in range(results)]
    given = tuple(taken[source] for source in sources)
    builder = ModuleBuilder()
    type_index = builder.type_index(taken, given)
    every = b"".join(op(0x20, at) for at in range(params))
    selected = b"".join(op(0x20, source) for source in sources)
    builder.globals.append(("i32", True, const("i32", 1)))

    def host(arguments: Any) -> list[Any]:
        return [arguments[source] for source in sources]

    if way == "host":
        builder.imports.append(("host", "pick", FunctionType(taken, given)))
        callee = 0
    elif way != "itself":
        callee = builder.function(taken, given, selected)
    if way == "itself":  # the first time it calls, the second time it answers
        again = const("i32", 0) + op(0x24, 0) + every + op(0x10, 0) + op(0x0F)
        caller = builder.function(taken, given, op(0x23, 0) + b"\x04\x40" + again + op(0x0B) + selected)
    elif way == "table":
        builder.tables.append(("funcref", 1, 1))
        builder.elements.append(("active", 0, const("i32", 0), [callee]))
        caller = builder.function(taken, given, every + const("i32", 0) + op(0x11, type_index, 0))
    else:
        caller = builder.function(taken, given, every + op(0x10, callee))
    builder.exports.append(("run", "func", caller))
    arguments = tuple(interesting(rng, kind) for kind in taken)

    def imports() -> dict[tuple[str, str], Extern]:
        return {("host", "pick"): HostFunction(FunctionType(taken, given), host)}

    with both(builder.encode(), full, imports, lazy=way == "lazy") as pair:
        found = pair.compare(("run", arguments))
        assert found == [arguments[source] for source in sources]
        for placed in pair.ours.placed.values():
            check_tables(placed.compiled)


def test_words_are_counted_as_they_are_placed() -> None:
    rng = random.Random(4)
    for _ in range(200):
        types = rng.choices((I32, I64, F32, F64), k=rng.randrange(30))
        assert word_count(types) == sum(place >= 100 for place in places(types, 100))


def test_a_parallel_move_between_slots_in_a_circle() -> None:
    """A loop that turns its locals around, more of them than there are registers."""
    builder = ModuleBuilder()
    count = 40
    kinds = [NUMBERS[at % 4] for at in range(count)]
    turned = [(at + 4) % count for at in range(count)]
    body = b"".join(op(0x20, at) for at in turned) + b"".join(op(0x21, at) for at in reversed(range(count)))
    step = op(0x20, count) + const("i32", 1) + op(0x6B) + op(0x22, count) + op(0x0D, 0)
    code = op(0x03, 0x40) + body + step + op(0x0B) + b"".join(op(0x20, at) for at in range(count))
    builder.exports.append(("run", "func", builder.function((*kinds, "i32"), kinds, code)))
    calls: list[Call] = [("run", (*range(1000, 1000 + count), turns)) for turns in (1, 2, 3, 7)]
    for full in (True, False):
        compare_all(builder.encode(), calls, full)


# ---- frames ----


def large_frame(locals_: int) -> bytes:
    """`run(depth)` keeps so many values over a call of itself, sums them, and uses them again."""
    builder = ModuleBuilder()
    fill = b"".join(
        op(0x20, 0) + const("i32", 3 * at + 1) + op(0x6C) + op(0x21, 1 + at) for at in range(locals_)
    )
    call = op(0x20, 0) + b"\x04\x7f" + op(0x20, 0) + const("i32", 1) + op(0x6B) + op(0x10, 0) + op(0x05)
    call += const("i32", 5) + op(0x0B)
    total = b"".join(op(0x20, 1 + at) + op(0x6A) for at in range(locals_))
    builder.export_function("run", "i32", "i32", fill + call + total, ["i32"] * locals_)
    return builder.encode()


@LEVELS
@pytest.mark.parametrize("locals_", [900, 3900, 9000, 20000])
def test_frames_larger_than_a_page_and_than_the_guard(locals_: int, full: bool) -> None:
    with both(large_frame(locals_), full, steps=None) as pair:
        for depth in (0, 1, 3):
            assert pair.compare(("run", (depth,))) is not None
        (placed,) = pair.ours.placed.values()
        emitted = placed.emitted
        touched = [row.offset for row in emitted.traps if row.kind == "stack"]
        assert emitted.frame_bytes >= 8 * locals_
        assert len(touched) == max(1, -(-(emitted.frame_bytes - 8 - STRIDE_BYTES) // STRIDE_BYTES) + 1)
        depths = [-struct.unpack_from("<i", emitted.code, at + 3)[0] for at in touched]
        assert depths[-1] == emitted.frame_bytes - 8 + GUARD_BYTES
        assert all(deep - less <= STRIDE_BYTES for less, deep in zip([GUARD_BYTES, *depths], depths, strict=False))


@pytest.mark.parametrize("locals_", [10, 900, 9000, 20000])
def test_endless_recursion_ends_at_the_first_instructions(locals_: int) -> None:
    """And nothing has changed yet there: the return address is on top of the stack."""
    module = decode(large_frame(locals_))
    validate(module)
    ours = NativeInstance(module, Interpreter(Limit()).instantiate(large_frame(locals_)), True)
    try:
        fiber, _words = ours.fiber(0, (1 << 31,))
        event = fiber.resume()
        assert isinstance(event, Event)
        assert event.reason is StopReason.TRAP
        placed, row = ours.row_of(event)
        assert row.kind == "stack"
        (back,) = struct.unpack("<Q", ctypes.string_at(event.registers["rsp"], 8))
        rows = {row.offset for row in placed.emitted.traps if row.kind == "call"}
        assert back - ours.image.base - placed.offset in rows
    finally:
        ours.close()


# ---- br_table ----


@LEVELS
@pytest.mark.parametrize("ways", [1, 2, 3, 4, 5, 6, 17, 300])
@pytest.mark.parametrize("carries", [False, True])
def test_switches_of_every_size(ways: int, carries: bool, full: bool) -> None:
    """`ways` labels, the default included; each leads to code of its own, some of them twice."""
    rng = random.Random(ways)
    targets = [rng.randrange(ways) for _ in range(ways)]
    result = b"\x7f" if carries else b"\x40"
    code = b"".join(op(0x02) + result for _ in range(ways))
    code += (const("i32", 7) + op(0x20, 1) + op(0x6A)) * carries
    code += op(0x20, 0) + op(0x0E) + unsigned(ways - 1) + b"".join(map(unsigned, targets))
    code += op(0x0B)
    for way in range(ways - 1):
        if carries:
            code += const("i32", 100 * way) + op(0x6A) + op(0x21, 1)
        else:
            code += op(0x20, 1) + const("i32", 100 * way) + op(0x6A) + op(0x21, 1)
        code += (op(0x20, 1) if carries else b"") + op(0x0B)
    code += op(0x1A) * carries + op(0x20, 1)
    builder = ModuleBuilder()
    builder.export_function("run", "i32 i32", "i32", code)
    numbers = {*range(min(ways + 2, 40)), ways - 1, ways - 2, ways, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF}
    with both(builder.encode(), full, steps=None) as pair:
        for number in sorted(number & 0xFFFF_FFFF for number in numbers):
            assert isinstance(pair.compare(("run", (number, 3))), list)
        (placed,) = pair.ours.placed.values()
        check_tables(placed.compiled)
        assert len(placed.emitted.dispatches) == (ways >= 5)


@LEVELS
def test_a_switch_whose_edges_move_values(full: bool) -> None:
    """Labels of a loop and of blocks with locals changed on the way: each edge has moves of its own."""
    builder = ModuleBuilder()
    code = op(0x03, 0x40)  # the loop: local 0 counts down, 1 2 3 turn around
    code += op(0x20, 0) + op(0x45) + b"\x04\x40" + op(0x20, 1) + op(0x0F) + op(0x0B)
    code += op(0x20, 0) + const("i32", 1) + op(0x6B) + op(0x21, 0)
    code += op(0x20, 1) + op(0x20, 2) + op(0x21, 1) + op(0x21, 2)
    code += b"\x02\x40" * 5 + op(0x20, 0) + const("i32", 7) + op(0x71)
    code += op(0x0E) + unsigned(6) + b"".join(map(unsigned, (0, 1, 5, 2, 3, 5, 4)))
    for at in range(5):
        code += op(0x0B) + op(0x20, 2) + const("i32", 3 + at) + op(0x6A) + op(0x21, 2)
        code += op(0x20, 3) + op(0x20, 2) + op(0x73) + op(0x21, 3)
    code += op(0x20, 1) + op(0x20, 3) + op(0x6A) + op(0x21, 1) + op(0x0C, 0) + op(0x0B) + op(0x00)
    builder.export_function("run", "i32 i32 i32 i32", "i32", code)
    calls: list[Call] = [("run", (count, 1, 2, 3)) for count in range(40)]
    compare_all(builder.encode(), calls, full)


# ---- memories ----

ADDRESSES = (
    *(0, 1, 7, 8, 65535, 65536, 65537, 2 * 65536 - 9, 2 * 65536 - 8, 2 * 65536 - 4, 2 * 65536 - 1, 2 * 65536),
    *(0x7FFF_FFFF, 0x8000_0000, 0xFFFF_0000, 0xFFFF_FFF8, 0xFFFF_FFFF),
)
OFFSETS = (0, 1, 4, 65536, 131064, 131071, 131072, 0x7FFF_FFF7, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF8, 0xFFFF_FFFF)


def accesses(constant: bool) -> tuple[bytes, list[Call]]:
    """A function for each opcode and offset, with the address a parameter or constant; then all calls."""
    builder = ModuleBuilder()
    builder.memories.append((2, 4))
    builder.data.append(("active", const("i32", 2 * 65536 - 16), bytes(range(0x71, 0x81)) + b""))
    builder.export_function("grow", "i32", "i32", op(0x20, 0) + op(0x40, 0))
    calls: list[Call] = []
    for code in (*LOADS, *STORES):
        assert isinstance(code, int)
        for offset in OFFSETS[::2] if constant else OFFSETS:
            for address in ADDRESSES[::3] if constant else (None,):
                name = f"{code:x} {offset:x} {address}"
                base = op(0x20, 0) if address is None else const("i32", address)
                if code in LOADS:
                    kind = LOADS[code].type
                    builder.export_function(name, "i32 i64", kind, base + op(code, 0, offset))
                else:
                    kind = STORES[code].type
                    value = op(0x20, 1) + FROM_I64[kind]
                    if address is not None and address & 1:
                        value = const(kind, 0x8765_4321 if kind.endswith("32") else 0xFFFF_FFFF_8765_4321)
                    builder.export_function(name, "i32 i64", "", base + value + op(code, 0, offset))
                calls += [(name, (at, 0x1122_3344_5566_7788 + at)) for at in ((0,) if constant else ADDRESSES)]
    return builder.encode(), calls


@pytest.mark.parametrize("constant", [False, True], ids=["computed", "constant"])
@pytest.mark.parametrize("checked", [False, True], ids=["unchecked", "checked"])
def test_the_edges_of_a_memory(checked: bool, constant: bool) -> None:
    content, calls = accesses(constant)
    trapped = 0
    with both(content, True, checked=checked, steps=None) as pair:
        for grown in (False, True):
            if grown:
                assert pair.compare(("grow", (1,))) == [2]
            for call in calls:
                found = pair.compare(call)
                trapped += found == "out of bounds memory access"
        pair.compare_memory()
        for placed in pair.ours.placed.values():
            check_tables(placed.compiled)
            kinds = {row.kind for row in placed.emitted.traps} - {"stack", "call", "memory"}
            assert kinds <= {"memory bounds"}
    assert 0 < trapped < 2 * len(calls)


@LEVELS
def test_a_module_without_anything(full: bool) -> None:
    builder = ModuleBuilder()
    builder.export_function("run", "", "", b"")
    compare_all(builder.encode(), [("run", ())], full)


# ---- processors ----


@pytest.mark.parametrize("features", [Features(), Features(True, True, True, True)], ids=["baseline", "all"])
def test_counts_and_rounding(features: Features) -> None:
    """Every bit of the counts and every edge of rounding, with the instruction and without."""
    builder = ModuleBuilder()
    calls: list[Call] = []
    rng = random.Random(9)
    for code in (0x67, 0x68, 0x69, 0x79, 0x7A, 0x7B, *range(0x8D, 0x91), *range(0x9B, 0x9F)):
        row = NUMERIC[code]
        kind = row.params[0]
        carrier = "i" + kind[1:]
        back = {"f32": op(0xBC), "f64": op(0xBD)}.get(kind, b"")
        forth = {"f32": op(0xBE), "f64": op(0xBF)}.get(kind, b"")
        one = op(0x20, 0) + forth + op(code) + back
        # Twice, with other values alive over it, so that the result is another register than the operand.
        builder.export_function(f"{code:x}", f"{carrier} i64 f64", f"{carrier} i64 f64 {carrier}",
                                one + op(0x20, 1) + op(0x20, 2) + op(0x20, 0))  # fmt: skip
        width = int(kind[1:])
        bits = [0, (1 << width) - 1, *(1 << at for at in range(width)), *(interesting(rng, kind) for _ in range(60))]
        nan = {"f32": 0x7F80_0000, "f64": 0x7FF0_0000_0000_0000}.get(kind)
        calls += [
            (f"{code:x}", (value, 0x1234_5678_9ABC_DEF0, 0x4004_0000_0000_0000))
            for value in bits
            if nan is None or value & ((1 << width - 1) - 1) <= nan
        ]
    with both(builder.encode(), True, features=features, steps=None) as pair:
        for call in calls:
            assert isinstance(pair.compare(call), list)


def test_features_are_those_that_every_processor_has() -> None:
    both_ = "processor: 0\nflags\t\t: fpu sse2 abm popcnt sse4_1 bmi1\n\nprocessor: 1\nflags\t\t: sse2 popcnt sse4_1\n"
    assert features_of(both_) == Features(popcnt=True, sse41=True)
    assert features_of("flags : abm bmi1\n") == Features(lzcnt=True, bmi1=True)
    assert features_of("") == Features()


# ---- imports ----


def test_imported_globals_and_functions_and_host_errors() -> None:
    """Narrow values in the low half of cells and words; what the host does to registers does no harm."""
    seen: list[Any] = []

    def host(arguments: Any) -> list[Any]:
        seen.append(arguments)
        return [arguments[1], arguments[0]]

    type_ = FunctionType(("i32", "f32"), ("f32", "i32"))
    builder = ModuleBuilder()
    builder.imports.append(("host", "swap", type_))
    builder.memories.append((1, 1))
    for kind in NUMBERS:
        builder.globals.append((kind, True, const(kind, 1)))
    swap = op(0x20, 0) + op(0x20, 1) + op(0x10, 0)
    builder.export_function("swap", "i32 f32", "f32 i32", swap)
    builder.export_function("f32", "f64", "f32", op(0x20, 0) + op(0xB6) + op(0x24, 2) + op(0x23, 2))
    builder.export_function("i64", "i64", "i64", const("i64", 1 << 40) + op(0x24, 1) + op(0x23, 1))
    builder.export_function("minus", "", "i64", const("i64", (1 << 64) - 5) + op(0x24, 1) + op(0x23, 1))
    calls: list[Call] = [("swap", (0x8000_0001, 0x7FC0_0001)), ("f32", (0x4009_21FB_5444_2D18,)), ("i64", (0,))]
    calls.append(("minus", ()))
    for full in (True, False):
        compare_all(builder.encode(), calls, full, lambda: {("host", "swap"): HostFunction(type_, host)})
    assert all(given == seen[0] or list(given) == list(seen[0]) for given in seen)


def test_immediates_of_c_functions() -> None:
    assert helper_immediate(0xFC08, (3, 0)) == 3
    assert helper_immediate(0xFC0C, (3, 1)) == 1 | 3 << 32  # (segment, table)
    assert helper_immediate(0xFC0E, (1, 2)) == 1 | 2 << 32  # (destination, source)
    assert helper_immediate(0xFC0F, 4) == 4
    assert helper_immediate(0x40, None) == -1


def test_a_trap_names_words_of_the_specification() -> None:
    builder = ModuleBuilder()
    builder.tables.append(("funcref", 2, 2))
    builder.export_function("get", "i32", "funcref", op(0x20, 0) + op(0x25, 0))
    with both(builder.encode(), True, steps=None) as pair:
        assert pair.compare(("get", (2,))) == "out of bounds table access"
        with pytest.raises(WasmTrap):
            pair.ours.call(0, (0xFFFF_FFFF,))


# ---- going on after a trap ----

GENERAL = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()


def again(ours: NativeInstance, event: Event) -> None:
    """To the start of the step, with the operands of a C function back in the registers it takes them from."""
    placed, row = ours.row_of(event)
    compiled, registers = placed.compiled, event.registers
    step = compiled.allocation.steps[row.block][row.step]
    if compiled.func.op[step.value] == Op.LIBCALL and may_fail(compiled.func.imm[step.value]):
        for register, arg in zip(step.ins, compiled.func.args[step.value], strict=True):
            if compiled.func.op[arg] == Op.CONST:
                bits = compiled.func.imm[arg]
            else:
                slot = compiled.allocation.slot[arg]
                bits = ctypes.c_uint32.from_address(registers["rbp"] - 8 * (slot + 2)).value
            registers[GENERAL[register]] = bits
    event.fiber.pc = ours.image.base + placed.offset + placed.emitted.step_offsets[row.block][row.step]


def skip(ours: NativeInstance, event: Event, word: int) -> None:
    """Behind the step, as if its result were `word`."""
    placed, row = ours.row_of(event)
    step = placed.compiled.allocation.steps[row.block][row.step]
    if step.out >= 0:
        event.registers[GENERAL[step.out]] = word
        slot = placed.compiled.allocation.slot[step.value]
        if slot >= 0:
            ctypes.c_uint64.from_address(event.registers["rbp"] - 8 * (slot + 2)).value = word
    event.fiber.pc = ours.image.base + placed.offset + placed.emitted.step_offsets[row.block][row.step + 1]


def trapping() -> tuple[bytes, dict[str, tuple[Any, ...]]]:
    """Functions (address or element, value, more) whose second half depends on all of their parameters."""
    builder = ModuleBuilder()
    builder.memories.append((1, 9))
    builder.tables.append(("funcref", 4, 9))
    load = op(0x20, 0) + op(0x28, 2, 16)
    store = op(0x20, 0) + op(0x20, 1) + op(0x36, 2, 16) + op(0x20, 0) + op(0x28, 2, 16)
    fill = op(0x20, 0) + op(0x20, 1) + const("i32", 8) + op((0xFC, 11), 0) + op(0x20, 0) + op(0x28, 2, 0)
    copy = op(0x20, 0) + op(0x20, 1) + op(0x20, 2) + op((0xFC, 10), 0, 0) + op(0x20, 0) + op(0x28, 2, 0)
    get = op(0x20, 0) + op(0x25, 0) + op(0xD1)
    far = op(0x20, 0) + op(0x28, 2, 0x8000_0000) + op(0x20, 2) + op(0x6A)
    division = op(0x20, 1) + op(0x20, 0) + op(0x6D)
    for name, code in {"load": load, "store": store, "fill": fill, "copy": copy, "get": get}.items():
        rest = op(0x20, 1) + op(0x6A) + op(0x20, 2) + op(0x6A)
        builder.export_function(name, "i32 i32 i32", "i32", code + rest)
    for name, code in {"far": far, "division": division}.items():
        builder.export_function(name, "i32 i32 i32", "i32", code)
    at = 65536 + 32
    return builder.encode(), {
        "load": (at, 5, 7),
        "store": (at, 5, 7),
        "fill": (at, 5, 7),
        "copy": (at, 5, 7),
        "get": (4, 5, 7),
        "far": (at, 5, 7),
        "division": (0, 5, 7),
    }


@LEVELS
@pytest.mark.parametrize("checked", [False, True], ids=["unchecked", "checked"])
@pytest.mark.parametrize("name", ["load", "store", "fill", "copy", "get"])
def test_a_step_can_be_tried_again_once_its_cause_is_gone(name: str, checked: bool, full: bool) -> None:
    content, arguments = trapping()
    with both(content, full, checked=checked, steps=None) as pair:
        ours, theirs = pair.ours, pair.theirs
        trapped = []

        def repair(event: Event) -> None:
            trapped.append(ours.row_of(event)[1].kind)
            ours.grow(1)
            ours.set_table_count(0, 5)
            again(ours, event)

        index = theirs.exports[name].index  # type: ignore[union-attr]
        found = ours.call(index, arguments[name], repair)
        theirs.memories[0].grow(1)
        theirs.tables[0].items.append(None)
        assert len(trapped) == 1
        assert pair.reference.invoke(theirs.functions[index], arguments[name]) == found
        pair.compare_memory()


@LEVELS
@pytest.mark.parametrize("name", ["load", "fill", "get", "far", "division"])
def test_a_step_can_be_skipped(name: str, full: bool) -> None:
    content, arguments = trapping()
    with both(content, full, steps=None) as pair:
        rows = []

        def go_on(event: Event) -> None:
            rows.append(pair.ours.row_of(event)[1].kind)
            skip(pair.ours, event, 1000)

        index = pair.theirs.exports[name].index  # type: ignore[union-attr]
        found = pair.ours.call(index, arguments[name], go_on)
    wanted = {"load": 1012, "fill": 1012, "get": 12, "far": 1007, "division": 1000}
    assert found == [wanted[name]]
    assert len(rows) == (2 if name == "fill" else 1)  # what it would have filled cannot be read either


# ---- what the runtime relies on ----


def test_thunks_say_where_their_calls_return_to() -> None:
    for thunk in (
        entry_thunk(FuncType((I32,) * 20, (F64,) * 20)),
        host_thunk(FuncType((F32,), (I64, I32))),
        lazy_thunks([3, 4, 500]),
    ):
        found = disassemble(thunk.code, arch="x86_64")
        assert not any(one.is_bad for one in found)
        calls = [one.address + one.size_bytes for one in found if one.mnemonic == "call"]
        assert list(thunk.return_offsets) == calls
    for position, index in enumerate((3, 4, 500)):
        first = disassemble(thunk.code[LAZY_BYTES * position :], arch="x86_64")[0]
        assert first.text == f"mov r11d, {index if index < 10 else hex(index)}"


def test_no_stride_jumps_over_the_guard_of_a_stack() -> None:
    source = (Path(__file__).resolve().parents[2] / "native" / "fiber.c").read_text(encoding="utf-8")
    (guard_bytes,) = re.findall(r"#define GUARD_BYTES (\d+)u", source)
    assert int(guard_bytes) > STRIDE_BYTES


def test_the_block_holds_everything_once() -> None:
    """No two parts of the block overlap, and what code addresses as pairs of words is aligned."""
    for seed in range(3):
        module = decode(generate(seed, 20).content)
        layout = InstanceLayout(module)
        parts = [(0, 64)]
        parts += [(layout.imported_function(index), 8) for index in range(module.imported_functions)]
        parts += [(layout.table(index), 8) for index in range(len(module.tables))]
        parts += [(layout.own_global(index), 16) for index in range(len(module.globals))]
        parts += [(layout.own_function(index), 32) for index in range(len(module.function_types))]
        parts += [(layout.data_segment(index), 16) for index in range(len(module.data))]
        parts += [(layout.element_segment(index), 16) for index in range(len(module.elements))]
        assert all(at % min(size_bytes, 16) == 0 for at, size_bytes in parts)
        assert all(at + size_bytes <= behind for (at, size_bytes), (behind, _) in pairwise(parts))
        last, size_bytes = parts[-1]
        assert last + size_bytes == layout.block_bytes
