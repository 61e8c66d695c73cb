"""What `decode` keeps, where it says things lie, and how it refuses."""

from __future__ import annotations

import pickle
import time

import pytest
import wasmtime

from tests.wasm.build import custom, function_type, leb, module, name, one_function, section, vector
from trapline.errors import DecodeError, ModuleError, UnsupportedError, ValidationError
from trapline.wasm.body import decode_body
from trapline.wasm.decode import decode
from trapline.wasm.limits import ImplementationLimits
from trapline.wasm.module import Module, SegmentMode
from trapline.wasm.types import (
    EXTERNREF,
    F64,
    FUNCREF,
    I32,
    I64,
    ExternKind,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
)
from trapline.wasm.validate import validate


def assemble(text: str) -> Module:
    decoded = decode(bytes(wasmtime.wat2wasm(text)))
    validate(decoded, bodies=True)
    return decoded


def test_everything_once() -> None:
    decoded = assemble("""(module $m
      (type (func (param i32 f64) (result i64)))
      (import "a" "f" (func $imported (type 0)))
      (import "a" "t" (table 1 2 externref))
      (import "a" "g" (global i32))
      (table $t 3 funcref)
      (memory 1 4)
      (global (mut i64) (i64.const -5))
      (global i32 (i32.add (global.get 0) (i32.const 7)))
      (func $f (export "run") (type 0) (i64.const 1))
      (func $start)
      (start $start)
      (export "mem" (memory 0)) (export "glo" (global 2))
      (elem (table 1) (i32.const 1) func $f $imported)
      (elem declare func $start)
      (elem externref (ref.null extern))
      (data (i32.const 16) "hello") (data "passive"))""")
    binary = FuncType((I32, F64), (I64,))
    assert decoded.types == [binary, FuncType()]
    assert [(item.name, item.kind, item.type, item.index) for item in decoded.imports] == [
        ("f", ExternKind.FUNCTION, binary, 0),
        ("t", ExternKind.TABLE, TableType(EXTERNREF, Limits(1, 2)), 0),
        ("g", ExternKind.GLOBAL, GlobalType(I32, False), 0),
    ]
    assert decoded.function_types == [binary, binary, FuncType()]
    assert decoded.function_type_indices == [0, 0, 1]
    assert decoded.imported_functions == decoded.imported_tables == decoded.imported_globals == 1
    assert decoded.tables[1] == TableType(FUNCREF, Limits(3))
    assert decoded.memories == [MemoryType(Limits(1, 4))]
    assert decoded.globals == [GlobalType(I32, False), GlobalType(I64, True), GlobalType(I32, False)]
    assert [init.immediates for init in decoded.global_inits] == [(-5, None), (0, 7, None, None)]
    assert decoded.start == 2
    assert {(item.name, item.kind, item.index) for item in decoded.exports} == {
        ("run", ExternKind.FUNCTION, 1),
        ("mem", ExternKind.MEMORY, 0),
        ("glo", ExternKind.GLOBAL, 2),
    }
    active, declarative, passive = decoded.elements
    assert (active.mode, active.table_index, active.functions) == (SegmentMode.ACTIVE, 1, (1, 0))
    assert (declarative.mode, declarative.functions, len(declarative)) == (SegmentMode.DECLARATIVE, (2,), 1)
    assert (passive.mode, passive.element, passive.functions) == (SegmentMode.PASSIVE, EXTERNREF, None)
    assert passive.expressions is not None
    assert passive.expressions[0].immediates == (EXTERNREF, None)
    assert [decoded.data_bytes(index) for index in (0, 1)] == [b"hello", b"passive"]
    assert [segment.mode for segment in decoded.data] == [SegmentMode.ACTIVE, SegmentMode.PASSIVE]
    assert decoded.declared_functions == {0, 1, 2}
    assert decoded.names.module == "m"
    assert [decoded.function_name(index) for index in range(4)] == ["imported", "f", "start", None]
    assert str(binary) == "[i32 f64] -> [i64]"
    assert [str(item) for item in (decoded.tables[0], decoded.memories[0], decoded.globals[1])] == [
        "table 1..2 externref",
        "memory 1..4",
        "global (mut i64)",
    ]


