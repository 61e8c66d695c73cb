"""aarch64 text: statements read, written out for keystone, and held against the decoded word.

Requires: one statement from `source`. Leaves: a finished word with its fixup, or a line for keystone.
Branches, adr, adrp, literal loads, atomics and hints are encoded here: keystone wraps their targets in
silence or does not know them. Of everything else each register and number of the text must be read back by
capstone, directly or through the architecture's own aliases.

Source: Arm ARM (DDI 0487) section C6.2 and C7.2 for the encodings and aliases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trapline.asm.disassemble import disassemble
from trapline.asm.layout import Fixup, FixupKind
from trapline.asm.source import Expression, ExpressionReader, SourceLine, split_operands

_ALIASES: Final = {"lr": "x30", "fp": "x29", "ip0": "x16", "ip1": "x17"}
_GENERAL: Final = (
    {f"x{number}": (number, 8) for number in range(31)}
    | {f"w{number}": (number, 4) for number in range(31)}
    | {"xzr": (31, 8), "wzr": (31, 4)}
)
RESERVED: Final = frozenset(
    tuple(_GENERAL)
    + tuple(_ALIASES)
    + ("sp", "wsp", "pc")
    + tuple(f"{kind}{number}" for kind in "bhsdqv" for number in range(32))
)
_CONDITIONS: Final = {
    name: code
    for code, names in enumerate(
        (
            ("eq",),
            ("ne",),
            ("cs", "hs"),
            ("cc", "lo"),
            ("mi",),
            ("pl",),
            ("vs",),
            ("vc",),
            ("hi",),
            ("ls",),
            ("ge",),
            ("lt",),
            ("gt",),
            ("le",),
            ("al",),
            ("nv",),
        )
    )
    for name in names
}
# Hints by number (Arm ARM section C6.2, HINT), which keystone knows only as "hint #n", and fixed words.
_WORDS: Final = {
    **{
        name: 0xD503_201F | number << 5
        for name, number in (
            ("xpaclri", 7),
            ("pacia1716", 8),
            ("pacib1716", 10),
            ("autia1716", 12),
            ("autib1716", 14),
            ("esb", 16),
            ("csdb", 20),
            ("paciaz", 24),
            ("paciasp", 25),
            ("pacibz", 26),
            ("pacibsp", 27),
            ("autiaz", 28),
            ("autiasp", 29),
            ("autibz", 30),
            ("autibsp", 31),
        )
    },
    "sb": 0xD503_30FF,
    "retaa": 0xD65F_0BFF,
    "retab": 0xD65F_0FFF,
    "cfinv": 0xD500_401F,
}
_BTI: Final = {"": 32, "c": 34, "j": 36, "jc": 38}
_ATOMICS: Final = {"add": 0, "clr": 1, "eor": 2, "set": 3, "smax": 4, "smin": 5, "umax": 6, "umin": 7}
_ORDERS: Final = {"": 0, "a": 2, "l": 1, "al": 3}
_ATOMIC: Final = re.compile(r"(ld|st)(add|clr|eor|set|smax|smin|umax|umin)(al|a|l|)(b|h|)")
_SWAP: Final = re.compile(r"(swp|cas|casp)(al|a|l|)(b|h|)")
_LOAD_ACQUIRE: Final = {"ldapr": 0, "ldaprb": 1, "ldaprh": 2}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A statement that has been read: a finished word in `code`, or a `line` for keystone."""

    code: bytes = b""
    fixups: tuple[Fixup, ...] = ()
    grown: bytes | None = None
    grown_fixups: tuple[Fixup, ...] = ()
    line: str = ""
    mnemonic: str = ""
    operands: tuple[str, ...] = ()


def _word(value: int, mnemonic: str, fixup: Fixup | None = None) -> Parsed:
    return Parsed(value.to_bytes(4, "little"), (fixup,) if fixup is not None else (), mnemonic=mnemonic)


