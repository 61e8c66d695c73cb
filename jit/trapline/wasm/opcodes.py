"""Every opcode that is supported, in one table, and the names of the proposals whose opcodes are not.

An opcode is an int: its byte, or ``0xFC00 | sub`` behind the prefix byte 0xFC. A sub-opcode above 255 of a later
table shall be ``prefix << 12 | sub``, so that no two collide. Core specification 5.4 (encoding) and 3.3 (typing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trapline.wasm.types import EXTERNREF, F32, F64, FUNCREF, I32, I64, ValueType

# Immediates: what follows the opcode, and what Body.immediates holds for it.
LOCAL: Final = 0
"""A local: its index."""
INDEX: Final = 1
"""A function, global, table, segment or label depth: its index."""
NONE: Final = 2
"""Nothing: None. For `drop` and `select` validation puts the value type of the operand there."""
I32_CONST: Final = 3
"""A signed int."""
MEMARG: Final = 4
"""(log2 of the alignment, offset)."""
BLOCK: Final = 5
"""((params), (results))."""
END: Final = 6
"""Nothing: None."""
ELSE: Final = 7
"""Nothing: None."""
I64_CONST: Final = 8
"""A signed int."""
F64_CONST: Final = 9
"""The bits as an unsigned int."""
F32_CONST: Final = 10
"""The bits as an unsigned int."""
PREFIX: Final = 11
"""No opcode: a prefix byte, behind which the rest of an opcode follows."""
CALL_INDIRECT: Final = 12
"""(type index, table index)."""
MEMORY: Final = 13
"""The index of a memory."""
INDEX_PAIR: Final = 14
"""Two indices in the order of the binary: (segment, memory or table), (target, source)."""
BR_TABLE: Final = 15
"""((label depths), default depth)."""
SELECT_TYPES: Final = 16
"""The value type."""
REF_TYPE: Final = 17
"""The reference type."""
UNKNOWN: Final = 18
"""No supported opcode."""

# Flags
TRAPS: Final = 1
"""May trap, calls included."""
CONTROL: Final = 2
"""Starts, ends or leaves a block, or calls."""
READS: Final = 4
"""Reads memory."""
WRITES: Final = 8
"""Writes memory."""
CONSTANT: Final = 16
"""Allowed in constant expressions. Core specification 3.3.10."""
VARIES: Final = 32
"""The types of operands and results depend on the immediate or on the stack; those in the table do not count."""


@dataclass(frozen=True, slots=True)
class Opcode:
    """One row. `alignment` is log2 of the natural alignment and `access_bytes` the width of a memory access, else 0."""

    code: int
    name: str
    immediate: int
    operands: tuple[ValueType, ...]
    results: tuple[ValueType, ...]
    flags: int
    alignment: int
    access_bytes: int


_LETTERS: Final[dict[str, ValueType]] = {
    "i": I32,
    "l": I64,
    "f": F32,
    "d": F64,
    "r": FUNCREF,
    "e": EXTERNREF,
}

Row = tuple[int, str, int, str, int]
"""(opcode, name, immediate, signature, flags); in a signature i is i32, l i64, f f32, d f64, r funcref."""

_CONTROL_ROWS: Final[list[Row]] = [
    (0x00, "unreachable", NONE, "", TRAPS | CONTROL | VARIES),
    (0x01, "nop", NONE, "", 0),
    (0x02, "block", BLOCK, "", CONTROL | VARIES),
    (0x03, "loop", BLOCK, "", CONTROL | VARIES),
    (0x04, "if", BLOCK, "i", CONTROL | VARIES),
    (0x05, "else", ELSE, "", CONTROL | VARIES),
    (0x0B, "end", END, "", CONTROL | VARIES | CONSTANT),
    (0x0C, "br", INDEX, "", CONTROL | VARIES),
    (0x0D, "br_if", INDEX, "i", CONTROL | VARIES),
    (0x0E, "br_table", BR_TABLE, "i", CONTROL | VARIES),
    (0x0F, "return", NONE, "", CONTROL | VARIES),
    (0x10, "call", INDEX, "", TRAPS | CONTROL | READS | WRITES | VARIES),
    (0x11, "call_indirect", CALL_INDIRECT, "i", TRAPS | CONTROL | READS | WRITES | VARIES),
    (0x1A, "drop", NONE, "", VARIES),
    (0x1B, "select", NONE, "", VARIES),
    (0x1C, "select", SELECT_TYPES, "", VARIES),
    (0x20, "local.get", LOCAL, "", VARIES),
    (0x21, "local.set", LOCAL, "", VARIES),
    (0x22, "local.tee", LOCAL, "", VARIES),
    (0x23, "global.get", INDEX, "", VARIES | CONSTANT),
    (0x24, "global.set", INDEX, "", VARIES),
    (0x25, "table.get", INDEX, "i", TRAPS | VARIES),
    (0x26, "table.set", INDEX, "", TRAPS | VARIES),
    (0x3F, "memory.size", MEMORY, ">i", READS),
    (0x40, "memory.grow", MEMORY, "i>i", READS | WRITES),
    (0x41, "i32.const", I32_CONST, ">i", CONSTANT),
    (0x42, "i64.const", I64_CONST, ">l", CONSTANT),
    (0x43, "f32.const", F32_CONST, ">f", CONSTANT),
    (0x44, "f64.const", F64_CONST, ">d", CONSTANT),
    (0xD0, "ref.null", REF_TYPE, "", VARIES | CONSTANT),
    (0xD1, "ref.is_null", NONE, "", VARIES),
    (0xD2, "ref.func", INDEX, ">r", VARIES | CONSTANT),
]

_MEMORY_ROWS: Final[list[tuple[int, str, str, int]]] = [
    # (opcode, name, signature, bytes accessed)
    (0x28, "i32.load", "i>i", 4),
    (0x29, "i64.load", "i>l", 8),
    (0x2A, "f32.load", "i>f", 4),
    (0x2B, "f64.load", "i>d", 8),
    (0x2C, "i32.load8_s", "i>i", 1),
    (0x2D, "i32.load8_u", "i>i", 1),
    (0x2E, "i32.load16_s", "i>i", 2),
    (0x2F, "i32.load16_u", "i>i", 2),
    (0x30, "i64.load8_s", "i>l", 1),
    (0x31, "i64.load8_u", "i>l", 1),
    (0x32, "i64.load16_s", "i>l", 2),
    (0x33, "i64.load16_u", "i>l", 2),
    (0x34, "i64.load32_s", "i>l", 4),
    (0x35, "i64.load32_u", "i>l", 4),
    (0x36, "i32.store", "ii>", 4),
    (0x37, "i64.store", "il>", 8),
    (0x38, "f32.store", "if>", 4),
    (0x39, "f64.store", "id>", 8),
    (0x3A, "i32.store8", "ii>", 1),
    (0x3B, "i32.store16", "ii>", 2),
    (0x3C, "i64.store8", "il>", 1),
    (0x3D, "i64.store16", "il>", 2),
    (0x3E, "i64.store32", "il>", 4),
]

_NUMERIC_ROWS: Final[list[tuple[int, str, str]]] = [
    # (first opcode, signature, names of consecutive opcodes; a name that traps ends in "!", a constant one in "+")
    (0x45, "i>i", "i32.eqz"),
    (
        0x46,
        "ii>i",
        "i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s i32.ge_u",
    ),
    (0x50, "l>i", "i64.eqz"),
    (
        0x51,
        "ll>i",
        "i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s i64.ge_u",
    ),
    (0x5B, "ff>i", "f32.eq f32.ne f32.lt f32.gt f32.le f32.ge"),
    (0x61, "dd>i", "f64.eq f64.ne f64.lt f64.gt f64.le f64.ge"),
    (0x67, "i>i", "i32.clz i32.ctz i32.popcnt"),
    (
        0x6A,
        "ii>i",
        "i32.add+ i32.sub+ i32.mul+ i32.div_s! i32.div_u! i32.rem_s! i32.rem_u! i32.and i32.or i32.xor i32.shl"
        " i32.shr_s i32.shr_u i32.rotl i32.rotr",
    ),
    (0x79, "l>l", "i64.clz i64.ctz i64.popcnt"),
    (
        0x7C,
        "ll>l",
        "i64.add+ i64.sub+ i64.mul+ i64.div_s! i64.div_u! i64.rem_s! i64.rem_u! i64.and i64.or i64.xor i64.shl"
        " i64.shr_s i64.shr_u i64.rotl i64.rotr",
    ),
    (0x8B, "f>f", "f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest f32.sqrt"),
    (0x92, "ff>f", "f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign"),
    (0x99, "d>d", "f64.abs f64.neg f64.ceil f64.floor f64.trunc f64.nearest f64.sqrt"),
    (0xA0, "dd>d", "f64.add f64.sub f64.mul f64.div f64.min f64.max f64.copysign"),
    (0xA7, "l>i", "i32.wrap_i64"),
    (0xA8, "f>i", "i32.trunc_f32_s! i32.trunc_f32_u!"),
    (0xAA, "d>i", "i32.trunc_f64_s! i32.trunc_f64_u!"),
    (0xAC, "i>l", "i64.extend_i32_s i64.extend_i32_u"),
    (0xAE, "f>l", "i64.trunc_f32_s! i64.trunc_f32_u!"),
    (0xB0, "d>l", "i64.trunc_f64_s! i64.trunc_f64_u!"),
    (0xB2, "i>f", "f32.convert_i32_s f32.convert_i32_u"),
    (0xB4, "l>f", "f32.convert_i64_s f32.convert_i64_u"),
    (0xB6, "d>f", "f32.demote_f64"),
    (0xB7, "i>d", "f64.convert_i32_s f64.convert_i32_u"),
    (0xB9, "l>d", "f64.convert_i64_s f64.convert_i64_u"),
    (0xBB, "f>d", "f64.promote_f32"),
    (0xBC, "f>i", "i32.reinterpret_f32"),
    (0xBD, "d>l", "i64.reinterpret_f64"),
    (0xBE, "i>f", "f32.reinterpret_i32"),
    (0xBF, "l>d", "f64.reinterpret_i64"),
    (0xC0, "i>i", "i32.extend8_s i32.extend16_s"),
    (0xC2, "l>l", "i64.extend8_s i64.extend16_s i64.extend32_s"),
    (0xFC00, "f>i", "i32.trunc_sat_f32_s i32.trunc_sat_f32_u"),
    (0xFC02, "d>i", "i32.trunc_sat_f64_s i32.trunc_sat_f64_u"),
    (0xFC04, "f>l", "i64.trunc_sat_f32_s i64.trunc_sat_f32_u"),
    (0xFC06, "d>l", "i64.trunc_sat_f64_s i64.trunc_sat_f64_u"),
]

_BULK_ROWS: Final[list[Row]] = [
    (0xFC08, "memory.init", INDEX_PAIR, "iii>", TRAPS | WRITES),
    (0xFC09, "data.drop", INDEX, "", 0),
    (0xFC0A, "memory.copy", INDEX_PAIR, "iii>", TRAPS | READS | WRITES),
    (0xFC0B, "memory.fill", MEMORY, "iii>", TRAPS | WRITES),
    (0xFC0C, "table.init", INDEX_PAIR, "iii>", TRAPS),
    (0xFC0D, "elem.drop", INDEX, "", 0),
    (0xFC0E, "table.copy", INDEX_PAIR, "iii>", TRAPS),
    (0xFC0F, "table.grow", INDEX, "", VARIES),
    (0xFC10, "table.size", INDEX, ">i", 0),
    (0xFC11, "table.fill", INDEX, "", TRAPS | VARIES),
]


def _types(letters: str) -> tuple[ValueType, ...]:
    return tuple([_LETTERS[letter] for letter in letters])


def _make_table() -> dict[int, Opcode]:
    table: dict[int, Opcode] = {}
    for code, name, immediate, signature, flags in _CONTROL_ROWS + _BULK_ROWS:
        operands, _, results = signature.partition(">")
        table[code] = Opcode(code, name, immediate, _types(operands), _types(results), flags, 0, 0)
    for code, name, signature, access_bytes in _MEMORY_ROWS:
        operands, _, results = signature.partition(">")
        flags = TRAPS | (READS if results else WRITES)
        alignment = access_bytes.bit_length() - 1
        table[code] = Opcode(code, name, MEMARG, _types(operands), _types(results), flags, alignment, access_bytes)
    for first, signature, names in _NUMERIC_ROWS:
        operands, _, results = signature.partition(">")
        for position, marked in enumerate(names.split()):
            flags = TRAPS if marked.endswith("!") else CONSTANT if marked.endswith("+") else 0
            code = first + position
            assert code not in table, f"two rows for opcode {code:#x}"
            table[code] = Opcode(code, marked.rstrip("!+"), NONE, _types(operands), _types(results), flags, 0, 0)
    return table


OPCODES: Final[dict[int, Opcode]] = _make_table()
"""Every supported opcode."""

UNSUPPORTED: Final[list[tuple[int, int, str]]] = [
    # (first opcode, last opcode, proposal); a prefix byte stands for everything behind it
    (0x06, 0x07, "legacy exceptions"),
    (0x08, 0x08, "exceptions proposal"),
    (0x09, 0x09, "legacy exceptions"),
    (0x0A, 0x0A, "exceptions proposal"),
    (0x12, 0x13, "tail call proposal"),
    (0x14, 0x15, "function references proposal"),
    (0x18, 0x19, "legacy exceptions"),
    (0x1F, 0x1F, "exceptions proposal"),
    (0xD3, 0xD3, "GC proposal"),
    (0xD4, 0xD6, "function references proposal"),
    (0xE0, 0xE6, "stack switching proposal"),
    (0xFB, 0xFB, "GC proposal"),
    (0xFC12, 0xFC12, "memory control proposal"),
    (0xFC13, 0xFC16, "wide arithmetic proposal"),
    (0xFD, 0xFD, "SIMD proposal"),
    (0xFE, 0xFE, "threads proposal"),
]


def unsupported_proposal(code: int) -> str | None:
    """The proposal that defines an opcode or prefix byte that is not in `OPCODES`; None if no proposal does."""
    for first, last, proposal in UNSUPPORTED:
        if first <= code <= last:
            return proposal
    return None


def opcode_name(code: int) -> str:
    """The name of an opcode in the text format."""
    row = OPCODES.get(code)
    return row.name if row is not None else f"{code:#04x}"


def _make_immediates() -> list[int]:
    kinds = [UNKNOWN] * 256
    for code, row in OPCODES.items():
        if code < 256:
            kinds[code] = row.immediate
    kinds[0xFC] = PREFIX
    return kinds


IMMEDIATE_KINDS: Final[list[int]] = _make_immediates()
"""The kind of immediate by the first byte; `UNKNOWN` where no supported opcode begins so."""
