"""Frame tables: as bytes and back, what they answer, what they say about writing in place."""

from __future__ import annotations

import platform
import random

import pytest

from tests.compile.compiled import subjects
from tests.compile.mutations import Subject
from tests.reference.generate import generate
from tests.runtime.support import instance
from trapline.compile.frame_table import CALL, ENTRY, FrameTable
from trapline.compile.frame_table_bytes import decode, encode
from trapline.compile.places import (
    Constant,
    Entry,
    Expression,
    Incoming,
    Outgoing,
    Register,
    Slot,
    State,
    Unavailable,
    Unreadable,
    evaluate,
)
from trapline.compile.recompute import NanRule, recompute
from trapline.compile.x86_64.layout import NAN_RULE
from trapline.wasm.text import parse_text
from trapline.wasm.types import F32, F64, I32, I64

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")


def only(text: str, full: bool = True) -> Subject:
    """The first function of a module in the text format."""
    return next(iter(subjects(parse_text(text), full)))


def stop(table: FrameTable, opcode: int) -> State:
    (offset,) = table.stops_of(opcode)
    return table.state(offset, opcode)


def test_tables_survive_as_bytes() -> None:
    opcodes = size_bytes = 0
    for seed in range(40):
        for full in (True, False):
            for subject in subjects(generate(seed, 40).content, full):
                data = encode(subject.table)
                assert decode(data) == subject.table
                opcodes += len(subject.body.opcodes)
                size_bytes += len(data)
    assert size_bytes < 20 * opcodes


def test_damaged_bytes_are_refused() -> None:
    data = encode(only("(module (func (param i32) (result i32) (i32.add (local.get 0) (i32.const 7))))").table)
    with pytest.raises(ValueError, match="ends early"):
        decode(data[:-1])
    with pytest.raises(ValueError, match="behind"):
        decode(data + b"\0")
    with pytest.raises(ValueError, match="version"):
        decode(b"\x7f" + data[1:])


FUSED = """(module (memory 1) (func (param i32 i32) (local i32)
    (local.set 2 (i32.add (local.get 0) (local.get 1)))
    (if (i32.lt_s (local.get 2) (i32.const 9)) (then (i32.store (local.get 0) (local.get 2))))
    (i32.store (local.get 1) (local.get 2))))"""


def test_what_is_not_computed_yet_is_an_expression() -> None:
    subject = only(FUSED)
    opcodes = subject.body.opcodes
    before_set = stop(subject.table, opcodes.index(0x21))
    (added,) = before_set.operands
    assert isinstance(added.place, Expression)
    assert added.place.op == 0x6A
    assert evaluate(added, lambda place: {Register(0): 40, Register(1): 2}[place], NAN_RULE) == 42  # type: ignore[index]
    before_if = stop(subject.table, opcodes.index(0x04))
    (compared,) = before_if.operands
    assert isinstance(compared.place, Expression)
    assert compared.place.op == 0x48
    assert [type(part) for part in compared.place.args] == [Register, Constant]


def test_virtual_opcodes_share_a_stop_point() -> None:
    subject = only(FUSED)
    table, store = subject.table, subject.body.opcodes.index(0x36)
    (offset,) = table.stops_of(store)
    assert table.opcodes_at(offset) == (store - 2, store - 1, store)
    assert table.opcode_at(offset) == store
    assert [len(table.state(offset, opcode).operands) for opcode in table.opcodes_at(offset)] == [0, 1, 2]
    assert table.state(offset).opcode == store  # what traps here
    with pytest.raises(KeyError, match="expected one"):
        table.state(table.stops_of(0)[0])
    with pytest.raises(KeyError):
        table.state(offset + 1, store)
    assert table.wasm_offset(store) == subject.body.offsets[store]


