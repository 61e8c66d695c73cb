"""The reference interpreter: its arithmetic, and the state it shows at steps, traps and calls of the embedder."""

from __future__ import annotations

import ast
import math
import operator
import random
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from tests.reference.binary import FunctionType, Limits, MemoryType, TableType, decode
from tests.reference.encode import ModuleBuilder, const, op
from tests.reference.interpreter import FrameState, Interpreter, Limit
from tests.reference.numeric import NUMERIC, Opcode
from tests.reference.store import Function, HostFunction, Instance, Memory, Table, TypedValue, Value
from tests.reference.traps import LinkError, StepLimit, Trap, TrapKind

ENTRY = FunctionType((), ())
I32 = "i32"


def named(name: str) -> tuple[Opcode, Sequence[str]]:
    for opcode, row in NUMERIC.items():
        if row.name == name:
            return opcode, row.params
    raise KeyError(name)


def apply(name: str, *bits: int) -> int:
    return NUMERIC[named(name)[0]].function(*bits)


def function_of(instance: Instance, name: str) -> Function:
    found = instance.exports[name]
    assert isinstance(found, Function)
    return found


def call(instance: Instance, name: str, *arguments: Value, interpreter: Interpreter | None = None) -> list[Value]:
    return (interpreter or Interpreter()).invoke(function_of(instance, name), arguments)


def build(params: str, results: str, code: bytes, locals_: Sequence[str] = ()) -> bytes:
    """A module that exports one function as "f", with a page of memory, a table of 4 and passive segments."""
    builder = ModuleBuilder()
    builder.memories.append((1, 2))
    builder.tables.append(("funcref", 4, 6))
    builder.export_function("f", params, results, code, locals_)
    builder.elements.append(("passive", 0, b"", [0, 0]))
    builder.data.append(("passive", b"", b"abc"))
    return builder.encode()


class Trapped:
    """What the frames were when a module's function "f" trapped."""

    def __init__(self, content: bytes, *arguments: Value, imports: dict[tuple[str, str], HostFunction] | None = None):
        self.interpreter = Interpreter(Limit(frames=20))
        self.interpreter.on_trap(self.look)
        self.seen = 0
        instance = self.interpreter.instantiate(content, imports)
        with pytest.raises(Trap) as caught:
            call(instance, "f", *arguments, interpreter=self.interpreter)
        self.kind = caught.value.kind
        assert self.seen == 1
        assert self.interpreter.frames() == []

    def look(self, trap: Trap) -> None:
        self.seen += 1
        self.frames: list[FrameState] = self.interpreter.frames()


# Arithmetic


def test_it_uses_nothing_of_the_package() -> None:
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            assert not any(name.partition(".")[0] == "trapline" for name in names), path


