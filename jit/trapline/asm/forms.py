"""What a row of a form table is, and the stencil that is derived from it.

A *form* is one instruction with the kinds of its operands, written as keystone text with holes. A *stencil* is
what `derive` learns about its encoding from keystone: the fixed bits, and where each operand goes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trapline.errors import AssemblyError

TABLE_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Form:
    """One instruction form: the encoder's `name`, the keystone `text` with ``{0}`` holes, the operand `kinds`."""

    name: str
    text: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class X86Stencil:
    """Where the operands of an x86-64 form go.

    `prefixes` are the legacy prefixes in order; `opcode` has its escape bytes unless `vex` is set, which is
    (pp, map, W, L) of a VEX form. Roles are operand positions or -1: ModRM.reg, ModRM.rm (also memory),
    VEX.vvvv, the low bits of the opcode. `digit` is ModRM.reg where no operand is, -1 for no ModRM byte.
    """

    name: str
    kinds: tuple[str, ...]
    prefixes: bytes
    wide: bool
    opcode: bytes
    digit: int
    reg: int
    rm: int
    vvvv: int
    plus: int
    immediate_bytes: int
    vex: tuple[int, int, int, int] | None

    def row(self) -> list[object]:
        """As the shipped table holds it."""
        vex = list(self.vex) if self.vex is not None else None
        return [
            self.name,
            " ".join(self.kinds),
            self.prefixes.hex(),
            int(self.wide),
            self.opcode.hex(),
            self.digit,
            self.reg,
            self.rm,
            self.vvvv,
            self.plus,
            self.immediate_bytes,
            vex,
        ]


@dataclass(frozen=True, slots=True)
class Field:
    """One operand of an aarch64 form: `width` bits of the value divided by `scale` go to bit `shift`."""

    shift: int
    width: int
    scale: int
    signed: bool


@dataclass(frozen=True, slots=True)
class A64Stencil:
    """An aarch64 form: the word with all operands 0, and a field for each operand."""

    name: str
    kinds: tuple[str, ...]
    word: int
    fields: tuple[Field, ...]

    def row(self) -> list[object]:
        """As the shipped table holds it."""
        fields = [[field.shift, field.width, field.scale, int(field.signed)] for field in self.fields]
        return [self.name, " ".join(self.kinds), f"{self.word:08x}", fields]


def table_path(arch: str) -> Path:
    """The shipped table of `arch`."""
    return Path(__file__).with_name("tables") / f"{arch}.json"


def render_table(arch: str, rows: list[list[object]]) -> str:
    """The text of a table file: one row a line, in the order of the form table."""
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    return f'{{"format":{TABLE_FORMAT},"arch":"{arch}","rows":[\n{lines}\n]}}\n'


def _rows(arch: str) -> list[list[object]]:
    table = json.loads(table_path(arch).read_text(encoding="ascii"))
    if table["format"] != TABLE_FORMAT or table["arch"] != arch:
        raise AssemblyError(f"table of {arch}: found format {table['format']}, expected {TABLE_FORMAT}")
    rows: list[list[object]] = table["rows"]
    return rows


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def load_x86_64() -> dict[str, X86Stencil]:
    """The shipped stencils of x86-64 by name."""
    out: dict[str, X86Stencil] = {}
    for row in _rows("x86_64"):
        vex = row[11]
        assert vex is None or isinstance(vex, list)
        stencil = X86Stencil(
            str(row[0]),
            tuple(str(row[1]).split()),
            bytes.fromhex(str(row[2])),
            bool(row[3]),
            bytes.fromhex(str(row[4])),
            _int(row[5]),
            _int(row[6]),
            _int(row[7]),
            _int(row[8]),
            _int(row[9]),
            _int(row[10]),
            (vex[0], vex[1], vex[2], vex[3]) if vex is not None else None,
        )
        out[stencil.name] = stencil
    return out


def load_aarch64() -> dict[str, A64Stencil]:
    """The shipped stencils of aarch64 by name."""
    out: dict[str, A64Stencil] = {}
    for row in _rows("aarch64"):
        fields = row[3]
        assert isinstance(fields, list)
        out[str(row[0])] = A64Stencil(
            str(row[0]),
            tuple(str(row[1]).split()),
            int(str(row[2]), 16),
            tuple(Field(shift, width, scale, bool(signed)) for shift, width, scale, signed in fields),
        )
    return out