def test_entry_trap_site_and_return_address() -> None:
    subject = only(
        """(module (memory 1) (func $f (param i32 i64 f64) (result i32)
        (i32.add (i32.load (local.get 0))
            (call $f (local.get 0) (local.get 1) (f64.const 1)))))"""
    )
    table, opcodes = subject.table, subject.body.opcodes
    rows = {row.kind: row for row in table.rows}
    entry = table.state(rows[ENTRY].offset)
    assert [local.place for local in entry.locals] == [Register(0), Register(1), Register(16)]
    load = table.state(rows["memory"].offset)
    assert load.opcode == opcodes.index(0x28)
    assert [operand.place for operand in load.operands] == [Slot(0)]  # the call needs it, too
    retry, skip = table.retry(rows["memory"]), table.skip(rows["memory"])
    assert retry.offset == rows["memory"].start
    assert [want for want, _ in retry.operands] == [Register(0)]
    assert skip is not None
    ((type_, places),) = skip.results
    assert type_ == I32
    assert any(isinstance(place, Slot) for place in places)  # the sum needs it behind the call
    waiting = table.state(rows[CALL].offset, waits=True)
    assert waiting.opcode == opcodes.index(0x10)
    assert not waiting.registers
    kept, *arguments = waiting.operands
    assert isinstance(kept.place, Slot)
    assert arguments[-1].place == Constant(0x3FF0 << 48)
    assert all(not isinstance(local.place, Unavailable | Register) for local in waiting.locals)


def test_an_offset_may_be_a_return_address_and_a_trap_site() -> None:
    table = only("(module (func $f (call $f) unreachable))").table
    call, trap = (row for row in table.rows if row.kind != ENTRY)
    assert call.offset == trap.offset
    assert table.row_at(call.offset) == trap
    assert table.row_at(call.offset, waits=True) == call
    assert (table.state(call.offset).opcode, table.state(call.offset, waits=True).opcode) == (1, 0)
    assert (table.opcode_at(call.offset), table.opcode_at(call.offset, waits=True)) == (1, 0)
    assert table.skip(trap) is None


def test_words_of_arguments() -> None:
    params = " ".join(["i64"] * 10)
    gets = " ".join([f"(local.get {number})" for number in range(10)])
    table = only(
        f"(module (type $t (func (param {params}))) (table 1 funcref)"
        f" (func (type $t) (call_indirect (type $t) {gets} (i32.const 0))))"
    ).table
    entry = table.state(table.rows[0].offset)
    assert [local.place for local in entry.locals[8:]] == [Incoming(0), Incoming(1)]
    (row,) = (row for row in table.rows if row.kind == "undefined element")
    wanted = [want for want, _ in table.retry(row).operands]
    assert wanted[8:10] == [Outgoing(0), Outgoing(1)]


def test_writing_in_place() -> None:
    subject = only(
        """(module (memory 1) (func (param i32 i32 i32) (local i32)
        (local.set 3 (i32.add (local.get 0) (i32.const 8)))
        (i32.store (local.get 1) (local.get 2))
        (i32.store (local.get 3) (i32.add (local.get 0) (i32.const 8)))))"""
    )
    table = subject.table
    state = stop(table, subject.body.opcodes.index(0x36))
    assert table.sharing(state, 2).others == (5,)  # local 2 and the operand that was read from it
    assert not table.sharing(state, 2).is_sound
    derived = table.sharing(state, 0)
    assert derived.reason == "something computed from it is still in use"
    reused = table.sharing(state, 3)
    assert reused.reason == "other opcodes compute the same value"
    before = stop(table, 0)
    sound = table.sharing(before, 1)
    assert sound.is_sound
    assert sound.places == (Register(1),)
    assert table.sharing(before, 3).reason == "it has no place of its own"  # a constant


def test_dead_values_are_gone_in_live_only() -> None:
    text = """(module (memory 1) (func (param i32 i32) (i32.store (local.get 0) (local.get 1))
        (i32.store (i32.load (i32.const 0)) (i32.load (i32.const 4)))
        (i32.store (i32.const 8) (i32.load (i32.const 8)))))"""
    kinds = {}
    for full in (True, False):
        subject = only(text, full)
        last = max(offset for offset, _ in subject.table.stops)
        state = subject.table.state(last, subject.table.opcodes_at(last)[0])
        kinds[full] = [type(local.place) for local in state.locals]
    assert Unavailable not in kinds[True]
    assert Unavailable in kinds[False]
    with pytest.raises(Unreadable):
        evaluate(Entry(0, I32, Unavailable()), lambda place: 0, NAN_RULE)
    with pytest.raises(Unreadable):
        evaluate(Entry(0, 0x70, Expression(-14, 3, ())), lambda place: 0, NAN_RULE)


def test_shared_parts_are_evaluated_once() -> None:
    place: Expression | Register = Register(0)
    for _ in range(200):
        place = Expression(0x6A, None, (place, place))
    reads: list[object] = []

    def read(at: object) -> int:
        reads.append(at)
        return 0xFFFF_FFFF_0000_0001

    assert evaluate(Entry(0, I32, place), read, NAN_RULE) == 0
    assert len(reads) == 2