@pytest.mark.parametrize(
    ("name", "operands", "result"),
    [
        ("i32.div_s", (-7 & 0xFFFFFFFF, 2), -3 & 0xFFFFFFFF),
        ("i32.rem_s", (-7 & 0xFFFFFFFF, 2), -1 & 0xFFFFFFFF),
        ("i32.rem_s", (0x80000000, 0xFFFFFFFF), 0),
        ("i64.rem_s", (7, -2 & (1 << 64) - 1), 1),
        ("i32.shr_s", (0x80000000, 33), 0xC0000000),
        ("i32.shl", (1, 32), 1),
        ("i64.rotl", (0x8000000000000001, 1), 3),
        ("i64.rotr", (1, 64), 1),
        ("i32.clz", (0,), 32),
        ("i64.ctz", (0,), 64),
        ("i32.ctz", (0x80000000,), 31),
        ("i64.popcnt", ((1 << 64) - 1,), 64),
        ("i32.lt_s", (0xFFFFFFFF, 0), 1),
        ("i32.lt_u", (0xFFFFFFFF, 0), 0),
        ("i64.extend32_s", (0x1_8000_0000,), 0xFFFFFFFF80000000),
        ("i32.extend8_s", (0x180,), 0xFFFFFF80),
        ("i64.extend_s(i32)", (0x80000000,), 0xFFFFFFFF80000000),
        ("i64.extend_u(i32)", (0x80000000,), 0x80000000),
        ("i32.wrap(i64)", (0x1_0000_0002,), 2),
        ("f32.min", (0x80000000, 0), 0x80000000),
        ("f32.max", (0x80000000, 0), 0),
        ("f64.min", (0x7FF8000000000001, 0), 0x7FF8000000000000),
        ("f32.nearest", (0x3F000000,), 0),  # 0.5
        ("f32.nearest", (0xBF000000,), 0x80000000),
        ("f32.nearest", (0x3FC00000,), 0x40000000),  # 1.5
        ("f32.nearest", (0x40200000,), 0x40000000),  # 2.5
        ("f64.ceil", (0xBFE0000000000000,), 1 << 63),
        ("f64.floor", (1 << 63,), 1 << 63),
        ("f64.trunc", (0xC330000000000001,), 0xC330000000000001),
        ("f32.sqrt", (0x80000000,), 0x80000000),
        ("f32.sqrt", (0xBF800000,), 0x7FC00000),
        ("f32.div", (0x3F800000, 0x80000000), 0xFF800000),
        ("f32.div", (0, 0), 0x7FC00000),
        ("f32.add", (0x7F7FFFFF, 0x7F7FFFFF), 0x7F800000),
        ("f32.demote(f64)", (0x47EFFFFFEFFFFFFF,), 0x7F7FFFFF),
        ("f32.demote(f64)", (0x47EFFFFFF0000000,), 0x7F800000),
        ("f32.demote(f64)", (0x3690000000000000,), 0),  # half the least subnormal: to even
        ("f32.demote(f64)", (0x3690000000000001,), 1),
        ("f32.neg", (0x7FA00001,), 0xFFA00001),
        ("f32.abs", (0xFFA00001,), 0x7FA00001),
        ("f64.copysign", (0x7FF4000000000000, 1 << 63), 0xFFF4000000000000),
        ("f32.eq", (0x7FC00000, 0x7FC00000), 0),
        ("f32.ne", (0x7FC00000, 0x7FC00000), 1),
        ("f32.eq", (0, 0x80000000), 1),
        ("f32.convert_s(i64)", (0x7FFFFF4000000001,), 0x5EFFFFFF),  # by way of f64 it would round twice, to 2**63
        ("f32.convert_u(i64)", ((1 << 64) - 1,), 0x5F800000),
        ("i32.trunc_s(f64)", (0xC1E00000001FFFFF,), 0x80000000),
        ("i32.trunc_sat_u(f32)", (0xBF800000,), 0),
        ("i64.trunc_sat_s(f64)", (0x7FF0000000000000,), (1 << 63) - 1),
        ("i64.trunc_sat_u(f64)", (0x7FF8000000000000,), 0),
    ],
)
def test_numeric(name: str, operands: tuple[int, ...], result: int) -> None:
    assert apply(name, *operands) == result


def rounded(exact: Fraction, precision: int, least_exponent: int, overflow: Fraction) -> float:
    """The nearest float of a format, halves to even, by rational arithmetic alone."""
    if exact == 0:
        return 0.0
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - precision + 1, least_exponent)
    result = round(magnitude / unit) * unit
    return math.copysign(math.inf if result >= overflow else float(result), exact)


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div"])
def test_f32_is_rounded_once(operation: str) -> None:
    """f32 arithmetic is done in f64 and rounded again, which must equal one exact rounding."""
    rng = random.Random(operation)
    operations: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
        "add": operator.add,
        "sub": operator.sub,
        "mul": operator.mul,
        "div": operator.truediv,
    }
    exact = operations[operation]
    for _ in range(3000):
        # Exponents near each other, for sums, or such that products and quotients are often subnormal.
        exponent = rng.choice((0, 1, 20, 63, 64, 100, 127, 200, 253))
        a, b = (
            rng.getrandbits(1) << 31 | max(0, exponent + rng.randint(-30, 1)) << 23 | rng.getrandbits(23)
            for _ in range(2)
        )
        x, y = (struct.unpack("<f", struct.pack("<I", bits))[0] for bits in (a, b))
        if y == 0 or math.isinf(x) or math.isinf(y) or x != x or y != y:
            continue
        wanted = rounded(exact(Fraction(x), Fraction(y)), 24, -149, Fraction(2) ** 128)
        found = struct.unpack("<f", struct.pack("<I", apply(f"f32.{operation}", a, b)))[0]
        assert found == wanted, (operation, hex(a), hex(b))