class Reader:
    """Reads the operands of one statement."""

    def __init__(self, where: SourceLine, symbols: Mapping[str, int]) -> None:
        self._where = where
        self._symbols = symbols

    def expression(self, text: str) -> Expression:
        """A constant expression, perhaps with labels."""
        body = text[1:] if text.startswith("#") else text
        return ExpressionReader(body, self._where, self._symbols, RESERVED).read()

    def constant(self, text: str, low: int, high: int) -> int:
        """A number of [low, high]."""
        value = self.expression(text)
        if value.labels:
            raise self._where.error(f"found the label {value.labels[0][0]!r}, expected a number")
        if not low <= value.constant <= high:
            raise self._where.error(f"found {value.constant:#x}, expected {low:#x} to {high:#x}")
        return value.constant

    def general(self, text: str, size_bytes: int = 0) -> tuple[int, int]:
        """Number and size of a general register; 31 is the zero register."""
        name = _ALIASES.get(text.strip().lower(), text.strip().lower())
        found = _GENERAL.get(name)
        if found is None or (size_bytes and found[1] != size_bytes):
            kind = {0: "a general register", 4: "w0 to w30", 8: "x0 to x30"}[size_bytes]
            raise self._where.error(f"found {text!r}, expected {kind}")
        return found

    def canonical(self, text: str) -> str:
        """One operand with its expressions evaluated and its spaces as keystone wants them."""
        body = text.strip()
        lower = body.lower()
        if body[0] == "=":
            raise self._where.error(f"found {body!r}, expected movz and movk, or a literal load from a label")
        if body[0] == "[":
            inside, bracket, tail = body[1:].rpartition("]")
            if not bracket or tail.strip() not in ("", "!"):
                raise self._where.error(f"found {body!r}, expected [base], [base, offset] or [base, offset]!")
            return "[" + ", ".join(map(self.canonical, split_operands(inside, self._where))) + "]" + tail.strip()
        if body[0] == "{":
            inside, bracket, tail = body[1:].rpartition("}")
            if not bracket or not re.fullmatch(r"[\w\s.,-]*", inside):
                raise self._where.error(f"found {body!r}, expected a list of vector registers")
            lane = ""
            if tail.strip():
                if tail.strip()[0] != "[" or tail.strip()[-1] != "]":
                    raise self._where.error(f"found {tail!r} after the list, expected [lane]")
                lane = f"[{self.constant(tail.strip()[1:-1], 0, 15)}]"
            return "{" + " ".join(inside.lower().replace(",", ", ").split()) + "}" + lane
        if body[0] == "#":
            return "#" + self._value(body[1:])
        if body[0].isdigit() or body[0] in "-+~('":
            return "#" + self._value(body)
        lane_match = re.fullmatch(r"(v\d+\.\w+)\s*\[(.*)\]", lower)
        if lane_match is not None:
            return f"{lane_match[1]}[{self.constant(body[body.index('[') + 1 : -1], 0, 15)}]"
        shift = re.fullmatch(r"(lsl|lsr|asr|ror|msl|[us]xt[bhwx])\s*(?=[#\d(+])(.+)", body, re.IGNORECASE | re.DOTALL)
        if shift is not None:
            return f"{shift[1].lower()} #{self.constant(shift[2], 0, 63)}"
        if body in self._symbols:
            return "#" + self._value(body)
        if not re.fullmatch(r"[a-z_][a-z0-9_.]*", lower):
            if re.match(r"[A-Za-z_.$][\w.$@]*\s*[-+*/<>&|^%(]", body):
                return "#" + self._value(body)
            raise self._where.error(f"found {body[:40]!r}, expected an operand")
        return _ALIASES.get(lower, lower)

    def _value(self, text: str) -> str:
        body = text.strip()
        if re.fullmatch(r"[-+]?\d+\.\d*([eE][-+]?\d+)?", body):
            return body
        value = self.constant(body, -(1 << 63), (1 << 64) - 1)
        return f"-{-value:#x}" if value < 0 else f"{value:#x}"


def parse(where: SourceLine, symbols: Mapping[str, int]) -> Parsed:
    """Read one instruction. Raises AssemblyError for what is not aarch64."""
    mnemonic = where.head
    reader = Reader(where, symbols)
    operands = split_operands(where.rest, where)
    own = _own_encoding(where, mnemonic, operands, reader)
    if own is not None:
        return own
    if not re.fullmatch(r"[a-z][a-z0-9_]*", mnemonic):
        raise where.error(f"found {mnemonic!r}, expected an instruction")
    written = tuple(map(reader.canonical, operands))
    return Parsed(line=f"{mnemonic} {', '.join(written)}".strip(), mnemonic=mnemonic, operands=written)


