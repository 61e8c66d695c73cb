"""The opcode table against an independent assembler: code, name, signature, width and alignment of every opcode."""

from __future__ import annotations

import pytest
import wasmtime

from trapline.wasm.body import decode_body
from trapline.wasm.decode import decode
from trapline.wasm.opcodes import (
    CALL_INDIRECT,
    CONSTANT,
    IMMEDIATE_KINDS,
    INDEX_PAIR,
    MEMARG,
    OPCODES,
    PREFIX,
    TRAPS,
    UNKNOWN,
    UNSUPPORTED,
    VARIES,
    Opcode,
    opcode_name,
    unsupported_proposal,
)
from trapline.wasm.types import value_type_name
from trapline.wasm.validate import validate, validate_body

FIXED = [row for row in OPCODES.values() if not row.flags & VARIES]

MODULE = """(module
  (memory 1) (table 1 funcref) (elem func) (data "")
  (func (param {params}) (result {results}) {gets} {name} {immediate}))"""


def immediate(row: Opcode) -> str:
    if row.name.endswith(".const"):
        return "1"
    return "0" if row.name.endswith(".drop") else "0 0" if row.name == "table.init" else ""


@pytest.mark.parametrize("row", FIXED, ids=lambda row: row.name)
def test_fixed(row: Opcode) -> None:
    """An opcode of fixed type, put between its operands and results, is assembled to its code and is valid."""
    params = " ".join(map(value_type_name, row.operands))
    results = " ".join(map(value_type_name, row.results))
    gets = " ".join(f"local.get {index}" for index in range(len(row.operands)))
    name = row.name if row.name != "memory.init" else "memory.init 0"
    text = MODULE.format(params=params, results=results, gets=gets, name=name, immediate=immediate(row))
    module = decode(bytes(wasmtime.wat2wasm(text)))
    validate(module)
    body = decode_body(module, 0)
    validate_body(module, body)
    assert body.opcodes[len(row.operands)] == row.code
    if row.immediate == MEMARG:
        assert body.immediates[len(row.operands)] == (row.alignment, 0)
        assert row.access_bytes == 1 << row.alignment


def test_rows() -> None:
    for code, row in OPCODES.items():
        assert code == row.code
        assert row.access_bytes == 0 or row.immediate == MEMARG
        assert opcode_name(code) == row.name
        assert code < 256 or code >> 8 == 0xFC
        assert row.immediate not in (PREFIX, UNKNOWN)
        assert row.immediate not in (CALL_INDIRECT, INDEX_PAIR) or row.flags & TRAPS
    constants = {row.name for row in OPCODES.values() if row.flags & CONSTANT}
    extended = {f"{kind}.{name}" for kind in ("i32", "i64") for name in ("add", "sub", "mul")}
    assert constants == extended | {
        "end", "global.get", "i32.const", "i64.const", "f32.const", "f64.const", "ref.null", "ref.func"
    }  # fmt: skip


def test_unsupported() -> None:
    """What is refused by name is not in the table, and every first byte is supported, named or illegal."""
    for first, last, _ in UNSUPPORTED:
        assert not any(first <= code <= last for code in OPCODES)
    assert unsupported_proposal(0xFD) == "SIMD proposal"
    illegal = [byte for byte in range(256) if IMMEDIATE_KINDS[byte] == UNKNOWN and not unsupported_proposal(byte)]
    assert illegal == [
        0x16, 0x17, 0x1D, 0x1E, 0x27, *range(0xC5, 0xD0), *range(0xD7, 0xE0), *range(0xE7, 0xFB), 0xFF
    ]  # fmt: skip
    assert opcode_name(0xFF) == "0xff"
