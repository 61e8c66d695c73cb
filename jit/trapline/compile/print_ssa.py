"""SSA form as text: blocks with their parameters, instructions and edges.

    b2(v5: i32, v6: i64) header, depth 1, from b0 b2    ; opcode 4
      v7: i32 = i32.add v5, v1                          ; 6
      branch i32.lt_s v7, v2: b2(v7, v6), b3            ; 8

The numbers behind semicolons are opcode indices (`Func.pos`).
"""

from __future__ import annotations

from typing import Final

from trapline.compile.ir import NO_TYPE, Edge, Func, Op
from trapline.wasm.opcodes import opcode_name
from trapline.wasm.print_body import float_text, opcode_text
from trapline.wasm.types import F32, F64, I32, I64, type_list, value_type_name

__all__ = ["block_heading", "commented", "constant_text", "edge_text", "instruction_text", "print_ssa"]

_COMMENT_COLUMN: Final = 52
_SIGN: Final = {I32: 32, I64: 64}


def constant_text(type_: int, bits: object) -> str:
    """A constant as a program would write it."""
    if not isinstance(bits, int):
        return repr(bits)
    if type_ in (F32, F64):
        return float_text(bits, type_ == F64)
    width = _SIGN.get(type_)
    if width is None:
        return "null" if not bits else hex(bits)
    return str(bits - (1 << width) if bits >> (width - 1) else bits)


def _values(values: tuple[int, ...] | list[int]) -> str:
    return ", ".join([f"v{value}" for value in values])


def edge_text(edge: Edge) -> str:
    """An edge: its target, and the values it passes."""
    return f"b{edge.target}({_values(edge.args)})" if edge.args else f"b{edge.target}"


def _operation(func: Func, value: int, operands: list[str]) -> str:
    """What an instruction does, of operands that are texts already."""
    op, imm = func.op[value], func.imm[value]
    joined = ", ".join(operands)
    if op == Op.CONST:
        return f"const {constant_text(func.type[value], imm)}"
    if op == Op.CALL:
        return f"call {imm}({joined})"
    if op == Op.CALL_INDIRECT:
        assert isinstance(imm, tuple), f"call_indirect has the immediate {imm!r}"
        return f"call_indirect type={imm[0]} table={imm[1]} [{operands[-1]}]({', '.join(operands[:-1])})"
    if op == Op.BRANCH and isinstance(imm, int):
        return f"branch {opcode_name(imm)} {joined}"
    if op == Op.LIBCALL and isinstance(imm, tuple) and isinstance(imm[0], int):
        return f"{opcode_text(imm[0], imm[1])}({joined})"
    if op < 0:
        name = Op(op).name.lower() if op in list(Op) else f"op {op}"
    else:
        name = opcode_text(op, imm) if imm is not None else opcode_name(op)
        imm = None
    words = [name, *([] if imm is None else [str(imm)]), *([joined] if joined else [])]
    return " ".join(words)


def instruction_text(func: Func, value: int, operands: list[str], result: str, edges: list[Edge]) -> str:
    """One instruction whose operands and result are named by the caller; `edges` are those of a terminator."""
    text = _operation(func, value, operands)
    if func.type[value] != NO_TYPE and result:
        text = f"{result} = {text}"
    leaves = edges and Op.SWITCH <= func.op[value] <= Op.JUMP
    return f"{text}: {', '.join(map(edge_text, edges))}" if leaves else text


def commented(text: str, comment: str) -> str:
    """A line with its comment at a column of its own."""
    return f"{text:<{_COMMENT_COLUMN}} ; {comment}" if comment else text


def block_heading(func: Func, number: int, params: str) -> str:
    """The line that begins a block; `params` is the text of its parameters."""
    block = func.blocks[number]
    words = [f"b{number}({params})" if params else f"b{number}"]
    if block.is_header:
        words.append("header")
    if block.depth:
        words.append(f"depth {block.depth}")
    if block.predecessors:
        words.append("from " + " ".join([f"b{before}" for before in block.predecessors]))
    heading = words[0] + (" " + ", ".join(words[1:]) if words[1:] else "")
    return commented(heading, f"opcode {block.start_pos}")


def print_ssa(func: Func) -> str:
    """A function in SSA form as text."""
    params = func.blocks[0].params
    types = [func.type[param] for param in params]
    lines = [f"{type_list(types)} -> {type_list(func.result_types)}"]
    for number, block in enumerate(func.blocks):
        typed = [f"v{param}: {value_type_name(func.type[param])}" for param in block.params]
        lines.append(block_heading(func, number, ", ".join(typed)))
        for value in block.instructions:
            operands = [f"v{arg}" for arg in func.args[value]]
            result = f"v{value}: {value_type_name(func.type[value])}"
            text = instruction_text(func, value, operands, result, block.edges)
            lines.append(commented(f"  {text}", str(func.pos[value])))
    return "\n".join(lines)