def _expect(where: SourceLine, operands: list[str], count: int) -> None:
    if len(operands) != count:
        raise where.error(f"found {len(operands)} operands, expected {count}")


def _target(where: SourceLine, reader: Reader, text: str) -> Expression:
    value = reader.expression(text)
    if value.labels and not value.is_address:
        raise where.error("found a difference of labels, expected one target")
    return value


def _base(where: SourceLine, reader: Reader, text: str) -> int:
    """The register of ``[Xn|SP]``."""
    match = re.fullmatch(r"\[\s*(\w+)\s*(?:,\s*#?0\s*)?\]", text)
    if match is None:
        raise where.error(f"found {text!r}, expected [Xn] or [sp] without an offset")
    return 31 if match[1].lower() == "sp" else reader.general(match[1], 8)[0]


def _own_encoding(where: SourceLine, mnemonic: str, operands: list[str], reader: Reader) -> Parsed | None:
    """Everything relative to the pc, and what keystone lacks."""
    if mnemonic in _WORDS and not operands:
        return _word(_WORDS[mnemonic], mnemonic)
    if mnemonic == "bti":
        kind = operands[0].lower() if operands else ""
        if kind not in _BTI or len(operands) > 1:
            raise where.error(f"found {kind!r}, expected bti, bti c, bti j or bti jc")
        return _word(0xD503_201F | _BTI[kind] << 5, mnemonic)
    if mnemonic == "hint":
        _expect(where, operands, 1)
        return _word(0xD503_201F | reader.constant(operands[0], 0, 127) << 5, mnemonic)
    if mnemonic == "udf":
        _expect(where, operands, 1)
        return _word(reader.constant(operands[0], 0, 0xFFFF), mnemonic)
    if mnemonic in ("b", "bl"):
        _expect(where, operands, 1)
        target = _target(where, reader, operands[0])
        return _word(
            0x9400_0000 if mnemonic == "bl" else 0x1400_0000, mnemonic, Fixup(0, 4, FixupKind.BRANCH_26, target)
        )
    condition = mnemonic[2:] if mnemonic.startswith("b.") else mnemonic[1:]
    if mnemonic[0] == "b" and condition in _CONDITIONS:
        _expect(where, operands, 1)
        target = _target(where, reader, operands[0])
        return _word(0x5400_0000 | _CONDITIONS[condition], mnemonic, Fixup(0, 4, FixupKind.BRANCH_19, target))
    if mnemonic in ("cbz", "cbnz"):
        _expect(where, operands, 2)
        number, size_bytes = reader.general(operands[0])
        word = 0x3400_0000 | (size_bytes == 8) << 31 | (mnemonic == "cbnz") << 24 | number
        return _word(word, mnemonic, Fixup(0, 4, FixupKind.BRANCH_19, _target(where, reader, operands[1])))
    if mnemonic in ("tbz", "tbnz"):
        _expect(where, operands, 3)
        number, size_bytes = reader.general(operands[0])
        bit = reader.constant(operands[1], 0, 8 * size_bytes - 1)
        word = 0x3600_0000 | (bit >> 5) << 31 | (mnemonic == "tbnz") << 24 | (bit & 31) << 19 | number
        return _word(word, mnemonic, Fixup(0, 4, FixupKind.BRANCH_14, _target(where, reader, operands[2])))
    if mnemonic in ("adr", "adrp"):
        _expect(where, operands, 2)
        number = reader.general(operands[0], 8)[0]
        span = FixupKind.PAGE if mnemonic == "adrp" else FixupKind.BYTE_21
        word = 0x9000_0000 if mnemonic == "adrp" else 0x1000_0000
        return _word(word | number, mnemonic, Fixup(0, 4, span, _target(where, reader, operands[1])))
    if mnemonic in ("ldr", "ldrsw") and len(operands) == 2 and operands[1][0] not in "[=":
        return _literal(where, mnemonic, operands, reader)
    if mnemonic == "add" and len(operands) == 3 and ":lo12:" in operands[2].lower():
        return _low_12(where, operands, reader)
    if any(":" in operand for operand in operands):
        raise where.error("found ':', expected no relocation other than :lo12: with add")
    return _atomic(where, mnemonic, operands, reader)


