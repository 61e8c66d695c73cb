"""The aarch64 macro assembler the code generator emits with: encoders, labels, branches, constants.

Requires: registers as numbers, labels from `label()`. Leaves: position-independent code, the offset of every label.
A conditional branch that does not reach is inverted over a `b`. Invariant: a branch only ever grows, so `finish` ends.

Source: Arm ARM (DDI 0487) section C6.2; logical immediates: DecodeBitMasks there. Not done: veneers for `b` and `bl`
over 128 MiB, which is more than one code image may hold.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from trapline.arch.aarch64.assembler_encoders import Encoders
from trapline.errors import AssemblyError

__all__ = ["Assembler", "Condition", "float_immediate", "logical_immediate"]

_BRANCH: Final = 0  # b, bl: 26 bits
_CONDITIONAL: Final = 1  # b.cond, cbz, cbnz: 19 bits
_TEST: Final = 2  # tbz, tbnz: 14 bits
_ADDRESS: Final = 3  # adr: 21 bits of bytes
_LITERAL: Final = 4  # ldr literal: 19 bits
_BITS: Final = (26, 19, 14, 21, 19)
_NAMES: Final = ("b or bl", "b.cond, cbz or cbnz", "tbz or tbnz", "adr", "ldr literal")
_NOP: Final = 0xD503201F
_B: Final = 0x14000000
_ATOMICS: Final = {"ldadd": 0, "ldclr": 1, "ldeor": 2, "ldset": 3}


class Condition:
    """Condition codes; ``code ^ 1`` is the opposite of all but AL."""

    EQ: Final = 0
    NE: Final = 1
    HS: Final = 2
    LO: Final = 3
    MI: Final = 4
    PL: Final = 5
    VS: Final = 6
    VC: Final = 7
    HI: Final = 8
    LS: Final = 9
    GE: Final = 10
    LT: Final = 11
    GT: Final = 12
    LE: Final = 13
    AL: Final = 14


@lru_cache(maxsize=4096)
def logical_immediate(value: int, bits: int) -> int | None:
    """The fields N, immr, imms (13 bits) of a logical immediate of 32 or 64 `bits`, or None if there is none.

    A logical immediate is an element of 2 to 64 bits, repeated, that is a rotated run of ones.
    Source: Arm ARM, DecodeBitMasks.
    """
    mask = (1 << bits) - 1
    if not 0 < value < mask:
        return None
    size = bits
    while size > 2:
        half = size // 2
        low = (1 << half) - 1
        if value >> half & low != value & low:
            break
        size = half
        value &= low
    element = value & ((1 << size) - 1)
    ones = element.bit_count()
    run = (1 << ones) - 1
    for rotation in range(size):
        rotated = (run >> rotation | run << size - rotation) & ((1 << size) - 1)
        if rotated == element:
            top = (~(2 * size - 1) & 0x3F) if size < 64 else 0
            return (size == 64) << 12 | rotation << 6 | top | ones - 1
    return None


def float_immediate(value: float) -> int | None:
    """The 8 bits of an `fmov` immediate, or None if `value` is not one. Source: Arm ARM, VFPExpandImm."""
    raw = int.from_bytes(struct.pack("<d", value), "little")
    exponent = raw >> 54 & 0x1FF
    if raw & ((1 << 48) - 1) or exponent not in (0x100, 0x0FF):
        return None
    return (raw >> 63) << 7 | (exponent == 0x0FF) << 6 | raw >> 48 & 0x3F


class Assembler(Encoders):
    """Emits aarch64 code; see `Encoders` for the names of the instructions.

    Besides those: l is a label. `finish` may be called once.

    >>> a = Assembler()
    >>> top = a.here()
    >>> a.subs64_rri(0, 0, 1)
    >>> a.bcond_l(Condition.NE, top)
    >>> a.ret()
    >>> a.finish().hex()
    '000400f1e1ffff54c0035fd6'
    """

    def __init__(self) -> None:
        super().__init__()
        self._label_words: list[int] = []  # index of the word a label stands before, -1 while it is not bound
        self._uses: list[tuple[int, int, int]] = []  # (index of the word, label, kind), in order
        self._data_words: list[tuple[int, int]] = []  # [start, stop) of words that are data
        self._aligns: list[tuple[int, int]] = []
        self._pool: dict[bytes, int] = {}
        self._code: bytes | None = None
        self._starts: list[int] = []

    def label(self) -> int:
        """A new label, not yet bound."""
        self._label_words.append(-1)
        return len(self._label_words) - 1

    def bind(self, label: int) -> None:
        """Bind `label` to the next instruction. Raises AssemblyError the second time."""
        if not 0 <= label < len(self._label_words):
            raise AssemblyError(f"found the label {label}, expected one of this assembler's {len(self._label_words)}")
        if self._label_words[label] >= 0:
            raise AssemblyError(f"label {label}: found it bound, expected a label that is not")
        self._label_words[label] = len(self._words)

    def here(self) -> int:
        """A new label bound to the next instruction."""
        label = self.label()
        self.bind(label)
        return label

    def _use(self, word: int, label: int, kind: int) -> None:
        self._uses.append((len(self._words), label, kind))
        self._words.append(word)

    def b_l(self, label: int) -> None:
        """``b label``."""
        self._use(_B, label, _BRANCH)

    def bl_l(self, label: int) -> None:
        """``bl label``."""
        self._use(0x94000000, label, _BRANCH)

    def bcond_l(self, condition: int, label: int) -> None:
        """``b.cond label``; `condition` is one of `Condition`, below AL."""
        if not 0 <= condition < 14:
            raise AssemblyError(f"bcond_l: found the condition {condition}, expected 0 to 13")
        self._use(0x54000000 | condition, label, _CONDITIONAL)

    def _compare(self, word: int, register: int, label: int) -> None:
        if register & -32:
            self._refuse("cbz, cbnz", "a register", register)
        self._use(word | register, label, _CONDITIONAL)

    def cbz32_rl(self, a: int, label: int) -> None:
        """``cbz w, label``."""
        self._compare(0x34000000, a, label)

    def cbz64_rl(self, a: int, label: int) -> None:
        """``cbz x, label``."""
        self._compare(0xB4000000, a, label)

    def cbnz32_rl(self, a: int, label: int) -> None:
        """``cbnz w, label``."""
        self._compare(0x35000000, a, label)

    def cbnz64_rl(self, a: int, label: int) -> None:
        """``cbnz x, label``."""
        self._compare(0xB5000000, a, label)

    def _test(self, word: int, register: int, bit: int, label: int) -> None:
        if register & -32 or bit & -64:
            self._refuse("tbz, tbnz", "a register and a bit of 0 to 63", register, bit)
        self._use(word | (bit >> 5) << 31 | (bit & 31) << 19 | register, label, _TEST)

    def tbz_ril(self, a: int, bit: int, label: int) -> None:
        """``tbz x, #bit, label``."""
        self._test(0x36000000, a, bit, label)

    def tbnz_ril(self, a: int, bit: int, label: int) -> None:
        """``tbnz x, #bit, label``."""
        self._test(0x37000000, a, bit, label)

    def adr_rl(self, a: int, label: int) -> None:
        """``adr x, label``, within 1 MiB."""
        if a & -32:
            self._refuse("adr_rl", "a register", a)
        self._use(0x10000000 | a, label, _ADDRESS)

    def _literal(self, word: int, register: int, label: int) -> None:
        if register & -32:
            self._refuse("ldr literal", "a register", register)
        self._use(word | register, label, _LITERAL)

    def ldr32_rl(self, a: int, label: int) -> None:
        """``ldr w, label``, within 1 MiB."""
        self._literal(0x18000000, a, label)

    def ldr64_rl(self, a: int, label: int) -> None:
        """``ldr x, label``, within 1 MiB."""
        self._literal(0x58000000, a, label)

    def ldr_s_rl(self, a: int, label: int) -> None:
        """``ldr s, label``, within 1 MiB."""
        self._literal(0x1C000000, a, label)

    def ldr_d_rl(self, a: int, label: int) -> None:
        """``ldr d, label``, within 1 MiB."""
        self._literal(0x5C000000, a, label)

    def ldr_q_rl(self, a: int, label: int) -> None:
        """``ldr q, label``, within 1 MiB."""
        self._literal(0x9C000000, a, label)

    def _logical(self, word: int, bits: int, a: int, b: int, imm: int) -> None:
        fields = logical_immediate(imm, bits)
        if fields is None or (a | b) & -32:
            self._refuse("logical immediate", f"two registers and a logical immediate of {bits} bits", a, b, imm)
            return
        self._words.append(word | fields << 10 | b << 5 | a)

    def and32_rri(self, a: int, b: int, imm: int) -> None:
        """``and ws, w, #imm``, a logical immediate."""
        self._logical(0x12000000, 32, a, b, imm)

    def and64_rri(self, a: int, b: int, imm: int) -> None:
        """``and xs, x, #imm``, a logical immediate."""
        self._logical(0x92000000, 64, a, b, imm)

    def orr32_rri(self, a: int, b: int, imm: int) -> None:
        """``orr ws, w, #imm``, a logical immediate."""
        self._logical(0x32000000, 32, a, b, imm)

    def orr64_rri(self, a: int, b: int, imm: int) -> None:
        """``orr xs, x, #imm``, a logical immediate."""
        self._logical(0xB2000000, 64, a, b, imm)

    def eor32_rri(self, a: int, b: int, imm: int) -> None:
        """``eor ws, w, #imm``, a logical immediate."""
        self._logical(0x52000000, 32, a, b, imm)

    def eor64_rri(self, a: int, b: int, imm: int) -> None:
        """``eor xs, x, #imm``, a logical immediate."""
        self._logical(0xD2000000, 64, a, b, imm)

    def ands32_rri(self, a: int, b: int, imm: int) -> None:
        """``ands w, w, #imm``, a logical immediate."""
        self._logical(0x72000000, 32, a, b, imm)

    def ands64_rri(self, a: int, b: int, imm: int) -> None:
        """``ands x, x, #imm``, a logical immediate."""
        self._logical(0xF2000000, 64, a, b, imm)

    def lsl32_rri(self, a: int, b: int, imm: int) -> None:
        """``lsl w, w, #imm`` of 0 to 31."""
        if imm & -32:
            self._refuse("lsl32_rri", "w w u5", a, b, imm)
        self.ubfm32_rrii(a, b, -imm & 31, 31 - imm)

    def lsl64_rri(self, a: int, b: int, imm: int) -> None:
        """``lsl x, x, #imm`` of 0 to 63."""
        if imm & -64:
            self._refuse("lsl64_rri", "x x u6", a, b, imm)
        self.ubfm64_rrii(a, b, -imm & 63, 63 - imm)

    def cset32_rc(self, a: int, condition: int) -> None:
        """``cset w, cond``."""
        self.csinc32_rrrc(a, 31, 31, condition ^ 1)

    def cset64_rc(self, a: int, condition: int) -> None:
        """``cset x, cond``."""
        self.csinc64_rrrc(a, 31, 31, condition ^ 1)

    def atomic_rrm(self, op: str, size_bytes: int, source: int, result: int, base: int) -> None:
        """``ldaddal, ldclral, ldeoral, ldsetal, swpal`` or ``casal`` of 1, 2, 4 or 8 bytes, acquiring and releasing.

        `op` has no order suffix. `source` is the operand (for cas the expected value, `result` the new one). These are
        of the large system extensions (Armv8.1), which keystone does not know.
        """
        size = {1: 0, 2: 1, 4: 2, 8: 3}.get(size_bytes, -1)
        if size < 0 or (source | result | base) & -32:
            self._refuse("atomic_rrm", "1, 2, 4 or 8 bytes and registers", size_bytes, source, result, base)
        operands = source << 16 | base << 5 | result
        if op == "cas":
            self._words.append(0x08E0FC00 | size << 30 | operands)
        elif op == "swp":
            self._words.append(0x38E08000 | size << 30 | operands)
        elif op in _ATOMICS:
            self._words.append(0x38E00000 | size << 30 | _ATOMICS[op] << 12 | operands)
        else:
            raise AssemblyError(f"atomic_rrm: found {op!r}, expected ldadd, ldclr, ldeor, ldset, swp or cas")

    def load_constant(self, a: int, value: int) -> None:
        """Load 64 bits into x`a` with the fewest of movz, movn, movk and orr (1 to 4 instructions)."""
        value &= 0xFFFF_FFFF_FFFF_FFFF
        pieces = [value >> 16 * part & 0xFFFF for part in range(4)]
        if logical_immediate(value, 64) is not None and sum(piece not in (0, 0xFFFF) for piece in pieces) > 1:
            self.orr64_rri(a, 31, value)
            return
        filler = 0xFFFF if pieces.count(0xFFFF) > pieces.count(0) else 0
        wanted = [part for part in range(4) if pieces[part] != filler] or [0]
        for position, part in enumerate(wanted):
            if position:
                self.movk64_ri(a, pieces[part], 16 * part)
            elif filler:
                self.movn64_ri(a, pieces[part] ^ 0xFFFF, 16 * part)
            else:
                self.movz64_ri(a, pieces[part], 16 * part)

    def align(self, count: int) -> None:
        """Fill with nops up to a multiple of `count` bytes, a power of two of 4 to 4096."""
        if not 4 <= count <= 4096 or count & (count - 1):
            raise AssemblyError(f"align: found {count}, expected a power of two of 4 to 4096")
        self._aligns.append((len(self._words), count // 4))

    def data(self, data: bytes) -> None:
        """Bytes that are no instruction, a multiple of 4."""
        if len(data) % 4:
            raise AssemblyError(f"data: found {len(data)} bytes, expected a multiple of 4")
        start = len(self._words)
        self._words.extend(struct.unpack(f"<{len(data) // 4}I", data))
        self._data_words.append((start, len(self._words)))

    def raw(self, word: int) -> None:
        """One instruction, already encoded."""
        if word & ~0xFFFF_FFFF:
            raise AssemblyError(f"raw: found {word:#x}, expected a word of 32 bits")
        self._words.append(word)

    def constant(self, data: bytes) -> int:
        """A label of `data` (4, 8 or 16 bytes) in the pool behind the code; the same data has one label."""
        label = self._pool.get(data)
        if label is None:
            if len(data) not in (4, 8, 16):
                raise AssemblyError(f"constant: found {len(data)} bytes, expected 4, 8 or 16")
            label = self._pool[data] = self.label()
        return label

    def finish(self) -> bytes:
        """Place everything and return the code. Raises AssemblyError for labels not bound and targets too far."""
        if self._code is not None:
            raise AssemblyError("finish: found code that is finished, expected to be called once")
        for data in sorted(self._pool, key=len, reverse=True):
            self.align(len(data))
            self.bind(self._pool[data])
            self.data(data)
        grown: set[int] = set()
        while True:
            starts = self._place(grown)
            far = self._too_far(starts, grown)
            if not far:
                break
            grown |= far
        self._starts = starts
        out = [_NOP] * starts[-1]
        for index, word in enumerate(self._words):
            out[starts[index]] = word
        for use, (index, label, kind) in enumerate(self._uses):
            self._patch(out, starts, use in grown, index, label, kind)
        self._code = struct.pack(f"<{len(out)}I", *out)
        return self._code

    def _place(self, grown: set[int]) -> list[int]:
        """The offset in words of every emitted word, and of the end."""
        growth = {self._uses[use][0] for use in grown}
        aligns: dict[int, int] = {}
        for index, count in self._aligns:
            aligns[index] = max(count, aligns.get(index, 1))
        if not growth and not aligns:
            return list(range(len(self._words) + 1))
        starts: list[int] = []
        offset = 0
        for index in range(len(self._words) + 1):
            if index in aligns:
                offset += -offset % aligns[index]
            starts.append(offset)
            offset += 2 if index in growth else 1
        return starts

    def _too_far(self, starts: list[int], grown: set[int]) -> set[int]:
        far: set[int] = set()
        for use, (index, label, kind) in enumerate(self._uses):
            if kind in (_CONDITIONAL, _TEST) and use not in grown:
                distance = starts[self._target(label)] - starts[index]
                half = 1 << _BITS[kind] - 1
                if not -half <= distance < half:
                    far.add(use)
        return far

    def _target(self, label: int) -> int:
        if not 0 <= label < len(self._label_words) or self._label_words[label] < 0:
            raise AssemblyError(f"label {label}: found no bind, expected one before finish")
        return self._label_words[label]

    def _patch(self, out: list[int], starts: list[int], inverted: bool, index: int, label: int, kind: int) -> None:
        at = starts[index]
        distance = starts[self._target(label)] - at
        if inverted:
            word = out[at]
            flip = 1 if word & 0xFE000000 == 0x54000000 else 1 << 24  # the condition, or z and nz
            out[at] = word ^ flip | 2 << 5
            out[at + 1], at, distance, kind = _B, at + 1, distance - 1, _BRANCH
        if kind == _ADDRESS:
            distance *= 4
        bits = _BITS[kind]
        if not -(1 << bits - 1) <= distance < 1 << bits - 1:
            raise AssemblyError(f"{_NAMES[kind]}: found label {label} {distance} away, expected under {1 << bits - 1}")
        field = distance & ((1 << bits) - 1)
        if kind == _BRANCH:
            out[at] |= field
        elif kind == _ADDRESS:
            out[at] |= (field & 3) << 29 | field >> 2 << 5
        else:
            out[at] |= field << 5

    def offset(self, label: int) -> int:
        """The offset in bytes of `label` in the finished code."""
        if self._code is None:
            raise AssemblyError("offset: found code that is not finished, expected finish() first")
        return 4 * self._starts[self._target(label)]

    def boundaries(self) -> list[int]:
        """The offsets in bytes of all emitted instructions, in order; data and padding are left out.

        An inverted branch counts as one boundary: its two words belong together.
        """
        if self._code is None:
            raise AssemblyError("boundaries: found code that is not finished, expected finish() first")
        data = {index for start, stop in self._data_words for index in range(start, stop)}
        return [4 * start for index, start in enumerate(self._starts[:-1]) if index not in data]
