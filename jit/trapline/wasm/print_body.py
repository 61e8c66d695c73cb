"""Decoded bodies as text, a line an opcode.

`print_body` leaves out what validation adds unless it is there and asked for.
"""

from __future__ import annotations

import struct
from typing import Final

from trapline.wasm.body import Body
from trapline.wasm.opcodes import (
    BLOCK,
    BR_TABLE,
    CALL_INDIRECT,
    F32_CONST,
    F64_CONST,
    INDEX_PAIR,
    MEMARG,
    OPCODES,
    REF_TYPE,
    SELECT_TYPES,
    opcode_name,
)
from trapline.wasm.types import type_list, value_type_name

__all__ = ["float_text", "opcode_text", "print_body"]

_BLOCK, _LOOP, _IF, _ELSE, _END = 0x02, 0x03, 0x04, 0x05, 0x0B
_UNTYPED: Final = frozenset([0x1A, 0x1B])
"""drop and select, whose immediate is only there for the compiler."""


def float_text(bits: int, is_64: bool) -> str:
    """A float from its bits: in decimal if that says it all, else as hexadecimal bits.

    >>> float_text(0x3FF8000000000000, True), float_text(0x7FC00000, False)
    ('1.5', 'nan:0x7fc00000')
    """
    value: float
    (value,) = struct.unpack("<d" if is_64 else "<f", bits.to_bytes(8 if is_64 else 4, "little"))
    return f"nan:{bits:#x}" if value != value else repr(value)


def opcode_text(code: int, immediate: object) -> str:
    """An opcode and its immediates, much as the text format writes them."""
    name = opcode_name(code)
    kind = OPCODES[code].immediate if code in OPCODES else -1
    if immediate is None or code in _UNTYPED:
        return name
    if isinstance(immediate, int):
        if kind in (F32_CONST, F64_CONST):
            return f"{name} {float_text(immediate, kind == F64_CONST)}"
        if kind in (SELECT_TYPES, REF_TYPE):
            return f"{name} {value_type_name(immediate)}"
        return f"{name} {immediate}"
    assert isinstance(immediate, tuple), f"{name} has the immediate {immediate!r}"
    if kind == BLOCK:
        params, results = immediate
        if params:
            return f"{name} {type_list(params)} -> {type_list(results)}"
        return f"{name} {type_list(results)}" if results else name
    if kind == MEMARG:
        return f"{name} offset={immediate[1]}" if immediate[1] else name
    if kind == BR_TABLE:
        return " ".join([name, *(str(depth) for depth in immediate[0]), str(immediate[1])])
    if kind == CALL_INDIRECT:
        return f"{name} type={immediate[0]} table={immediate[1]}"
    assert kind == INDEX_PAIR, f"{name} has the immediate {immediate!r}"
    return f"{name} {immediate[0]} {immediate[1]}"


def print_body(body: Body, *, validated: bool = False) -> str:
    """A body as text: index, Wasm pc, opcode, indented by block.

    With `validated`, also the height of the operand stack before the opcode, `-` where it cannot be reached.
    """
    declared = body.locals[body.param_count :]
    lines = [f"{body.type}, locals {type_list(declared)}" if declared else str(body.type)]
    depth = 0
    for index, (code, immediate) in enumerate(zip(body.opcodes, body.immediates, strict=True)):
        if code in (_ELSE, _END):
            depth = max(depth - 1, 0)
        state = ""
        if validated:
            state = f"{body.heights[index]:4}" if body.reachable[index] else "   -"
        indent = "  " * depth
        lines.append(f"{index:5} {body.offsets[index]:#8x}{state}  {indent}{opcode_text(code, immediate)}")
        if code in (_BLOCK, _LOOP, _IF, _ELSE):
            depth += 1
    return "\n".join(lines)