FLOATING = {
    **{0x92 + number: (F32, f"f32.{name}") for number, name in enumerate("add sub mul div min max copysign".split())},
    **{0xA0 + number: (F64, f"f64.{name}") for number, name in enumerate("add sub mul div min max copysign".split())},
    **{
        0x8B + number: (F32, f"f32.{name}")
        for number, name in enumerate("abs neg ceil floor trunc nearest sqrt".split())
    },
    **{
        0x99 + number: (F64, f"f64.{name}")
        for number, name in enumerate("abs neg ceil floor trunc nearest sqrt".split())
    },
    0xB6: (F64, "f32.demote_f64"),
    0xBB: (F32, "f64.promote_f32"),
}


def bits_of_every_kind(type_: int, chance: random.Random) -> int:
    """Zeros, infinities, quiet and signalling NaNs, small and large numbers, of a floating-point type."""
    width, mantissa = (32, 23) if type_ == F32 else (64, 52)
    top = (1 << (width - 1 - mantissa)) - 1 << mantissa
    special = (
        0,
        top,
        top | 1,
        top | 1 << (mantissa - 1),
        top | 3 << (mantissa - 2),
        1,
        top - 1,
        chance.getrandbits(width),
    )
    sign = chance.getrandbits(1) << (width - 1)
    close = (top >> mantissa >> 1) + chance.randrange(-3, 4) << mantissa
    return sign | chance.choice([*special, close | chance.getrandbits(mantissa)]) & (1 << (width - 1)) - 1


@pytest.mark.parametrize("op", sorted(FLOATING))
def test_recomputation_is_what_the_machine_does(op: int) -> None:
    """NaNs and all, bit by bit: against compiled code."""
    type_, name = FLOATING[op]
    is_unary = op in (0xB6, 0xBB) or 0x8B <= op <= 0x91 or 0x99 <= op <= 0x9F
    word = {F32: "i32", F64: "i64"}
    result = {0xB6: F32, 0xBB: F64}.get(op, type_)
    float_name, result_name = ("f32", "f64")[type_ == F64], ("f32", "f64")[result == F64]
    reads = [f"({float_name}.reinterpret_{word[type_]} (local.get {number}))" for number in range(2 - is_unary)]
    text = (
        f'(module (func (export "f") (param {word[type_]} {word[type_]}) (result {word[result]})'
        f" ({word[result]}.reinterpret_{result_name} ({name} {' '.join(reads)}))))"
    )
    run = instance(text).exports.f
    chance = random.Random(op)
    mask = (1 << (32 if result == F32 else 64)) - 1
    half = 1 << (31 if type_ == F32 else 63)
    for _ in range(400):
        args = [bits_of_every_kind(type_, chance) for _ in range(2)]
        wanted = run(*[(bits ^ half) - half for bits in args]) & mask
        found = recompute(op, tuple(args[: 2 - is_unary]), NAN_RULE)
        assert found == wanted, f"{name} {[hex(bits) for bits in args]}: {found:#x}, machine {wanted:#x}"


def test_rules_of_other_machines() -> None:
    """Arm ARM (DDI 0487), FPProcessNaNs: a signalling NaN first; the default NaN is positive."""
    rule = NanRule(negative_default=False, signalling_first=True)
    quiet, signalling = 0x7FC0_0001, 0x7F80_0002
    assert recompute(0x92, (quiet, signalling), rule) == 0x7FC0_0002
    assert recompute(0x92, (quiet, signalling), NAN_RULE) == quiet
    assert recompute(0x93, (0x7F80_0000, 0x7F80_0000), rule) == 0x7FC0_0000
    assert recompute(0x93, (0x7F80_0000, 0x7F80_0000), NAN_RULE) == 0xFFC0_0000


def test_only_pure_operations_are_recomputed() -> None:
    assert recompute(0x1B, (1, 2, 0), NAN_RULE) == 2
    assert recompute(0xD1, (0,), NAN_RULE) == 1
    assert recompute(0xB5, ((1 << 64) - 1,), NAN_RULE) == 0x5F80_0000
    assert evaluate(Entry(0, I64, Expression(0xAD, None, (Register(3),))), lambda place: -1, NAN_RULE) == 0xFFFF_FFFF
    with pytest.raises(KeyError):
        recompute(0x6D, (1, 2), NAN_RULE)