def test_custom_sections_stay_in_place() -> None:
    data = module(
        custom("a", b"1"),
        section(1, vector(function_type())),
        custom("a", b"2"),
        custom("b", b""),
        section(3, b"\0"),
        custom("c", b"\xff"),
    )
    decoded = decode(data)
    assert decoded.bytecode == data
    assert [(part.id, part.name) for part in decoded.sections] == [
        (0, "a"), (1, "type"), (0, "a"), (0, "b"), (3, "function"), (0, "c")
    ]  # fmt: skip
    assert decoded.custom_sections("a") == [b"1", b"2"]
    assert decoded.sections[0].start == 8
    for before, after in zip(decoded.sections, decoded.sections[1:], strict=False):
        assert before.stop == after.start
    assert decoded.sections[-1].stop == len(data)
    found = decoded.section_at(9)
    assert found is not None
    assert found.name == "a"
    assert decoded.section_at(len(data)) is None


def test_offsets() -> None:
    """The Wasm pc is the byte in the module; DWARF counts from the contents of the code section."""
    data = one_function(bytes.fromhex("01 41 2a 1a 0b"))
    decoded = decode(data)
    body = decode_body(decoded, 0)
    assert [data[offset] for offset in body.offsets] == [0x01, 0x41, 0x1A, 0x0B] == body.opcodes
    first = body.offsets[0]
    assert decoded.code_offset(first) == 3  # behind the count of bodies, the size and the count of locals
    assert decoded.module_offset(3) == first
    assert [decoded.function_at(offset) for offset in (0, first - 2, first - 1, first, len(data) - 1, len(data))] == [
        None, None, 0, 0, 0, None
    ]  # fmt: skip


def test_names_of_functions_without_a_name_section() -> None:
    decoded = decode(module(
        section(1, vector(function_type())),
        section(2, vector(name("env") + name("f") + b"\0\0")),
        section(3, b"\2\0\0"),
        section(7, vector(name("main") + b"\0\1")),
        section(10, vector(b"\2\0\x0b", b"\2\0\x0b")),
    ))  # fmt: skip
    assert [decoded.function_name(index) for index in range(3)] == ["env.f", "main", None]


def test_message() -> None:
    """An error says what, what was expected and found, the byte, the section, the function and the opcode."""
    decoded = decode(one_function(bytes.fromhex("41 00 42 00 6a 1a 0b"), more=section(7, vector(name("go") + b"\0\0"))))
    with pytest.raises(ValidationError) as caught:
        validate(decoded, bodies=True)
    assert str(caught.value) == (
        "type mismatch: instruction requires [i32 i32] but stack has [i32 i64]"
        " (invalid module, at byte 0x23, in the code section, function 0 (go), opcode i32.add)"
    )
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert isinstance(again, ModuleError)
    assert (again.offset, again.function, again.function_name, again.opcode) == (0x23, 0, "go", "i32.add")
    with pytest.raises(DecodeError, match=r"^magic header not detected, expected 0061736d, found 7f454c46 \("):
        decode(b"\x7fELF\1\0\0\0")
    with pytest.raises(ValidationError, match=r"^unknown local 7, expected an index below 0, found 7 \(invalid"):
        validate(decode(one_function(bytes.fromhex("20 07 1a 0b"))), bodies=True)


BY_NAME = {
    "SIMD proposal": one_function(bytes.fromhex("fd 0c") + bytes(16) + bytes.fromhex("1a 0b")),
    "tail call proposal": one_function(bytes.fromhex("12 00 0b")),
    "threads proposal": one_function(bytes.fromhex("fe 03 00 0b")),
    "exceptions proposal": one_function(bytes.fromhex("08 00 0b")),
    "legacy exceptions": one_function(bytes.fromhex("06 40 0b 0b")),
    "function references proposal": one_function(bytes.fromhex("14 00 0b")),
    "stack switching proposal": one_function(bytes.fromhex("e0 00 00 0b")),
    "GC proposal": module(section(1, vector(b"\x5f\0"))),
    "wide arithmetic proposal": one_function(bytes.fromhex("fc 13 0b")),
    "memory64 proposal": module(section(5, b"\1\4\1")),
    "multi-memory proposal": module(section(5, b"\2\0\1\0\1")),
    "custom descriptors proposal": module(section(2, vector(b"\0\0\x20\0"))),
}


@pytest.mark.parametrize("proposal", BY_NAME)
def test_refused_by_name(proposal: str) -> None:
    with pytest.raises(UnsupportedError, match=f"^{proposal}: not supported") as caught:
        validate(decode(BY_NAME[proposal]), bodies=True)
    assert caught.value.offset is not None
    assert caught.value.section is not None