def _literal(where: SourceLine, mnemonic: str, operands: list[str], reader: Reader) -> Parsed:
    name = operands[0].lower()
    vector = {"s": 0x1C00_0000, "d": 0x5C00_0000, "q": 0x9C00_0000}.get(name[0])
    if mnemonic == "ldr" and vector is not None and name in RESERVED and name != "sp":
        word, number = vector, int(name[1:])
    else:
        number, size_bytes = reader.general(name, 8 if mnemonic == "ldrsw" else 0)
        word = 0x9800_0000 if mnemonic == "ldrsw" else 0x5800_0000 if size_bytes == 8 else 0x1800_0000
    return _word(word | number, mnemonic, Fixup(0, 4, FixupKind.BRANCH_19, _target(where, reader, operands[1])))


def _low_12(where: SourceLine, operands: list[str], reader: Reader) -> Parsed:
    numbers = [31 if text.lower() == "sp" else reader.general(text, 8)[0] for text in operands[:2]]
    for text, number in zip(operands, numbers, strict=False):
        if number == 31 and text.lower() != "sp":
            raise where.error("found the zero register, which add with an immediate does not take")
    tail = operands[2].lstrip("#")
    if not tail.lower().startswith(":lo12:"):
        raise where.error(f"found {operands[2]!r}, expected :lo12:label")
    target = _target(where, reader, tail[len(":lo12:") :])
    return _word(0x9100_0000 | numbers[1] << 5 | numbers[0], "add", Fixup(0, 4, FixupKind.LOW_12, target))


def _atomic(where: SourceLine, mnemonic: str, operands: list[str], reader: Reader) -> Parsed | None:
    """The large system extensions and ldapr. Source: Arm ARM section C4.1.94.28, atomic memory operations."""
    match = _ATOMIC.fullmatch(mnemonic)
    if match is not None and not (match[1] == "st" and "a" in match[3]):
        store = match[1] == "st"
        _expect(where, operands, 2 if store else 3)
        source, size_bytes = reader.general(operands[0], 4 if match[4] else 0)
        result = 31 if store else reader.general(operands[1], size_bytes)[0]
        size = {"b": 0, "h": 1}.get(match[4], 2 if size_bytes == 4 else 3)
        word = 0x3820_0000 | size << 30 | _ORDERS[match[3]] << 22 | _ATOMICS[match[2]] << 12
        return _word(word | source << 16 | _base(where, reader, operands[-1]) << 5 | result, mnemonic)
    if mnemonic in _LOAD_ACQUIRE:
        _expect(where, operands, 2)
        number, size_bytes = reader.general(operands[0], 4 if mnemonic != "ldapr" else 0)
        size = {"ldaprb": 0, "ldaprh": 1}.get(mnemonic, 2 if size_bytes == 4 else 3)
        return _word(0x38BF_C000 | size << 30 | _base(where, reader, operands[1]) << 5 | number, mnemonic)
    match = _SWAP.fullmatch(mnemonic)
    if match is None:
        return None
    kind, order, width = match[1], _ORDERS[match[2]], match[3]
    if kind == "casp":
        _expect(where, operands, 5)
        numbers = [reader.general(text) for text in operands[:4]]
        if any(numbers[i][0] % 2 or numbers[i + 1] != (numbers[i][0] + 1, numbers[i][1]) for i in (0, 2)):
            raise where.error("found other registers, expected two pairs that begin at an even number")
        word = 0x0820_7C00 | (numbers[0][1] == 8) << 30 | (order >> 1) << 22 | (order & 1) << 15
        return _word(word | numbers[0][0] << 16 | _base(where, reader, operands[4]) << 5 | numbers[2][0], mnemonic)
    _expect(where, operands, 3)
    source, size_bytes = reader.general(operands[0], 4 if width else 0)
    result = reader.general(operands[1], size_bytes)[0]
    size = {"b": 0, "h": 1}.get(width, 2 if size_bytes == 4 else 3)
    base = _base(where, reader, operands[2])
    if kind == "swp":
        return _word(0x3820_8000 | size << 30 | order << 22 | source << 16 | base << 5 | result, mnemonic)
    word = 0x08A0_7C00 | size << 30 | (order >> 1) << 22 | (order & 1) << 15
    return _word(word | source << 16 | base << 5 | result, mnemonic)