def test_integers_become_floats_by_one_rounding() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        value = rng.getrandbits(rng.randint(1, 64)) | 1 << rng.randrange(64)
        found = struct.unpack("<f", struct.pack("<I", apply("f32.convert_u(i64)", value)))[0]
        assert found == rounded(Fraction(value), 24, -149, Fraction(2) ** 128), hex(value)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_nan_bits_travel_unchanged(kind: str) -> None:
    """Through constants, locals, select, memory and reinterpretation, signalling NaNs included."""
    width = int(kind[1:])
    signalling = 0x7FA12345 if width == 32 else 0x7FF4123456789ABC
    load, store, integer = (0x2A, 0x38, 0xBC) if width == 32 else (0x2B, 0x39, 0xBD)
    code = const(I32, 8) + const(kind, signalling) + op(0x22, 0) + op(0x20, 0) + const(I32, 1) + op(0x1B)
    code += op(store, 0, 0) + const(I32, 8) + op(load, 0, 0) + op(integer)
    instance = Interpreter().instantiate(build("", f"i{width}", code, [kind]))
    assert call(instance, "f") == [signalling]


# State at traps

PUSH2 = const(I32, 5) + const(I32, 6)


def i32s(*values: int) -> list[tuple[str, int]]:
    return [(I32, value) for value in values]


NAN = 0x7FF8000000000000
TRAPS = [
    ("unreachable", b"", op(0x00), [], TrapKind.UNREACHABLE),
    ("i32.div_s", const(I32, 9) + const(I32, 0), op(0x6D), i32s(9, 0), TrapKind.DIVIDE_BY_ZERO),
    ("i32.rem_u", const(I32, 9) + const(I32, 0), op(0x70), i32s(9, 0), TrapKind.DIVIDE_BY_ZERO),
    (
        "i64.div_s",
        const("i64", 1 << 63) + const("i64", (1 << 64) - 1),
        op(0x7F),
        [("i64", 1 << 63), ("i64", (1 << 64) - 1)],
        TrapKind.INTEGER_OVERFLOW,
    ),
    ("i32.trunc_f64_s", const("f64", NAN), op(0xAA), [("f64", NAN)], TrapKind.INVALID_CONVERSION),
    ("i64.trunc_f32_u", const("f32", 0xBF800000), op(0xAF), [("f32", 0xBF800000)], TrapKind.INTEGER_OVERFLOW),
    ("i32.load", const(I32, 65533), op(0x28, 0, 0), i32s(65533), TrapKind.MEMORY_BOUNDS),
    ("i32.load8_s", const(I32, 1), op(0x2C, 0, 65535), i32s(1), TrapKind.MEMORY_BOUNDS),
    ("i64.load", const(I32, 0), op(0x29, 0, 0xFFFFFFFF), i32s(0), TrapKind.MEMORY_BOUNDS),
    ("i32.store16", const(I32, 65535) + const(I32, 7), op(0x3B, 0, 0), i32s(65535, 7), TrapKind.MEMORY_BOUNDS),
    ("memory.fill", const(I32, 65532) + PUSH2, op((0xFC, 11), 0), i32s(65532, 5, 6), TrapKind.MEMORY_BOUNDS),
    ("memory.copy", const(I32, 65532) + PUSH2, op((0xFC, 10), 0, 0), i32s(65532, 5, 6), TrapKind.MEMORY_BOUNDS),
    ("memory.init", const(I32, 0) + PUSH2, op((0xFC, 8), 0, 0), i32s(0, 5, 6), TrapKind.MEMORY_BOUNDS),
    ("table.get", const(I32, 4), op(0x25, 0), i32s(4), TrapKind.TABLE_BOUNDS),
    ("table.set", const(I32, 4) + const("funcref", None), op(0x26, 0), None, TrapKind.TABLE_BOUNDS),
    ("table.init", const(I32, 0) + PUSH2, op((0xFC, 12), 0, 0), i32s(0, 5, 6), TrapKind.TABLE_BOUNDS),
    ("table.copy", const(I32, 0) + PUSH2, op((0xFC, 14), 0, 0), i32s(0, 5, 6), TrapKind.TABLE_BOUNDS),
    (
        "table.fill",
        const(I32, 3) + const("funcref", None) + const(I32, 2),
        op((0xFC, 17), 0),
        [(I32, 3), ("funcref", None), (I32, 2)],
        TrapKind.TABLE_BOUNDS,
    ),
    ("call_indirect", PUSH2, op(0x11, 1, 0), i32s(5, 6), TrapKind.UNDEFINED_ELEMENT),
    ("call_indirect", const(I32, 5) + const(I32, 1), op(0x11, 1, 0), i32s(5, 1), TrapKind.UNINITIALIZED_ELEMENT),
]


