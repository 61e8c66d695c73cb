"""Operand kinds of the form tables: how a raw field value is written in text.

Must match the kinds listed in `forms_x86_64` and `forms_aarch64`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LOW: Final = ("a", "c", "d", "b", "sp", "bp", "si", "di")


def x86_register_name(kind: str, number: int) -> str:
    """The name of register `number` (0 to 15) of a kind."""
    if kind in ("xmm", "ymm"):
        return f"{kind}{number}"
    if number >= 8:
        return f"r{number}" + {"r8": "b", "r16": "w", "r32": "d", "r64": ""}[kind]
    core = _LOW[number]
    if kind == "r8":
        return core + "l"
    full = core + "x" if number < 4 else core
    return {"r16": "", "r32": "e", "r64": "r"}[kind] + full


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """What an aarch64 kind needs: `width` bits, units of `scale`, whether it is a register."""

    width: int
    scale: int
    signed: bool
    register: bool


# Any two differ in at least 3 bits, so that moving one bit of one never makes two operands the same register.
A64_SAMPLES: Final = (0, 7, 25, 30)
_REGISTERS: Final = frozenset(("x", "w", "xs", "ws", "b", "h", "s", "d", "q", "v"))
A64_CONDITIONS: Final = ("eq", "ne", "hs", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le", "al", "nv")


def a64_field_spec(kind: str) -> FieldSpec:
    """The field that an operand of `kind` fills."""
    if kind in _REGISTERS:
        return FieldSpec(5, 1, False, True)
    if kind == "cc":
        return FieldSpec(4, 1, False, False)
    if kind == "f8":
        return FieldSpec(8, 1, False, False)
    if kind == "e3":  # amount of an extended register: 0 to 4
        return FieldSpec(3, 1, False, False)
    if kind[0] == "r":
        return FieldSpec(int(kind[1:]).bit_length() - 1, 1, False, False)
    bits, _, scale = kind[1:].partition("*")
    return FieldSpec(int(bits), int(scale or 1), kind[0] == "s", False)


def float_of_imm8(raw: int) -> float:
    """The value of a floating-point immediate. Source: Arm ARM, VFPExpandImm."""
    power = (raw >> 4 & 7 ^ 4) - 3  # bit 6 is stored inverted
    value = (16 + (raw & 15)) / 16 * 2.0**power
    return -value if raw >> 7 else value


def a64_text(kind: str, raw: int) -> str:
    """The text of an operand whose field holds `raw`."""
    if kind in _REGISTERS:
        if raw == 31 and kind in ("x", "w"):
            return kind + "zr"
        if raw == 31 and kind in ("xs", "ws"):
            return "sp" if kind == "xs" else "wsp"
        return f"{kind[0]}{raw}"
    if kind == "cc":
        return A64_CONDITIONS[raw]
    if kind == "f8":
        return f"{float_of_imm8(raw):.8f}"
    if kind[0] == "r":
        return str(int(kind[1:]) - raw)
    spec = a64_field_spec(kind)
    value = raw - (1 << spec.width) if spec.signed and raw >> spec.width - 1 else raw
    return str(value * spec.scale)