# What keystone gave, held against what was asked.

_GROUPS: Final = (
    "subs cmp cmn adds negs",
    "ands tst",
    "orr mov movz movn add movk dup ins umov",
    "orn mvn not",
    "sub neg add",
    "sbc ngc",
    "sbcs ngcs",
    "madd mul",
    "msub mneg",
    "smaddl smull",
    "smsubl smnegl",
    "umaddl umull",
    "umsubl umnegl",
    "csinc cset cinc",
    "csinv csetm cinv",
    "csneg cneg",
    "extr ror rorv",
    "lslv lsl ubfm lsr lsrv ubfx ubfiz uxtb uxth uxtw",
    "asrv asr sbfm sbfx sbfiz sxtb sxth sxtw",
    "bfm bfi bfxil bfc",
    "ldr ldur",
    "str stur",
    "ldrb ldurb",
    "strb sturb",
    "ldrh ldurh",
    "strh sturh",
    "ldrsb ldursb",
    "ldrsh ldursh",
    "ldrsw ldursw",
    "prfm prfum",
    "hint nop yield wfe wfi sev sevl",
    "sys dc ic at tlbi",
    "sysl sys",
    "sshll sxtl",
    "sshll2 sxtl2",
    "ushll uxtl",
    "ushll2 uxtl2",
    "cmgt cmlt",
    "cmge cmle",
    "cmhi cmlo",
    "cmhs cmls",
    "fcmgt fcmlt",
    "fcmge fcmle",
    "facgt faclt",
    "facge facle",
    "mov orr fmov",
    "bic and",
    "bics ands",
    "eon eor",
    "rev rev64",
)
_FAMILIES: Final = tuple(frozenset(group.split()) for group in _GROUPS)
_BITFIELDS: Final = frozenset(
    ["ubfm", "sbfm", "bfm", "ubfx", "sbfx", "ubfiz", "sbfiz", "bfi", "bfxil", "bfc", "lsl", "lsr", "asr", "ror"]
)
_FACT: Final = re.compile(r"(?P<number>-?0x[0-9a-f]+|-?\d+(?:\.\d*)?(?:e[-+]?\d+)?)|(?P<word>[a-z_][\w]*(?:\.\w+)?)")
_REGISTER: Final = re.compile(r"([xwbhsdqv]\d+|sp|wsp)(\.\w+)?")


def _facts(text: str) -> tuple[list[str], list[float | int], list[str]]:
    """Registers, numbers and other words of operand text, in order."""
    registers: list[str] = []
    numbers: list[float | int] = []
    words: list[str] = []
    for match in _FACT.finditer(text.lower()):
        if match["number"] is not None:
            raw = match["number"]
            is_float = "." in raw or ("e" in raw and "0x" not in raw)
            numbers.append(float(raw) if is_float else int(raw, 0) if "0x" in raw else int(raw))
        else:
            word = _ALIASES.get(match["word"], match["word"])
            if _REGISTER.fullmatch(word):
                registers.append(word)
            elif word not in ("xzr", "wzr"):
                words.append(word)
    return registers, numbers, words


def _equal_number(asked: float | int, got: float | int) -> bool:
    if asked == got:
        return True
    if isinstance(asked, float) or isinstance(got, float):
        return abs(asked - got) < 1e-7
    return (asked < 0 or got < 0) and ((asked - got) % (1 << 64) == 0 or ((asked - got) % (1 << 32) == 0))