@pytest.mark.parametrize(("name", "push", "code", "operands", "kind"), TRAPS, ids=[row[0] for row in TRAPS])
def test_a_trapping_opcode_has_not_taken_its_operands(
    name: str, push: bytes, code: bytes, operands: list[tuple[str, int]] | None, kind: TrapKind
) -> None:
    """The state is that at its start, with an operand below and a local that was set."""
    before = const(I32, 77) + op(0x21, 1) + const("i64", 1234) + push
    builder = ModuleBuilder()
    builder.memories.append((1, 1))
    builder.tables.append(("funcref", 4, None))
    builder.elements.append(("passive", 0, b"", [0]))
    builder.data.append(("passive", b"", b"abc"))
    builder.type_index(("f32",), ())
    builder.type_index((I32,), ())
    builder.export_function("f", "f32", "", before + code + op(0x00), [I32])
    content = builder.encode()
    trapped = Trapped(content, 0x7FA00000)
    assert trapped.kind == kind
    (frame,) = trapped.frames
    assert frame.function == frame.index == 0
    assert frame.pc == decode(content).bodies[0].start + len(before)
    assert frame.locals == (("f32", 0x7FA00000), (I32, 77))
    assert frame.operands[0] == ("i64", 1234)
    if operands is not None:
        assert list(frame.operands[1:]) == operands
    assert frame.arguments == ()
    assert frame.activation == 0


def test_frames_of_callers_show_what_lies_below_the_arguments() -> None:
    """f calls g(5, 6) with 4 below, directly; g calls h through the table; h traps in a call of an import."""
    builder = ModuleBuilder()
    builder.imports.append(("host", "stop", FunctionType(("i64",), ())))
    builder.tables.append(("funcref", 2, None))
    h_code = const("f64", 1) + const("i64", 3) + op(0x10, 0)
    g_code = op(0x20, 1) + op(0x20, 0) + const(I32, 1) + op(0x11, builder.type_index((I32,), ()), 0) + op(0x1A)
    h = builder.function((I32,), (), h_code + op(0x1A), ["externref"])
    g = builder.function((I32, I32), (), g_code)
    builder.export_function("f", "", "", const(I32, 4) + PUSH2 + op(0x10, g) + op(0x1A))
    builder.elements.append(("active", 0, const(I32, 1), [h]))
    content = builder.encode()

    def stop(arguments: Sequence[Value]) -> Sequence[Value]:
        assert list(arguments) == [3]
        inside.append(interpreter.frames()[0])
        raise Trap(TrapKind.UNREACHABLE)

    inside: list[FrameState] = []
    host = HostFunction(FunctionType(("i64",), ()), stop)
    interpreter = Interpreter()
    at_trap: list[FrameState] = []
    interpreter.on_trap(lambda trap: at_trap.extend(interpreter.frames()))
    instance = interpreter.instantiate(content, {("host", "stop"): host})
    with pytest.raises(Trap):
        call(instance, "f", interpreter=interpreter)

    bodies = decode(content).bodies
    in_h, in_g, in_f = at_trap
    assert [frame.function for frame in at_trap] == [0, 1, 2]
    assert [frame.index for frame in at_trap] == [1, 2, 3]
    assert in_f.pc == bodies[2].start + len(const(I32, 4) + PUSH2)
    assert (in_f.operands, in_f.arguments) == (((I32, 4),), ((I32, 5), (I32, 6)))
    assert in_g.pc == bodies[1].start + len(op(0x20, 1) + op(0x20, 0) + const(I32, 1))
    assert in_g.locals == ((I32, 5), (I32, 6))
    assert (in_g.operands, in_g.arguments) == (((I32, 6),), ((I32, 5),))
    assert in_h.pc == bodies[0].start + len(const("f64", 1) + const("i64", 3))
    assert in_h.locals == ((I32, 5), ("externref", None))
    # At the trap the call has not taken its argument; inside the host function it had.
    assert (in_h.operands, in_h.arguments) == ((("f64", 1), ("i64", 3)), ())
    assert (inside[0].operands, inside[0].arguments) == ((("f64", 1),), (("i64", 3),))