SMALL = ImplementationLimits(
    module_bytes=100, types=1, functions=1, imports=1, exports=1, globals=1, tables=1, element_segments=1,
    data_segments=1, function_bytes=8, locals=2, params=1, results=1, br_table_labels=1, operands=20,
)  # fmt: skip

OVER_LIMIT = {
    "module too large": module(custom("x", bytes(100))),
    "too many types": module(section(1, vector(function_type(), function_type()))),
    "too many params": module(section(1, vector(function_type(bytes([I32, I32]))))),
    "too many results": module(section(1, vector(function_type(b"", bytes([I32, I32]))))),
    "too many imports": module(section(2, vector(b"\0\0\3\x7f\0", b"\0\0\3\x7f\0"))),
    "too many functions": module(section(1, vector(function_type())), section(3, b"\2\0\0")),
    "too many tables": module(section(4, b"\2\x70\0\0\x70\0\0")),
    "multi-memory proposal: not supported": module(section(5, b"\2\0\0\0\0")),
    "too many globals": module(section(6, b"\2\x7f\0\x41\0\x0b\x7f\0\x41\0\x0b")),
    "too many exports": module(section(7, b"\2\0\0\0\0\0\0")),
    "too many element segments": module(section(9, b"\2\1\0\0\1\0\0")),
    "too many data segments": module(section(11, b"\2\1\0\1\0")),
    "function too large": one_function(bytes(8) + b"\x0b"),
    "too many locals": one_function(b"\x0b", locals_=b"\1\3\x7f"),
    "too many labels of br_table": one_function(bytes.fromhex("0e 02 00 00 00 0b")),
}


@pytest.mark.parametrize("reason", OVER_LIMIT)
def test_limits(reason: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        validate(decode(OVER_LIMIT[reason], SMALL), bodies=True)
    assert caught.value.reason == reason
    assert caught.value.offset is not None


def test_default_limits() -> None:
    """At the limit a module is accepted, above it refused, without delay."""
    locals_ = vector(leb(50_000) + b"\x7f")
    assert len(decode_body(decode(one_function(b"\x0b", locals_=locals_)), 0).locals) == 50_000
    with pytest.raises(UnsupportedError, match=r"^too many locals, expected at most 50000, found 50001"):
        decode_body(decode(one_function(b"\x0b", locals_=vector(leb(50_001) + b"\x7f"))), 0)
    with pytest.raises(UnsupportedError, match=r"^too many params, expected at most 1000, found 1001"):
        decode(module(section(1, vector(function_type(bytes([I32]) * 1001)))))


HUGE = leb(2**32 - 1)
FILLING = bytes([I32]) * 1000

HOSTILE = {
    "counts": module(section(1, HUGE)),
    "functions": module(section(1, vector(function_type())), section(3, HUGE + b"\0" * 9)),
    "elements": module(section(9, b"\1\1\0" + HUGE)),
    "data": module(section(11, b"\1\1" + HUGE)),
    "labels": one_function(b"\x0e" + HUGE + b"\x0b"),
    "runs of locals": one_function(b"\x0b", locals_=leb(60_000) + b"\0\x7f" * 60_000),
    "deep blocks": one_function(b"\x02\x40" * 300_000 + b"\x0b" * 300_001),
    "deep ifs": one_function(b"\x41\0\x04\x40" * 200_000 + b"\x05\x0b" * 200_000 + b"\x0b"),
    "deep blocks without an end": one_function(b"\x02\x40" * 300_000),
    "many results": one_function(b"\x10\0" * 200_000 + b"\0\x0b", type_=function_type(b"", FILLING)),
    "many operands": one_function(b"\x10\0" * 20_000 + b"\0\x0b", type_=function_type(FILLING, FILLING)),
    "many labels": one_function(
        b"\0"
        + b"\x02\0" * 500
        + b"\x0e"
        + vector(*[leb(depth % 500) for depth in range(60_000)])
        + b"\0"
        + b"\x0b" * 501,
        type_=function_type(b"", FILLING),
    ),
    "a block's results": one_function(b"\x02\0\0\x0b" * 100_000 + b"\0\x0b", type_=function_type(b"", FILLING)),
    "a name": module(custom("name", b"\1" + leb(9) + HUGE + b"\0\0\0\0")),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile(what: str) -> None:
    """Modules made to cost much are done with soon, one way or the other."""
    start = time.process_time()
    try:
        decoded = decode(HOSTILE[what])
        validate(decoded, bodies=True)
        _ = decoded.names
    except ModuleError as error:
        str(error)
    assert time.process_time() - start < 20