def check(where: SourceLine, parsed: Parsed, code: bytes) -> tuple[bytes, tuple[Fixup, ...]]:
    """Hold keystone's word against the statement. Raises AssemblyError where they differ."""
    if len(code) != 4:
        raise where.error(f"found {len(code)} bytes for it, expected one instruction of 4")
    found = disassemble(code, 0, arch="aarch64")[0]
    if found.is_bad:
        raise where.error(f"found the word {int.from_bytes(code, 'little'):#010x} for it, which does not decode")
    asked = parsed.mnemonic
    if asked != found.mnemonic and not any(asked in family and found.mnemonic in family for family in _FAMILIES):
        raise where.error(f"found the encoding of {found.text!r} for it")
    text = ", ".join(parsed.operands)
    registers, numbers, _words = _facts(text)
    got_registers, got_numbers, _got_words = _facts(found.operands_text)
    if parsed.operands and parsed.operands[0][0] == "{" and "-" in parsed.operands[0]:
        return code, ()
    left = list(got_registers)
    for register in registers:
        plain = register.partition(".")[0]
        match = next((name for name in left if name == register), None) or next(
            (name for name in left if name.partition(".")[0][1:] == plain[1:]), None
        )
        if match is not None:
            left.remove(match)
        elif asked == found.mnemonic or plain not in {name.partition(".")[0] for name in got_registers}:
            raise where.error(f"found the encoding of {found.text!r} for it: {register} is missing")
    word = int.from_bytes(code, "little")
    if _numbers_agree(asked, registers, numbers, got_numbers, word, text):
        return code, ()
    raise where.error(f"found the encoding of {found.text!r} for it: a number differs (out of its range?)")


def _numbers_agree(
    asked: str, registers: list[str], numbers: list[float | int], got: list[float | int], word: int, text: str
) -> bool:
    if asked in ("mov", "movz", "movn", "movk") and numbers and _is_move_wide(word):
        return _move_agrees(asked, numbers, word)
    width = 64 if word >> 31 else 32
    if asked in _BITFIELDS and numbers and word & 0x1F80_0000 == 0x1300_0000:
        return _bitfield_agrees(asked, numbers, word, width)
    if "lsl #0xc" in text and asked in ("add", "adds", "sub", "subs", "cmp", "cmn") and len(numbers) == 2:
        return numbers[0] in got and 12 in got
    if word & 0x1F80_0000 == 0x1100_0000 and len(numbers) == 1:  # add and sub of an immediate
        shown = (word >> 10 & 0xFFF) << (12 if word >> 22 & 1 else 0)
        subtracts = bool(word >> 30 & 1)
        wanted = int(numbers[0])
        if asked in ("sub", "subs", "cmp"):
            return wanted == (shown if subtracts else -shown)
        return wanted == (-shown if subtracts else shown)
    left = list(got)
    for number in numbers:
        match = next((index for index, other in enumerate(left) if _equal_number(number, other)), None)
        if match is not None:
            left.pop(match)
        elif number != 0:
            return False
    return not any(left)  # a number that nobody asked for: `fmov d0, #0` comes back as 2.0


def _is_move_wide(word: int) -> bool:
    return word & 0x1F80_0000 == 0x1280_0000


def _move_agrees(asked: str, numbers: list[float | int], word: int) -> bool:
    bits = 64 if word >> 31 else 32
    mask = (1 << bits) - 1
    immediate = (word >> 5 & 0xFFFF) << 16 * (word >> 21 & 3)
    operation = word >> 29 & 3  # 0 movn, 2 movz, 3 movk
    wanted = int(numbers[0]) << (int(numbers[1]) if len(numbers) > 1 else 0)
    if asked == "movk":
        return operation == 3 and wanted == immediate
    if asked == "movz":
        return operation == 2 and wanted == immediate
    if asked == "movn":
        return operation == 0 and wanted == immediate
    value = ~immediate & mask if operation == 0 else immediate
    return operation != 3 and -(1 << bits - 1) <= wanted <= mask and wanted & mask == value


def _bitfield_agrees(asked: str, numbers: list[float | int], word: int, width: int) -> bool:
    rotate, last = word >> 16 & 63, word >> 10 & 63
    values = [int(number) for number in numbers]
    if asked == "ror":  # extr with one source
        return values[-1] == last
    if any(not 0 <= value <= width for value in values):
        return False
    if asked == "lsl":
        return values[0] < width and rotate == -values[0] % width and last == width - 1 - values[0]
    if asked in ("lsr", "asr"):
        return rotate == values[0] and last == width - 1
    if len(values) != 2:
        return False
    first, second = values
    if asked in ("ubfm", "sbfm", "bfm"):
        return rotate == first and last == second
    if asked in ("ubfx", "sbfx", "bfxil"):
        return rotate == first and last == first + second - 1
    return rotate == -first % width and last == second - 1  # ubfiz, sbfiz, bfi, bfc
