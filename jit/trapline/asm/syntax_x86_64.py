"""x86-64 text: operands in Intel syntax, read, and written out for keystone.

Requires: one statement from `source`. Leaves: a branch with its two forms, finished bytes, or a line for keystone
with the operands that `check_x86_64` compares with what comes back.

Source: Intel SDM volume 2, chapters 2 and 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trapline.asm.layout import Fixup, FixupKind
from trapline.asm.source import Expression, ExpressionReader, SourceLine, split_operands

PLACEHOLDER: Final = 0x1234_5678
_MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF


def _register_sizes() -> dict[str, int]:
    sizes: dict[str, int] = {"rip": 8, "eip": 4, "st": 10, "riz": 8, "eiz": 4}
    for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp"):
        sizes.update({"r" + name: 8, "e" + name: 4, name: 2})
    for name in ("al", "bl", "cl", "dl", "ah", "bh", "ch", "dh", "sil", "dil", "bpl", "spl"):
        sizes[name] = 1
    for number in range(8, 16):
        sizes.update({f"r{number}": 8, f"r{number}d": 4, f"r{number}w": 2, f"r{number}b": 1})
    for number in range(32):
        sizes.update({f"xmm{number}": 16, f"ymm{number}": 32, f"zmm{number}": 64})
    for number in range(8):
        sizes.update({f"mm{number}": 8, f"k{number}": 8, f"st({number})": 10})
    for number in range(16):
        sizes.update({f"cr{number}": 8, f"dr{number}": 8})
    for name in ("cs", "ds", "es", "fs", "gs", "ss"):
        sizes[name] = 2
    return sizes


REGISTERS: Final = _register_sizes()
RESERVED: Final = frozenset(REGISTERS)
_SEGMENTS: Final = frozenset(("cs", "ds", "es", "fs", "gs", "ss"))
SIZES: Final = {
    "byte": 1,
    "word": 2,
    "dword": 4,
    "fword": 6,
    "qword": 8,
    "tbyte": 10,
    "xword": 10,
    "oword": 16,
    "xmmword": 16,
    "ymmword": 32,
    "zmmword": 64,
}
CONDITIONS: Final = {
    **{name: name for name in ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")},
    "c": "b",
    "nae": "b",
    "nb": "ae",
    "nc": "ae",
    "z": "e",
    "nz": "ne",
    "na": "be",
    "nbe": "a",
    "pe": "p",
    "po": "np",
    "nge": "l",
    "nl": "ge",
    "ng": "le",
    "nle": "g",
}
CONDITION_CODES: Final = {
    name: code
    for code, name in enumerate(
        ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
    )
}
_PREFIXES: Final = {
    "lock": "lock",
    "rep": "rep",
    "repe": "repe",
    "repz": "repe",
    "repne": "repne",
    "repnz": "repne",
    "notrack": "notrack",
    "bnd": "bnd",
}
_LOOP_OPCODES: Final = {"loopne": 0xE0, "loopnz": 0xE0, "loope": 0xE1, "loopz": 0xE1, "loop": 0xE2}
# Complete encodings that keystone does not know.
_FIXED: Final = {
    "endbr64": "f30f1efa",
    "endbr32": "f30f1efb",
    "serialize": "0f01e8",
    "movsd": "a5",
    "pushf": "9c",
    "pushfq": "9c",
    "popf": "9d",
    "popfq": "9d",
    "xend": "0f01d5",
    "xtest": "0f01d6",
    "setssbsy": "f30f01e8",
    "saveprevssp": "f30f01ea",
    "icebp": "f1",
}
# mnemonic -> (mandatory prefix, wide, opcode, digit) of forms with one register operand.
_ONE_REGISTER: Final = {
    "rdpid": (0xF3, False, b"\x0f\xc7", 7),
    "umonitor": (0xF3, False, b"\x0f\xae", 6),
    "umwait": (0xF2, False, b"\x0f\xae", 6),
    "tpause": (0x66, False, b"\x0f\xae", 6),
    "rdsspq": (0xF3, True, b"\x0f\x1e", 1),
    "rdsspd": (0xF3, False, b"\x0f\x1e", 1),
    "incsspq": (0xF3, True, b"\x0f\xae", 5),
    "incsspd": (0xF3, False, b"\x0f\xae", 5),
}
_GENERAL: Final = ("a", "c", "d", "b", "sp", "bp", "si", "di")
# Only a size keyword tells these forms apart, a register operand does not.
_NEED_SIZE: Final = re.compile(
    r"movzx|movsx|movsxd|cvtsi2s[sd]|vcvtsi2s[sd]|crc32|f(?!x|wait|nop|ldenv|n?stenv|n?save|rstor)\w+|inc|dec|neg|not|i?mul|i?div"
    r"|ro[lr]|rc[lr]|sh[lr]|sa[lr]"
)
_QWORD_DEFAULT: Final = frozenset(("push", "pop", "call", "jmp"))
_NO_SIZE: Final = frozenset(("lea", "invlpg", "clflush", "clflushopt", "clwb", "prefetchw", "prefetch"))


@dataclass(frozen=True, slots=True)
class Register:
    """A register operand."""

    name: str
    decorations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Immediate:
    """A number."""

    value: Expression


@dataclass(frozen=True, slots=True)
class Memory:
    """``size ptr segment:[base + index*scale + displacement]``; a label there needs base "rip"."""

    size_bytes: int
    segment: str | None
    base: str | None
    index: str | None
    scale: int
    displacement: Expression
    decorations: tuple[str, ...] = ()


Operand = Register | Immediate | Memory


@dataclass(frozen=True, slots=True)
class Parsed:
    """A statement that has been read.

    Either `code` is finished (with `grown` if it is a branch that can grow), or `line` is what keystone gets
    and `check` compares its answer.
    """

    code: bytes = b""
    fixups: tuple[Fixup, ...] = ()
    grown: bytes | None = None
    grown_fixups: tuple[Fixup, ...] = ()
    line: str = ""
    prefix: bytes = b""
    mnemonic: str = ""
    operands: tuple[Operand, ...] = ()


_DECORATION: Final = re.compile(r"\{\s*([a-z0-9-]+)\s*\}")
_SIZE: Final = re.compile(r"(\w+)\s*(?:\s+ptr\b)?\s*(?=[\[a-z])(.*)", re.DOTALL)
_ST: Final = re.compile(r"st\s*\(\s*([0-7])\s*\)")


class Reader:
    """Reads the operands of one statement."""

    def __init__(self, where: SourceLine, symbols: Mapping[str, int]) -> None:
        self._where = where
        self._symbols = symbols
        self.wide_displacement = False

    def expression(self, text: str) -> Expression:
        """A constant expression, perhaps with labels."""
        return ExpressionReader(text, self._where, self._symbols, RESERVED).read()

    def operand(self, text: str) -> Operand:
        """One operand."""
        decorations: tuple[str, ...] = ()
        body = text
        if body.endswith("}"):
            cut = body.index("{")
            tail = body[cut:].lower()
            found = _DECORATION.findall(tail)
            if _DECORATION.sub("", tail).strip():
                raise self._where.error(f"found {body[cut:]!r}, expected {{k1}}, {{z}}, {{1to8}} or {{rn-sae}}")
            decorations = tuple(found)
            body = body[:cut].strip()
        lower = body.lower()
        st = _ST.fullmatch(lower)
        if st is not None:
            return Register(f"st({st[1]})", decorations)
        if lower in REGISTERS and body not in self._symbols:
            return Register(lower, decorations)
        if not body and decorations:
            return Register("", decorations)  # {rn-sae} stands alone
        if "[" in body:
            return self._memory(body, decorations)
        if decorations:
            raise self._where.error(f"found {text!r}, expected a register or memory before {decorations}")
        return Immediate(self.expression(body))

    def _memory(self, text: str, decorations: tuple[str, ...]) -> Memory:
        where = self._where
        before, _, rest = text.partition("[")
        inside, bracket, after = rest.rpartition("]")
        if not bracket or after.strip():
            raise where.error(f"found {text!r}, expected size ptr [base + index*scale + displacement]")
        size_bytes = 0
        segment: str | None = None
        words = before.lower().replace(":", " : ").split()
        if words and words[0] in SIZES:
            size_bytes = SIZES[words.pop(0)]
        if words and words[0] == "ptr":
            words.pop(0)
        if len(words) == 2 and words[1] == ":" and words[0] in _SEGMENTS:
            segment = words[0]
            words = []
        if words:
            raise where.error(f"found {before.strip()!r} before '[', expected a size such as 'qword ptr'")
        inner = inside.strip()
        head, colon, tail = inner.partition(":")
        if colon:
            if segment is not None or head.strip().lower() not in _SEGMENTS:
                raise where.error(f"found {head.strip()!r} before ':', expected a segment register")
            segment, inner = head.strip().lower(), tail
        registers, displacement = self._terms(inner)
        base, index, scale = self._address(registers)
        if displacement.labels and not base == "rip":
            raise where.error(f"found a label in [{inner}], expected [rip + label] or lea into a register first")
        if base != "rip" and not self.wide_displacement and not -(1 << 31) <= displacement.constant < 1 << 31:
            raise where.error(f"found the displacement {displacement.constant:#x}, expected -0x80000000 to 0x7fffffff")
        return Memory(size_bytes, segment, base, index, scale, displacement, decorations)

    def _terms(self, text: str) -> tuple[list[tuple[str, int, bool]], Expression]:
        """Registers with their factors, and the sum of the rest."""
        registers: list[tuple[str, int, bool]] = []
        total = Expression(0)
        depth = 0
        start = 0
        parts: list[tuple[int, str]] = []
        sign = 1
        for at, char in enumerate(text + "+"):
            if char == "(":
                depth += 1
            elif char == ")":
                depth -= 1
            elif char in "+-" and depth == 0:
                part = text[start:at].strip()
                if part and part[-1] not in "*/<>&|^~%":
                    parts.append((sign, part))
                    sign = 1
                    start = at + 1
                elif part:
                    continue
                else:
                    start = at + 1
                if char == "-":
                    sign = -sign
        if text.strip()[-1:] in ("+", "-", "") or not parts:
            raise self._where.error(f"found [{text}], expected base + index*scale + displacement")
        for sign, part in parts:
            factors = [factor.strip() for factor in part.split("*")]
            names = [factor.lower() for factor in factors if factor.lower() in REGISTERS]
            if not names or any(factor in self._symbols for factor in factors if factor.lower() in REGISTERS):
                total = total.plus(self.expression(part), sign)
                continue
            if len(names) > 1 or sign < 0:
                raise self._where.error(f"found {part!r} in an address, expected register*scale, added")
            scale = 1
            for factor in factors:
                if factor.lower() not in REGISTERS:
                    scale *= self.expression(factor).constant
            registers.append((names[0], scale, len(factors) > 1))
        return registers, total

    def _address(self, registers: list[tuple[str, int, bool]]) -> tuple[str | None, str | None, int]:
        where = self._where
        base: str | None = None
        index: str | None = None
        scale = 1
        for name, factor, written in registers:
            if factor not in (1, 2, 4, 8):
                raise where.error(f"found the scale {factor}, expected 1, 2, 4 or 8")
            vector = name[1:3] == "mm"
            if (not vector and name not in ("rip", "eip") and REGISTERS[name] not in (4, 8)) or name in RESERVED_BASES:
                raise where.error(f"found {name!r} in an address, expected a 32-bit or 64-bit general register")
            if factor == 1 and base is None and not vector and not (written and len(registers) > 1):
                base = name
            elif index is None:
                index, scale = name, factor
            elif base is None and factor == 1 and not vector:
                base = name
            else:
                raise where.error("found too many registers in an address, expected base + index*scale")
        if index in ("rsp", "esp") and scale == 1 and base not in ("rsp", "esp") and base is not None:
            base, index = index, base
        if index in ("rsp", "esp", "rip", "eip") or (base in ("rip", "eip") and index is not None):
            raise where.error(f"found {index!r} as index, expected a general register other than rsp and rip")
        if base is not None and index is not None and index[1:3] != "mm" and REGISTERS[base] != REGISTERS[index]:
            raise where.error(f"found {base} and {index} in one address, expected registers of one width")
        if base is None and index is not None and scale == 1 and index[1:3] != "mm":
            base, index = index, None
        return base, index, scale


RESERVED_BASES: Final = _SEGMENTS | frozenset(
    name
    for name in REGISTERS
    if name in ("riz", "eiz", "st") or name[:2] in ("st", "cr", "dr") or (name[0] in "km" and name[-1].isdigit())
)
_SIZE_NAMES: Final = {
    1: "byte",
    2: "word",
    4: "dword",
    6: "fword",
    8: "qword",
    10: "tbyte",
    16: "xmmword",
    32: "ymmword",
    64: "zmmword",
}


def _number(value: int) -> str:
    return f"-{-value:#x}" if value < 0 else f"{value:#x}"


def _written(operand: Operand) -> str:
    """The operand as keystone gets it."""
    if isinstance(operand, Immediate):
        return _number(operand.value.constant)
    tail = "".join(f"{{{word}}}" for word in operand.decorations)
    if isinstance(operand, Register):
        return operand.name + tail
    size = f"{_SIZE_NAMES[operand.size_bytes]} ptr " if operand.size_bytes else ""
    segment = f"{operand.segment}:" if operand.segment else ""
    terms: list[str] = []
    if operand.base is not None:
        terms.append(operand.base)
    if operand.index is not None:
        terms.append(f"{operand.index}*{operand.scale}")
    if not terms:
        terms.append("riz*1")  # else keystone makes it rip-relative
    value = operand.displacement.constant
    if operand.base == "rip" and (operand.displacement.labels or operand.displacement.named):
        value = PLACEHOLDER
    if value or not (operand.base or operand.index):
        terms.append(_number(value))
    return f"{size}{segment}[{'+'.join(terms).replace('+-', '-')}]{tail}"


def _general_numbers() -> dict[str, tuple[int, int]]:
    out: dict[str, tuple[int, int]] = {}
    for number, core in enumerate(_GENERAL):
        full = core + "x" if number < 4 else core
        out["r" + full] = (number, 8)
        out["e" + full] = (number, 4)
        out[f"r{number + 8}"] = (number + 8, 8)
        out[f"r{number + 8}d"] = (number + 8, 4)
    return out


# Number and size in bytes of the 32-bit and 64-bit general registers.
_NUMBERS: Final = _general_numbers()


def parse(where: SourceLine, symbols: Mapping[str, int]) -> Parsed:
    """Read one instruction. Raises AssemblyError for what is not x86-64 or not one of the forms known."""
    reader = Reader(where, symbols)
    mnemonic, rest = where.head, where.rest
    prefixes: list[str] = []
    while mnemonic in _PREFIXES:
        prefixes.append(_PREFIXES[mnemonic])
        words = rest.split(None, 1)
        if not words:
            raise where.error(f"found the prefix {mnemonic!r} alone, expected an instruction after it")
        mnemonic, rest = words[0].lower(), words[1] if len(words) > 1 else ""
        if len(prefixes) > 4:
            raise where.error("found more than 4 prefixes")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", mnemonic):
        raise where.error(f"found {mnemonic!r}, expected an instruction")
    prefix = b""
    for name in list(prefixes):
        if name in ("notrack", "bnd"):
            prefix += b"\x3e" if name == "notrack" else b"\xf2"
            prefixes.remove(name)
    if not prefixes and (branch := _branch(where, mnemonic, rest, reader, prefix)) is not None:
        return branch
    reader.wide_displacement = mnemonic == "movabs"
    operands = [reader.operand(text) for text in split_operands(rest, where)]
    if prefix and mnemonic not in ("jmp", "call", "ret"):
        raise where.error("found notrack or bnd, expected a branch after it")
    own = _own_encoding(where, mnemonic, operands)
    if own is not None:
        if prefixes and mnemonic == "movsd":
            own = Parsed(code=(b"\xf2" if prefixes == ["repne"] else b"\xf3") + own.code, mnemonic=mnemonic)
        elif prefixes:
            raise where.error(f"found the prefix {prefixes[0]!r}, expected none before {mnemonic}")
        return own
    operands = [_with_size(where, mnemonic, operands, operand) for operand in operands]
    text = ", ".join(map(_written, operands))
    line = " ".join([*prefixes, mnemonic, text]).strip()
    return Parsed(line=line, prefix=prefix, mnemonic=" ".join([*prefixes, mnemonic]), operands=tuple(operands))


def _branch(where: SourceLine, mnemonic: str, rest: str, reader: Reader, prefix: bytes) -> Parsed | None:
    """A direct jump or call, or None."""
    condition = CONDITIONS.get(mnemonic[1:]) if mnemonic[0] == "j" else None
    counter = {"jrcxz": b"\xe3", "jecxz": b"\x67\xe3"}.get(mnemonic)
    if mnemonic in _LOOP_OPCODES:
        counter = bytes([_LOOP_OPCODES[mnemonic]])
    if mnemonic not in ("jmp", "call", "xbegin") and condition is None and counter is None:
        return None
    words = rest.split(None, 1)
    size = ""
    if len(words) == 2 and words[0].lower() in ("short", "near"):
        size, rest = words[0].lower(), words[1]
    if "[" in rest or rest.strip().lower() in REGISTERS or _ST.fullmatch(rest.strip().lower()):
        return None
    if len(split_operands(rest, where)) != 1:
        raise where.error(f"found {rest.strip()!r}, expected one target")
    target = reader.expression(rest)
    if target.labels and not target.is_address:
        raise where.error("found a difference of labels, expected one target")
    if counter is not None:
        return Parsed(
            code=prefix + counter + b"\0",
            fixups=(Fixup(len(prefix + counter), 1, FixupKind.RELATIVE, target),),
            mnemonic=mnemonic,
        )
    if mnemonic == "call":
        near, short = b"\xe8", None
    elif mnemonic == "xbegin":
        near, short = b"\xc7\xf8", None
    elif condition is None:
        near, short = b"\xe9", b"\xeb"
    else:
        code = CONDITION_CODES[condition]
        near, short = bytes([0x0F, 0x80 | code]), bytes([0x70 | code])
    near = prefix + near
    near_fixups = (Fixup(len(near), 4, FixupKind.RELATIVE, target),)
    if short is None or size == "near":
        if size == "short":
            raise where.error(f"found 'short', which {mnemonic} does not have")
        return Parsed(code=near + bytes(4), fixups=near_fixups, mnemonic=mnemonic)
    short = prefix + short
    short_fixups = (Fixup(len(short), 1, FixupKind.RELATIVE, target),)
    if size == "short":
        return Parsed(code=short + b"\0", fixups=short_fixups, mnemonic=mnemonic)
    return Parsed(
        code=short + b"\0",
        fixups=short_fixups,
        grown=near + bytes(4),
        grown_fixups=near_fixups,
        mnemonic=mnemonic,
    )


def _own_encoding(where: SourceLine, mnemonic: str, operands: list[Operand]) -> Parsed | None:
    """The forms that keystone lacks, or does wrong."""
    if not operands and mnemonic in _FIXED:
        return Parsed(code=bytes.fromhex(_FIXED[mnemonic]), mnemonic=mnemonic)
    first = operands[0] if operands else None
    if mnemonic == "push" and isinstance(first, Immediate) and len(operands) == 1:
        value = _constant(where, first.value)
        if -128 <= value < 128:
            return Parsed(code=b"\x6a" + value.to_bytes(1, "little", signed=True), mnemonic=mnemonic)
        if not -(1 << 31) <= value < 1 << 31:
            raise where.error(f"found the immediate {value:#x}, expected -0x80000000 to 0x7fffffff")
        return Parsed(code=b"\x68" + value.to_bytes(4, "little", signed=True), mnemonic=mnemonic)
    if mnemonic in ("mov", "movabs") and len(operands) == 2 and isinstance(first, Register):
        second = operands[1]
        if isinstance(second, Immediate) and second.value.labels:
            number, size_bytes = _NUMBERS.get(first.name, (0, 0))
            if size_bytes != 8:
                raise where.error("found a label as immediate, expected a 64-bit register to load it into")
            code = bytes([0x48 | number >> 3, 0xB8 | number & 7]) + bytes(8)
            return Parsed(code=code, fixups=(Fixup(2, 8, FixupKind.ABSOLUTE, second.value),), mnemonic=mnemonic)
    if mnemonic == "movabs" and len(operands) == 2 and not isinstance(operands[1], Immediate):
        return _moffs(where, operands)
    if mnemonic in _ONE_REGISTER:
        mandatory, wide, opcode, digit = _ONE_REGISTER[mnemonic]
        expected = 8 if wide or mnemonic in ("rdpid", "umonitor") else 4
        number, size_bytes = _NUMBERS.get(first.name, (0, 0)) if isinstance(first, Register) else (0, 0)
        if size_bytes != expected or len(operands) != 1:
            raise where.error(f"found other operands, expected one general register of {8 * expected} bits")
        rex = (0x48 if wide else 0x40) | number >> 3
        middle = bytes([rex]) if rex != 0x40 else b""
        code = bytes([mandatory]) + middle + opcode + bytes([0xC0 | digit << 3 | number & 7])
        return Parsed(code=code, mnemonic=mnemonic)
    if mnemonic in ("ud0", "ud1"):
        pairs = [_NUMBERS.get(o.name, (0, 0)) if isinstance(o, Register) else (0, 0) for o in operands]
        if [size_bytes for _number, size_bytes in pairs] != [4, 4]:
            raise where.error(f"found other operands, expected {mnemonic} r32, r32")
        numbers = [pair[0] for pair in pairs]
        rex = 0x40 | numbers[0] >> 3 << 2 | numbers[1] >> 3
        middle = bytes([rex]) if rex != 0x40 else b""
        opcode = b"\x0f\xff" if mnemonic == "ud0" else b"\x0f\xb9"
        return Parsed(code=middle + opcode + bytes([0xC0 | (numbers[0] & 7) << 3 | numbers[1] & 7]), mnemonic=mnemonic)
    for operand in operands:
        if isinstance(operand, Immediate):
            _constant(where, operand.value)
    if len(operands) == 2 and mnemonic != "lea":
        _refuse_high_bytes(where, operands)
    return None


def _moffs(where: SourceLine, operands: list[Operand]) -> Parsed:
    """movabs between the accumulator and an address of 64 bits."""
    store = isinstance(operands[0], Memory)
    memory, register = operands if store else operands[::-1]
    accumulators = {"al": b"\xa0", "ax": b"\x66\xa1", "eax": b"\xa1", "rax": b"\x48\xa1"}
    if not isinstance(memory, Memory) or not isinstance(register, Register) or register.name not in accumulators:
        raise where.error("found other operands, expected movabs r64, number or movabs rax, [address] or back")
    if memory.base is not None or memory.index is not None:
        raise where.error("found a register in the address of movabs, expected a number alone")
    code = bytearray(accumulators[register.name])
    code[-1] |= 2 if store else 0
    if memory.segment in ("fs", "gs"):
        code.insert(0, 0x64 if memory.segment == "fs" else 0x65)
    value = _constant(where, memory.displacement)
    return Parsed(code=bytes(code) + (value & _MASK_64).to_bytes(8, "little"), mnemonic="movabs")


def _refuse_high_bytes(where: SourceLine, operands: list[Operand]) -> None:
    """ah, bh, ch and dh have no encoding beside anything that needs a REX prefix; keystone exits on it."""
    names: list[str] = []
    for operand in operands:
        if isinstance(operand, Register):
            names += [operand.name] if operand.name else []
        elif isinstance(operand, Memory):
            names += [name for name in (operand.base, operand.index) if name is not None]
    high = [name for name in names if name in ("ah", "bh", "ch", "dh")]
    wide = [
        name
        for name in names
        if name in ("sil", "dil", "bpl", "spl") or (name[0] == "r" and name[1:2].isdigit() and name != "rip")
    ]
    registers = [operand.name for operand in operands if isinstance(operand, Register)]
    wide += [name for name in registers if REGISTERS.get(name) == 8 and name[0] == "r"]
    if high and wide:
        raise where.error(f"found {high[0]} with {wide[0]}, expected none that needs a REX prefix beside it")


def _constant(where: SourceLine, value: Expression) -> int:
    if value.labels:
        raise where.error(
            f"found the label {value.labels[0][0]!r} as immediate, expected a number"
            " (labels: branches, [rip + label], mov into a 64-bit register, .quad)"
        )
    if not -(1 << 63) <= value.constant < 1 << 64:
        raise where.error(f"found the immediate {value.constant:#x}, expected one of 64 bits")
    return value.constant


def _with_size(where: SourceLine, mnemonic: str, operands: list[Operand], operand: Operand) -> Operand:
    """A memory operand with its size, where the text must say it or one is meant."""
    if not isinstance(operand, Memory):
        return operand
    if mnemonic in _NO_SIZE:
        size_bytes = 0
    elif operand.size_bytes:
        return operand
    elif mnemonic in _QWORD_DEFAULT:
        size_bytes = 8
    else:
        shift = len(operands) == 2 and isinstance(operands[1], Register) and operands[1].name == "cl"
        if _NEED_SIZE.fullmatch(mnemonic) and (
            len(operands) == 1
            or shift
            or not isinstance(operands[0], Register)
            or mnemonic[:3] in ("mov", "cvt")
            or mnemonic in ("crc32",)
            or mnemonic[0] in "vf"
        ):
            raise where.error("found memory without a size, expected byte, word, dword or qword ptr before '['")
        return operand
    return Memory(
        size_bytes,
        operand.segment,
        operand.base,
        operand.index,
        operand.scale,
        operand.displacement,
        operand.decorations,
    )