def test_exhaustion_is_a_trap_of_the_call() -> None:
    code = const("i64", 1) + op(0x20, 0) + const(I32, 1) + op(0x6A) + op(0x10, 0) + op(0x1A)
    trapped = Trapped(build(I32, "", code), 0)
    assert trapped.kind == TrapKind.STACK_EXHAUSTED
    assert len(trapped.frames) == 20
    innermost, caller = trapped.frames[:2]
    assert innermost.locals == ((I32, 19),)
    assert innermost.operands == (("i64", 1), (I32, 20))
    assert caller.pc == innermost.pc
    assert caller.operands == (("i64", 1),)
    assert caller.arguments == ((I32, 19),)


def test_deep_calls_need_no_python_stack() -> None:
    code = op(0x20, 0) + b"\x04\x40" + op(0x20, 0) + const(I32, 1) + op(0x6B) + op(0x10, 0) + op(0x0B)
    interpreter = Interpreter(Limit(frames=50_001))
    instance = interpreter.instantiate(build(I32, "", code))
    assert call(instance, "f", 50_000, interpreter=interpreter) == []


# Steps


def steps(params: str, results: str, code: bytes, *arguments: Value) -> tuple[list[int], list[Value]]:
    """Offsets of the opcodes executed, from the start of the body, and the results."""
    content = build(params, results, code)
    start = decode(content).bodies[0].start
    seen: list[int] = []
    interpreter = Interpreter()
    interpreter.on_step(lambda: seen.append(interpreter.frames()[0].pc - start))
    results_ = call(interpreter.instantiate(content), "f", *arguments, interpreter=interpreter)
    return seen, results_


def test_steps_of_an_if() -> None:
    #      0 local.get  2 if  4 i32.const  6 else  7 i32.const  9 end  10 end
    code = op(0x20, 0) + b"\x04\x7f" + const(I32, 1) + op(0x05) + const(I32, 2) + op(0x0B)
    assert steps(I32, I32, code, 1) == ([0, 2, 4, 6, 10], [1])
    assert steps(I32, I32, code, 0) == ([0, 2, 7, 9, 10], [2])


def test_steps_of_an_if_without_else() -> None:
    #      0 local.get  2 if  4 nop  5 end  6 end
    code = op(0x20, 0) + b"\x04\x40" + op(0x01) + op(0x0B)
    assert steps(I32, "", code, 1)[0] == [0, 2, 4, 5, 6]
    assert steps(I32, "", code, 0)[0] == [0, 2, 5, 6]


def test_steps_of_branches() -> None:
    #      0 block  2 loop  4 local.get  6 i32.eqz  7 br_if 1  9 local.get  11 i32.const  13 i32.sub  14 local.set
    #      16 br 0  18 end  19 end  20 end
    loop = op(0x20, 0) + op(0x45) + op(0x0D, 1) + op(0x20, 0) + const(I32, 1) + op(0x6B) + op(0x21, 0) + op(0x0C, 0)
    code = b"\x02\x40\x03\x40" + loop + op(0x0B) + op(0x0B)
    once = [2, 4, 6, 7, 9, 11, 13, 14, 16]
    assert steps(I32, "", code, 2)[0] == [0, *once, *once, 2, 4, 6, 7, 20]


def test_a_branch_to_the_body_returns_at_once() -> None:
    #      0 i32.const  2 i32.const  4 br 0  6 end
    code = const(I32, 1) + const(I32, 2) + op(0x0C, 0)
    assert steps("", I32, code) == ([0, 2, 4], [2])


def test_branches_take_values_along_and_leave_the_rest() -> None:
    # block (i32 i32): three values and a value below, br_table takes the upper two.
    builder = ModuleBuilder()
    pair = builder.type_index((), (I32, I32))
    values = const("i64", 9) + const(I32, 1) + const(I32, 2)
    for last in (op(0x0C, 0), const(I32, 0) + op(0x0E, 1, 0, 0), const(I32, 7) + op(0x0E, 1, 1, 0)):
        inner = op(0x02, pair) + values + last + op(0x0B)
        builder.export_function(f"f{len(builder.functions)}", "", "i32 i32", const("f32", 0) + inner + op(0x0F))
    instance = Interpreter().instantiate(builder.encode())
    for name in instance.exports:
        assert call(instance, name) == [1, 2]


