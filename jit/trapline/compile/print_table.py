"""Frame tables as text: where every local and operand is at each stop point, then what can trap.

    3: locals rax, [0] | operands (i32.lt_s rax 2)
    memory of opcode 7: again with rdx, or on with xmm1

A place is a register, `[k]` for the k-th slot, `arg k` for a word of arguments (`arg +k` one that goes out), a
constant, `(op ...)` for what is computed from other places, or `gone`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trapline.compile.frame_table import CALL, FrameTable, Row
from trapline.compile.ir import Op
from trapline.compile.places import Constant, Entry, Expression, Incoming, Outgoing, Place, Register, Slot
from trapline.compile.print_ssa import constant_text
from trapline.wasm.opcodes import OPCODES, opcode_name
from trapline.wasm.types import EXTERNREF, I32

__all__ = ["entry_text", "print_table"]

_TYPES: Final = {code: row.operands for code, row in OPCODES.items() if code != 0x1B}
"""Of the operands of what can be computed from places; select's first two are of the type of its result."""

RegisterText = Callable[[int], str]
"""The name of a register by its number as a place."""


def _place(place: Place, type_: int, register_text: RegisterText) -> str:
    match place:
        case Register(number):
            return register_text(number)
        case Slot(index):
            return f"[{index}]"
        case Incoming(index):
            return f"arg {index}"
        case Outgoing(index):
            return f"arg +{index}"
        case Constant(bits):
            return constant_text(type_, bits)
        case Expression(op, imm, args):
            name = opcode_name(op) if op >= 0 else Op(op).name.lower()
            types = _TYPES.get(op, (type_, type_, I32)) or (EXTERNREF,)  # ref.is_null takes any reference
            operands = [_place(arg, types[number], register_text) for number, arg in enumerate(args)]
            return f"({' '.join([name, *([] if imm is None else [str(imm)]), *operands])})"
    return "gone"


def entry_text(entry: Entry, register_text: RegisterText) -> str:
    """Where a local or an operand is."""
    return _place(entry.place, entry.type, register_text)


def _entries(entries: tuple[Entry, ...], register_text: RegisterText) -> str:
    return ", ".join([entry_text(entry, register_text) for entry in entries]) or "-"


def _row(table: FrameTable, row: Row, register_text: RegisterText) -> str:
    retry, skip = table.retry(row), table.skip(row)
    again = ", ".join([_place(wanted, 0, register_text) for wanted, _ in retry.operands])
    text = f"{row.kind} of opcode {row.opcode}: again" + (f" with {again}" if again else "")
    if skip is None:
        return text
    results = [" and ".join([_place(place, 0, register_text) for place in places]) for _, places in skip.results]
    return f"{text}, or on" + (f" with {', '.join(results)}" if results else "")


def print_table(table: FrameTable, register_text: RegisterText) -> str:
    """A frame table as text: a line for each opcode whose state is not like the one before, then the trap sites."""
    lines: list[str] = []
    before = ""
    for offset, opcode in table.stops:
        state = table.state(offset, opcode)
        places = (_entries(entries, register_text) for entries in (state.locals, state.operands))
        text = "locals {} | operands {}".format(*places)
        if text != before:
            lines.append(f"{opcode:4}: {text}")
        before = text
    lines += [_row(table, row, register_text) for row in table.rows if row.kind != CALL]
    return "\n".join(lines)
