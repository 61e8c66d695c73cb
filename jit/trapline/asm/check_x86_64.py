"""What keystone gave for an x86-64 statement, held against what was asked, through capstone.

keystone truncates numbers and changes addressing modes in silence (`[abs]` becomes rip-relative, `push 0x80000000`
pushes 0): so every register, number and address of the text must be read back from the bytes.
"""

from __future__ import annotations

import re
from typing import Any, Final

from trapline.asm.disassemble import detailed
from trapline.asm.layout import Fixup, FixupKind
from trapline.asm.source import SourceLine
from trapline.asm.syntax_x86_64 import CONDITIONS, PLACEHOLDER, Immediate, Memory, Operand, Parsed, Register

# Immediates of these are sign-extended; everywhere else an imm8 is a plain byte.
_SIGN_EXTENDED: Final = frozenset(
    ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp", "test", "push", "imul", "mov", "movabs")
)
_SAME_NAME: Final = {
    "movabs": "mov",
    "sal": "shl",
    "wait": "fwait",
    "retn": "ret",
    "retq": "ret",
    "iretd": "iret",
    "cmovpe": "cmovp",
    "xlat": "xlatb",
    "loopz": "loope",
    "loopnz": "loopne",
    "ud2a": "ud2",
    "repz": "repe",
    "repnz": "repne",
    "int1": "int1",
    "fldcw": "fldcw",
    "vpclmulhqhqdq": "vpclmulqdq",
    "lret": "retf",
    "sysretq": "sysret",
    "sysexitq": "sysexit",
    "ljmp": "jmp",
    "lcall": "call",
}
_COMPARE: Final = re.compile(r"(v?p?u?cmp|v?pclmul|v?pcom)[a-z_]*?((?:ss|sd|ps|pd|[bwdq]|qdq))$")


def _canonical(mnemonic: str) -> str:
    """One name for all the names of an instruction."""
    words = mnemonic.split()
    name = _SAME_NAME.get(words[-1], words[-1])
    for stem in ("set", "cmov"):
        if name.startswith(stem) and name[len(stem) :] in CONDITIONS:
            name = stem + CONDITIONS[name[len(stem) :]]
    compare = _COMPARE.match(name)
    if compare is not None and not name.startswith(("cmpxchg", "vpcmpestr", "vpcmpistr", "pcmpestr", "pcmpistr")):
        name = compare[1] + compare[2]
    prefixes = [_SAME_NAME.get(word, word) for word in words[:-1]]
    if prefixes and prefixes[0] == "repe":
        prefixes[0] = "rep"
    return " ".join([*prefixes, name])


def _number_fits(value: int, found: int, sizes: tuple[int, ...]) -> bool:
    if value == found:
        return True
    for size in sizes:
        modulus = 1 << 8 * size
        if -(modulus >> 1) <= value < modulus and (value - found) % modulus == 0 and -modulus < found < modulus:
            return True
    return False


def _same(found: Any, operand: Operand, other: Any, sizes: tuple[int, ...], lea: bool) -> str | None:
    """None if the decoded operand `other` is what `operand` asked for, else what differs."""
    if isinstance(operand, Register):
        name = found.reg_name(other.reg) if other.type == 1 else None
        return None if name == ("st(0)" if operand.name == "st" else operand.name) else "register"
    if isinstance(operand, Immediate):
        if other.type != 2:
            return "immediate"
        return None if _number_fits(operand.value.constant, other.imm, sizes) else "immediate"
    if other.type != 3:
        return "memory operand"
    mem = other.mem
    base = found.reg_name(mem.base) if mem.base else None
    index = found.reg_name(mem.index) if mem.index else None
    if index in ("riz", "eiz"):
        index = None
    if base is None and index is not None and mem.scale == 1 and index[1:3] != "mm":
        base, index = index, None
    segment = found.reg_name(mem.segment) if mem.segment else None
    expected = operand.displacement.constant
    if operand.base == "rip" and (operand.displacement.labels or operand.displacement.named):
        expected = PLACEHOLDER
    if (base, index) != (operand.base, operand.index) and not (
        operand.scale == 1 and (base, index) == (operand.index, operand.base)
    ):
        return "base or index"
    if index is not None and mem.scale != operand.scale:
        return "scale"
    if segment != operand.segment and not (segment in ("ds", "es", None) and operand.segment in (None, "ds")):
        return "segment"
    if mem.disp != expected:
        return "displacement"
    if operand.size_bytes and other.size and other.size != operand.size_bytes and not lea:
        return f"operand size ({other.size} bytes)"
    return None