def test_step_limit() -> None:
    interpreter = Interpreter(Limit(steps=1000))
    instance = interpreter.instantiate(build("", "", b"\x03\x40" + op(0x0C, 0) + op(0x0B)))
    with pytest.raises(StepLimit):
        call(instance, "f", interpreter=interpreter)
    assert interpreter.frames() == []


# Embedding


def test_activations_nest_and_errors_pass_through() -> None:
    """The embedder's function calls back in; a Python exception from it leaves no frame behind."""
    builder = ModuleBuilder()
    builder.imports.append(("host", "back", FunctionType((I32,), ())))
    builder.export_function("f", I32, "", const("i64", 1) + op(0x20, 0) + op(0x10, 0) + op(0x1A))
    interpreter = Interpreter()
    seen: list[list[int]] = []

    def back(arguments: Sequence[Value]) -> Sequence[Value]:
        seen.append([frame.activation for frame in interpreter.frames()])
        if arguments[0] == 0:
            raise ValueError("enough")
        interpreter.invoke(function_of(instance, "f"), [arguments[0] - 1])
        return ()

    host = HostFunction(FunctionType((I32,), ()), back)
    instance = interpreter.instantiate(builder.encode(), {("host", "back"): host})
    with pytest.raises(ValueError, match="enough"):
        call(instance, "f", 2, interpreter=interpreter)
    assert seen == [[0], [1, 0], [2, 1, 0]]
    assert interpreter.frames() == []
    with pytest.raises(Trap) as caught:
        call(instance, "f", 10**6, interpreter=interpreter)
    assert caught.value.kind == TrapKind.STACK_EXHAUSTED


def test_segments_before_the_one_that_traps_stay() -> None:
    imports = b"\x01" + b"\x01m\x01m" + b"\x02\x00\x01"  # one: m.m, a memory of a page or more
    data = b"\x02" + b"\x00" + const(I32, 0) + b"\x0b\x04kept" + b"\x00" + const(I32, 65535) + b"\x0b\x02no"
    module = b"\0asm\1\0\0\0" + op(2, len(imports)) + imports + op(11, len(data)) + data
    memory = Memory(MemoryType(Limits(1, None)))
    interpreter = Interpreter()
    reported: list[Trap] = []
    interpreter.on_trap(reported.append)
    with pytest.raises(Trap) as caught:
        interpreter.instantiate(module, {("m", "m"): memory})
    assert caught.value.kind == TrapKind.MEMORY_BOUNDS
    assert reported == [caught.value]
    assert memory.data[:4] == b"kept"
    assert memory.data[65535] == 0


@pytest.mark.parametrize(
    ("extern", "words"),
    [
        (None, "unknown import"),
        (HostFunction(FunctionType((I32,), ()), lambda arguments: ()), "incompatible import type"),
        (Memory(MemoryType(Limits(1, None))), "incompatible import type"),
        (Table(TableType("funcref", Limits(1, None))), "incompatible import type"),
    ],
)
def test_imports_must_fit(extern: HostFunction | Memory | Table | None, words: str) -> None:
    builder = ModuleBuilder()
    builder.imports.append(("host", "f", ENTRY))
    imports = {} if extern is None else {("host", "f"): extern}
    with pytest.raises(LinkError, match=words):
        Interpreter().instantiate(builder.encode(), imports)


def test_growth_has_limits() -> None:
    memory = Memory(MemoryType(Limits(1, 3)), cap_pages=2)
    assert (memory.grow(2), memory.grow(1), memory.grow(1), memory.pages) == (-1, 1, -1, 2)
    table = Table(TableType("externref", Limits(1, 3)))
    assert (table.grow(2, 7), table.grow(1, 7), table.items) == (1, -1, [None, 7, 7])


def test_operands_have_types() -> None:
    """A value of each type, at one trap."""
    code = const(I32, 1) + const("i64", 2) + const("f32", 3) + const("f64", 4) + const("externref", None) + op(0xD2, 0)
    trapped = Trapped(build("", "", code + op(0x00)))
    (frame,) = trapped.frames
    assert [kind for kind, _ in frame.operands] == [I32, "i64", "f32", "f64", "externref", "funcref"]
    assert all(isinstance(value, TypedValue) for value in frame.operands)
    assert isinstance(frame.operands[-1].bits, Function)
