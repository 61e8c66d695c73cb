"""What a Body says of each opcode: immediates, ends, heights, reachability, types of drop and select."""

from __future__ import annotations

import pytest
import wasmtime

from tests.wasm.build import one_function
from trapline.errors import DecodeError
from trapline.wasm.body import Body, decode_body
from trapline.wasm.decode import decode
from trapline.wasm.opcodes import opcode_name
from trapline.wasm.types import BOTTOM, EXTERNREF, F32, F64, FUNCREF, I32, I64
from trapline.wasm.validate import validate, validate_body


def body_of(text: str) -> Body:
    """The body of the first function that a module in the text format defines."""
    module = decode(bytes(wasmtime.wat2wasm(text)))
    validate(module)
    body = decode_body(module, 0)
    validate_body(module, body)
    lists = (body.opcodes, body.immediates, body.offsets, body.ends, body.elses, body.heights, body.reachable)
    assert {len(entries) for entries in lists} == {len(body.opcodes)}
    assert body.max_height == max(body.heights)
    return body


def listing(body: Body) -> list[tuple[str, int, int]]:
    """(name, height, whether reachable) of each opcode."""
    names = map(opcode_name, body.opcodes)
    return list(zip(names, body.heights, body.reachable, strict=True))


def test_immediates() -> None:
    body = body_of("""(module
      (type $two (func (param i32) (result i64 f32)))
      (table 1 funcref) (table 1 externref) (memory 1) (data "x") (elem func)
      (func (param i32) (result i64) (local f64 f64 externref)
        i32.const -3  drop
        i64.const 0x8000000000000000  drop
        f32.const -0.0  drop
        f64.const nan:0x4000000000001  drop
        local.get 0  i32.load16_s offset=300 align=1  drop
        i32.const 0  i32.const 0  call_indirect (type $two)  drop  drop
        ref.null extern  drop
        i32.const 0  i32.const 0  i32.const 0  select (result i32)  drop
        i32.const 0  i32.const 0  i32.const 0  table.init 0 0
        i32.const 0  i32.const 0  i32.const 0  memory.copy
        i32.const 1  (block (param i32) (result i64 f32) (unreachable))  drop
        (block (loop (br_table 0 1 1 0 (i32.const 0))))
        memory.size  drop))""")
    assert body.locals == [I32, F64, F64, EXTERNREF]
    assert body.param_count == 1
    assert [immediate for immediate in body.immediates if immediate is not None] == [
        -3, I32,
        -(2**63), I64,
        0x80000000, F32,
        0x7FF4000000000001, F64,
        0, (0, 300), I32,
        0, 0, (0, 0), F32, I64,
        EXTERNREF, EXTERNREF,
        0, 0, 0, I32, I32,
        0, 0, 0, (0, 0),
        0, 0, 0, (0, 0),
        1, ((I32,), (I64, F32)), F32,
        ((), ()), ((), ()), 0, ((0, 1, 1), 0),
        0, I32,
    ]  # fmt: skip


def test_ends() -> None:
    body = body_of("""(module (func (param i32)
      block loop (if (local.get 0) (then nop) (else (if (local.get 0) (then)))) end end))""")
    names = [opcode_name(opcode) for opcode in body.opcodes]
    assert names == "block loop local.get if nop else local.get if end end end end end".split()
    assert body.ends == [11, 10, -1, 9, -1, 9, -1, 8, -1, -1, -1, -1, -1]
    assert body.elses == [-1, -1, -1, 5, *[-1] * 9]


def test_heights() -> None:
    body = body_of("""(module (func $f (param i32 i32) (result i32) (local i64)
      local.get 0  local.get 1  block (param i32) (result i32)  i32.const 1  i32.add  end  call $f))""")
    assert listing(body) == [
        ("local.get", 0, 1),
        ("local.get", 1, 1),
        ("block", 2, 1),
        ("i32.const", 2, 1),
        ("i32.add", 3, 1),
        ("end", 2, 1),
        ("call", 2, 1),
        ("end", 1, 1),
    ]


REACHABLE = {
    # code of a function (param i32): digits are 1 where the opcode can be reached
    "nop return nop": "1100",
    "block br 0 nop end nop": "110011",
    "block return end nop": "11000",
    "block local.get 0 br_if 0 return nop end nop": "11110011",
    "block return br 0 end nop": "110000",
    "loop br 0 end nop": "11000",
    "loop local.get 0 br_if 0 end nop": "111111",
    "block loop local.get 0 br_if 1 br 0 end nop end nop": "11111000" + "11",
    "local.get 0 if return end nop": "111011",
    "local.get 0 if return else nop end nop": "11101111",
    "local.get 0 if nop else return end nop": "11111011",
    "local.get 0 if return else return end nop": "11101000",
    "return local.get 0 if nop else nop end nop": "100000000",
    "return block nop end loop end nop": "10000000",
    "block block local.get 0 br_table 0 1 end nop end nop": "1111011" + "11",
    "block block local.get 0 br_table 1 1 end nop end nop": "1111000" + "11",
    "unreachable block br 0 end nop": "100000",
}


@pytest.mark.parametrize("code", REACHABLE)
def test_reachable(code: str) -> None:
    body = body_of(f"(module (func (param i32) {code}))")
    assert "".join(map(str, body.reachable)) == REACHABLE[code]


def test_types_of_drop_and_select() -> None:
    body = body_of("""(module (func (param funcref f64)
      local.get 0  drop
      local.get 1  local.get 1  i32.const 0  select  drop
      unreachable
      drop
      i32.const 0  select  drop
      f64.const 1  i32.const 0  select  drop))""")
    types = [
        (opcode_name(opcode), immediate)
        for opcode, immediate in zip(body.opcodes, body.immediates, strict=True)
        if opcode_name(opcode) in ("drop", "select")
    ]
    assert types == [
        ("drop", FUNCREF), ("select", F64), ("drop", F64),
        ("drop", BOTTOM), ("select", BOTTOM), ("drop", BOTTOM), ("select", F64), ("drop", F64),
    ]  # fmt: skip


MALFORMED = {
    "05 0b": "END opcode expected",
    "02 40 05 0b 0b": "END opcode expected",
    "41 00 04 40 05 05 0b 0b": "END opcode expected",
    "0b 0b": "section size mismatch",
    "02 40 0b": "unexpected end of section or function",
    "41": "unexpected end of section or function",
    "43 00 00 00 0b": "unexpected end of section or function",
    "44 00 00 00 00 00 00 00 0b": "unexpected end of section or function",
    "ff 0b": "illegal opcode ff",
    "fc 80 01 0b": "illegal opcode fc 80",
    "28 80 01 00 0b": "malformed memop flags",
    "02 7a 0b 0b": "malformed value type",
    "1c 01 00 0b": "malformed value type",
    "d0 7f 0b": "malformed reference type",
}


@pytest.mark.parametrize("code", MALFORMED)
def test_malformed(code: str) -> None:
    # The data section keeps the body from being the last of the module.
    module = decode(one_function(bytes.fromhex(code)) + b"\x0b\1\0")
    with pytest.raises(DecodeError) as caught:
        decode_body(module, 0)
    assert str(caught.value).startswith(MALFORMED[code])
    assert caught.value.function == 0
    assert caught.value.offset is not None
    start, stop = module.code[0].start, module.code[0].stop
    assert start <= caught.value.offset <= stop