def check(where: SourceLine, parsed: Parsed, code: bytes) -> tuple[bytes, tuple[Fixup, ...]]:
    """Hold keystone's `code` against the statement; the finished bytes and the fixups of a rip-relative operand.

    Raises AssemblyError where they differ.
    """
    if parsed.mnemonic == "nop" and parsed.operands:
        at = code.find(b"\x0f\x18")
        if at >= 0:  # keystone takes the space of the prefetch hints; the documented form is 0F 1F /0
            code = code[:at] + bytes([0x0F, 0x1F, code[at + 2] & 0xC7]) + code[at + 3 :]
    code = parsed.prefix + code
    found = detailed(code, 0, "x86_64")
    if found is None or found.size != len(code):
        raise where.error(
            f"found the bytes {code.hex(' ')} for it, which do not decode as one instruction"
            if found is None
            else f"found {found.mnemonic} {found.op_str} and {len(code) - found.size} bytes more for it"
        )
    shown = f"{found.mnemonic} {found.op_str}".strip()
    name = found.mnemonic
    if name == "nop" and code in (b"\x48\x90", b"\x66\x90"):
        return code, ()
    asked, got = _canonical(parsed.mnemonic), _canonical(name.replace("notrack ", "").replace("bnd ", ""))
    if asked != got and not _same_family(asked, got, code):
        raise where.error(f"found the encoding of {shown!r} for it")
    sizes = _immediate_sizes(found, asked.split()[-1])
    others = list(found.operands)
    for operand in parsed.operands:
        if isinstance(operand, Register) and operand.name in ("", "st", "st(0)"):
            continue
        difference = "operand"
        for position, other in enumerate(others):
            result = _same(found, operand, other, sizes, asked in _ODD_SIZES or asked[0] in "fxv")
            if result is None:
                difference = ""
                if asked in ("xchg", "test"):
                    others.pop(position)
                else:
                    del others[: position + 1]
                break
            if difference == "operand":
                difference = result
        if difference:
            if isinstance(operand, Register) and operand.name in _IMPLIED.get(asked.split()[-1], ()):
                continue
            if isinstance(operand, Immediate) and _hides_predicate(asked) and operand.value.constant == code[-1]:
                continue  # capstone writes the predicate into the mnemonic
            raise where.error(f"found the encoding of {shown!r} for it: the {difference} differs")
        if not isinstance(operand, Immediate):
            for word in operand.decorations:
                if f"{{{word}}}" not in found.op_str.replace(" ", ""):
                    raise where.error(f"found the encoding of {shown!r} for it: {{{word}}} is missing")
    for operand in parsed.operands:
        if isinstance(operand, Memory) and operand.base == "rip":
            value = operand.displacement
            if value.labels or value.named:
                return code, (Fixup(found.disp_offset, 4, FixupKind.RELATIVE, value),)
            if not -(1 << 31) <= value.constant < 1 << 31:
                raise where.error(f"found the displacement {value.constant:#x}, expected 32 bits")
    return code, ()


# Capstone's operand sizes of these are none, or not the manual's.
_ODD_SIZES: Final = frozenset(("lea", "nop", "comisd", "comiss", "ucomisd", "ucomiss"))
_IMPLIED: Final = {
    "blendvps": ("xmm0",),
    "blendvpd": ("xmm0",),
    "pblendvb": ("xmm0",),
    "sha256rnds2": ("xmm0",),
    "in": ("al", "ax", "eax", "dx"),
    "out": ("al", "ax", "eax", "dx"),
}


def _hides_predicate(mnemonic: str) -> bool:
    return _COMPARE.match(mnemonic) is not None


def _same_family(asked: str, got: str, code: bytes) -> bool:
    if {asked, got} <= {"xchg", "nop", "pause", "rep nop"}:
        return True
    if asked.replace("rep ", "repe ") == got.replace("rep ", "repe "):
        return True
    return asked.endswith("q") and asked[:-1] == got and got in ("push", "pop", "call", "jmp", "leave", "iret")


def _immediate_sizes(found: Any, mnemonic: str) -> tuple[int, ...]:
    """The widths, in bytes, modulo which an immediate may be read back."""
    first = found.operands[0] if found.operands else None
    sizes: list[int] = []
    if mnemonic in _SIGN_EXTENDED:
        if first is not None and mnemonic != "push":
            sizes.append(first.size)
    else:
        sizes.append(2 if mnemonic in ("ret", "retf", "enter") else 1)
    return tuple(sizes)
