"""Deriving stencils from keystone: form tables in, shipped tables and encoder modules out.

Every form is assembled in a few variants (each operand moved alone); where the bytes differ says where that
operand goes. What comes out must rebuild keystone's own bytes, and capstone must read every sample as the
instruction that was written. ``python -m trapline.asm.derive --write`` writes the tables and the generated
encoders, ``--check`` says whether the shipped ones are what would be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trapline.asm.disassemble import disassemble
from trapline.asm.forms import A64Stencil, Field, Form, X86Stencil, render_table, table_path
from trapline.asm.forms_aarch64 import aarch64_forms
from trapline.asm.forms_x86_64 import x86_64_forms
from trapline.asm.generate import aarch64_module, x86_64_module
from trapline.asm.keystone_client import Refusal, encode_lines
from trapline.asm.kinds import A64_SAMPLES, a64_field_spec, a64_text, x86_register_name
from trapline.asm.stencil_x86_64 import is_memory, is_register
from trapline.errors import AssemblyError

_DISPLACEMENT: Final = 0x1122_3344
_IMMEDIATES: Final = {
    "i8": 5,
    "u8": 5,
    "i16": 0x1234,
    "v16": 0x1234,
    "i32": 0x1234_5678,
    "s32": 0x1234_5678,
    "v32": 0x1234_5678,
    "v64": 0x1234_5678,
    "i64": 0x1122_3344_5566_7788,
}
_IMMEDIATE_BYTES: Final = {"i8": 1, "u8": 1, "i16": 2, "v16": 2, "i32": 4, "s32": 4, "v32": 4, "v64": 4, "i64": 8}
_SIZES: Final = {"8": "byte", "16": "word", "32": "dword", "64": "qword", "128": "xmmword", "256": "ymmword"}


def x86_line(form: Form, registers: Sequence[int], immediate: int | None = None, memory: str | None = None) -> str:
    """The keystone line of a form; `registers` by operand position."""
    texts: list[str] = []
    for position, kind in enumerate(form.kinds):
        if is_register(kind):
            texts.append(x86_register_name(kind, registers[position]))
        elif is_memory(kind):
            size = f"{_SIZES[kind[1:]]} ptr " if kind != "m0" else ""
            texts.append(size + (memory if memory is not None else f"[rbx + {_DISPLACEMENT:#x}]"))
        else:
            texts.append(str(_IMMEDIATES[kind] if immediate is None else immediate))
    return form.text.format(*texts)


def _encode(names: list[str], lines: list[str], arch: str) -> list[bytes]:
    out: list[bytes] = []
    for name, line, code in zip(names, lines, encode_lines(lines, arch=arch), strict=True):
        if isinstance(code, Refusal):
            raise AssemblyError(f"form {name}: keystone refuses {line!r}: {code.reason}")
        decoded = disassemble(code, 0, arch=arch)
        if len(decoded) != 1 or decoded[0].is_bad:
            raise AssemblyError(f"form {name}: {line!r} gave {code.hex()}, which capstone does not read as one")
        out.append(code)
    return out


class _Split:
    """The bytes of one x86-64 instruction taken apart."""

    def __init__(self, code: bytes, immediate_bytes: int, memory: bool, operands: bool) -> None:
        at = 0
        while code[at] in (0x66, 0xF0, 0xF2, 0xF3):
            at += 1
        self.prefixes = code[:at]
        self.rex = 0
        self.vex: tuple[int, int, int, int] | None = None
        self.reg_high = self.rm_high = self.vvvv = 0
        if code[at] & 0xF0 == 0x40:
            self.rex = code[at]
            self.reg_high, self.rm_high = self.rex >> 2 & 1, self.rex & 1
            at += 1
        stop = len(code) - immediate_bytes - (4 if memory else 0)
        if code[at] in (0xC4, 0xC5) and at == 0:
            if code[at] == 0xC5:
                last, opcode_map, self.reg_high, wide = code[1], 1, code[1] >> 7 ^ 1, 0
                at = 2
            else:
                last, opcode_map, wide = code[2], code[1] & 31, code[2] >> 7
                self.reg_high, self.rm_high = code[1] >> 7 ^ 1, code[1] >> 5 & 1 ^ 1
                at = 3
            self.vvvv = ~(last >> 3) & 15
            self.vex = (last & 3, opcode_map, wide, last >> 2 & 1)
            length = 1
        elif code[at] == 0x0F:
            length = 3 if code[at + 1] in (0x38, 0x3A) else 2
        else:
            length = 1
        if not operands:
            length = stop - at
        self.opcode = code[at : at + length]
        rest = code[at + length : stop]
        if len(rest) > 1:
            raise AssemblyError(f"cannot take {code.hex()} apart: {len(rest)} bytes left, expected a ModRM byte")
        self.modrm: int | None = rest[0] if rest else None
        self.reg = (rest[0] >> 3 & 7 | self.reg_high << 3) if rest else 0
        self.rm = (rest[0] & 7 | self.rm_high << 3) if rest else 0


def _x86_stencil(form: Form, name: str, immediate_bytes: int, codes: list[bytes]) -> X86Stencil:
    memory = any(map(is_memory, form.kinds))
    positions = [at for at, kind in enumerate(form.kinds) if is_register(kind)]
    base = _Split(codes[0], immediate_bytes, memory, bool(form.kinds))
    reg = rm = vvvv = plus = -1
    for position, code in zip(positions, codes[1:], strict=True):
        moved = _Split(code, immediate_bytes, memory, True)
        changed = 0
        if moved.reg != base.reg:
            reg, changed = position, changed + 1
        if moved.rm != base.rm:
            rm, changed = position, changed + 1
        if moved.vvvv != base.vvvv:
            vvvv, changed = position, changed + 1
        if moved.opcode != base.opcode:
            plus, changed = position, changed + 1
        if changed != 1:
            raise AssemblyError(f"form {name}: operand {position} shows in {changed} fields, expected 1")
    if memory:
        rm = next(at for at, kind in enumerate(form.kinds) if is_memory(kind))
    digit = -1
    if base.modrm is not None and reg < 0:
        digit = base.reg
    opcode = base.opcode
    if plus >= 0:
        opcode = opcode[:-1] + bytes((opcode[-1] & 0xF8,))
    return X86Stencil(
        name,
        form.kinds,
        base.prefixes,
        bool(base.rex & 8),
        opcode,
        digit,
        reg,
        rm,
        vvvv,
        plus,
        immediate_bytes,
        base.vex,
    )


def derive_x86_64(forms: Sequence[Form]) -> list[X86Stencil]:
    """The stencils of `forms`; a form with an immediate of kind v has a second one, ``name.8``, for a byte."""
    jobs: list[tuple[Form, str, int]] = []
    names: list[str] = []
    lines: list[str] = []
    counts: list[int] = []
    for form in forms:
        immediates = [kind for kind in form.kinds if kind in _IMMEDIATES]
        plain: tuple[str, int, int | None] = (form.name, _IMMEDIATE_BYTES[immediates[0]] if immediates else 0, None)
        variants = [plain]
        if immediates and immediates[0][0] == "v":
            variants.append((f"{form.name}.8", 1, 5))
        for name, immediate_bytes, value in variants:
            samples = [[1] * len(form.kinds)]
            for position, kind in enumerate(form.kinds):
                if is_register(kind):
                    samples.append([2 if at == position else 1 for at in range(len(form.kinds))])
            jobs.append((form, name, immediate_bytes))
            counts.append(len(samples))
            lines += [x86_line(form, sample, value) for sample in samples]
            names += [name] * len(samples)
    codes = _encode(names, lines, "x86_64")
    out: list[X86Stencil] = []
    at = 0
    for (form, name, immediate_bytes), count in zip(jobs, counts, strict=True):
        out.append(_x86_stencil(form, name, immediate_bytes, codes[at : at + count]))
        at += count
    return out


def derive_aarch64(forms: Sequence[Form]) -> list[A64Stencil]:
    """The stencils of `forms`: one line for the base and one for each bit of each operand."""
    names: list[str] = []
    lines: list[str] = []
    for form in forms:
        base = [
            A64_SAMPLES[position] if a64_field_spec(kind).register else 0 for position, kind in enumerate(form.kinds)
        ]
        variants = [base]
        for position, kind in enumerate(form.kinds):
            variants += [
                [value ^ (1 << bit if at == position else 0) for at, value in enumerate(base)]
                for bit in range(a64_field_spec(kind).width)
            ]
        for variant in variants:
            lines.append(
                form.text.format(*(a64_text(kind, raw) for kind, raw in zip(form.kinds, variant, strict=True)))
            )
            names.append(form.name)
    words = [int.from_bytes(code, "little") for code in _encode(names, lines, "aarch64")]
    out: list[A64Stencil] = []
    at = 0
    for form in forms:
        word = words[at]
        at += 1
        fields: list[Field] = []
        for position, kind in enumerate(form.kinds):
            spec = a64_field_spec(kind)
            first = words[at] ^ word
            shift = first.bit_length() - 1
            for bit in range(spec.width):
                if words[at + bit] ^ word != 1 << shift + bit:
                    raise AssemblyError(
                        f"form {form.name}: bit {bit} of operand {position} changes {words[at + bit] ^ word:#x}"
                    )
            at += spec.width
            fields.append(Field(shift, spec.width, spec.scale, spec.signed))
        for position, (kind, field) in enumerate(zip(form.kinds, fields, strict=True)):
            if a64_field_spec(kind).register:
                word ^= A64_SAMPLES[position] << field.shift
        out.append(A64Stencil(form.name, form.kinds, word, tuple(fields)))
    return out


def outputs() -> dict[Path, str]:
    """Every shipped file that is made here, with the text it must have."""
    x86_forms, a64_forms = x86_64_forms(), aarch64_forms()
    x86, a64 = derive_x86_64(x86_forms), derive_aarch64(a64_forms)
    package = Path(__file__).parent.parent
    return {
        table_path("x86_64"): render_table("x86_64", [stencil.row() for stencil in x86]),
        table_path("aarch64"): render_table("aarch64", [stencil.row() for stencil in a64]),
        package / "arch" / "x86_64" / "assembler_encoders.py": x86_64_module(x86_forms),
        package / "arch" / "aarch64" / "assembler_encoders.py": aarch64_module(a64_forms, a64),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 if ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m trapline.asm.derive", description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true", help="compare the shipped files with what is derived")
    mode.add_argument("--write", action="store_true", help="write the tables and the generated encoders")
    options = parser.parse_args(arguments)
    different = 0
    for path, text in outputs().items():
        if options.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")
        elif not path.exists() or path.read_text(encoding="ascii") != text:
            print(f"{path.name}: differs from what is derived", file=sys.stderr)
            different = 1
    return different


if __name__ == "__main__":
    sys.exit(main())
