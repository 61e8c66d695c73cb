"""Floating-point operations and conversions, in bytes.

Source: Intel SDM volume 2, by instruction; core specification 4.3.3 and 4.3.4 for what must come out. NaNs come out as
the machine makes them: quiet, with the payload of an operand, which the specification allows.
"""

from __future__ import annotations

import struct
from typing import Final

from trapline.arch.x86_64.assembler import Assembler, Condition
from trapline.compile.allocate import SLOT, Step
from trapline.compile.libcalls import Helper
from trapline.compile.x86_64.integers import Integers, Memory, Two
from trapline.compile.x86_64.layout import FLOAT_SCRATCH, SCRATCH

__all__ = ["Floats"]

_ROUNDING: Final = {2: 2, 3: 1, 4: 3, 5: 0}
"""ceil, floor, trunc, nearest -> rounding control of ROUNDSD; bit 3 keeps the precision exception quiet."""
A = Assembler
_ARITHMETIC: Final[dict[int, tuple[Two, Memory]]] = {
    # opcode: (with a register, with memory)
    0x92: (A.addss_rr, A.addss_rm),
    0x93: (A.subss_rr, A.subss_rm),
    0x94: (A.mulss_rr, A.mulss_rm),
    0x95: (A.divss_rr, A.divss_rm),
    0xA0: (A.addsd_rr, A.addsd_rm),
    0xA1: (A.subsd_rr, A.subsd_rm),
    0xA2: (A.mulsd_rr, A.mulsd_rm),
    0xA3: (A.divsd_rr, A.divsd_rm),
}
_EXTREMES: Final[dict[int, Two]] = {0x96: A.minss_rr, 0x97: A.maxss_rr, 0xA4: A.minsd_rr, 0xA5: A.maxsd_rr}


def _double(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def _single(value: float) -> int:
    return int.from_bytes(struct.pack("<f", value), "little")


class Floats(Integers):
    """Everything that works on floating-point registers."""

    def arithmetic(self, step: Step, op: int) -> None:
        """add sub mul div, two-address."""
        with_register, with_memory = _ARITHMETIC[op]
        other = step.ins[1]
        if other >= SLOT:
            with_memory(self.a, step.out - 16, *self.memory(other))
        else:
            with_register(self.a, step.out - 16, other - 16)

    def _ucomi(self, is_double: bool, left: int, right: int) -> None:
        (self.a.ucomisd_rr if is_double else self.a.ucomiss_rr)(left, right)

    def _truncating(self, is_double: bool, out: int, source: int) -> None:
        (self.a.cvttsd2si64_rr if is_double else self.a.cvttss2si64_rr)(out, source)

    def extreme(self, step: Step, op: int) -> None:
        """min and max: NaN if either is, and -0 below +0, neither of which MINSD does."""
        is_double = op >= 0xA0
        is_min = op in (0x96, 0xA4)
        a = self.a
        out, other = step.out - 16, step.ins[1] - 16
        unordered, differ, done = a.label(), a.label(), a.label()
        self._ucomi(is_double, out, other)
        a.jcc_l(Condition.P, unordered)
        a.jcc_l(Condition.NE, differ)
        (a.orps_rr if is_min else a.andps_rr)(out, other)
        a.jmp_l(done)
        a.bind(unordered)
        (a.addsd_rr if is_double else a.addss_rr)(out, other)
        a.jmp_l(done)
        a.bind(differ)
        _EXTREMES[op](a, out, other)
        a.bind(done)

    def _mask(self, is_double: bool, of_sign: bool) -> int:
        """A constant of 16 bytes: the sign bit of the low lane, or every bit but the sign."""
        lane_bytes = 8 if is_double else 4
        sign = 1 << (8 * lane_bytes - 1)
        return self.a.constant((sign if of_sign else sign - 1).to_bytes(lane_bytes, "little").ljust(16, b"\0"))

    def sign(self, step: Step, op: int) -> None:
        """abs and neg, on the bits."""
        is_double, is_negation = op >= 0x99, op in (0x8C, 0x9A)
        mask = self._mask(is_double, is_negation)
        (self.a.xorps_rp if is_negation else self.a.andps_rp)(step.out - 16, mask)

    def copysign(self, step: Step, op: int) -> None:
        """The bits of the first with the sign of the second."""
        is_double = op >= 0xA0
        out, other = step.out - 16, step.ins[1] - 16
        if out == other:
            return
        self.a.andps_rp(out, self._mask(is_double, False))
        self.a.movaps_rp(FLOAT_SCRATCH, self._mask(is_double, True))
        self.a.andps_rr(FLOAT_SCRATCH, other)
        self.a.orps_rr(out, FLOAT_SCRATCH)

    def unary_float(self, step: Step, op: int) -> None:
        """ceil floor trunc nearest sqrt."""
        is_double = op >= 0x99
        which = op - (0x99 if is_double else 0x8B)
        a, out, source = self.a, step.out - 16, step.ins[0] - 16
        if which == 6:
            (a.sqrtsd_rr if is_double else a.sqrtss_rr)(out, source)
        elif not self.target.features.sse41:
            self.call_helper(step.value, Helper(which - 2 + (Helper.F64_CEIL if is_double else Helper.F32_CEIL)))
        else:
            (a.roundsd_rri if is_double else a.roundss_rri)(out, source, 8 | _ROUNDING[which])

    def compare_floats(self, step: Step, op: int) -> None:
        """0 or 1; unordered operands are only ever unequal."""
        is_double = op >= 0x61
        which = op - (0x61 if is_double else 0x5B)  # eq ne lt gt le ge
        left, right = step.ins[0] - 16, step.ins[1] - 16
        a = self.a
        if which in (2, 4):
            left, right = right, left
        self._ucomi(is_double, left, right)
        if which == 0:
            a.setnp_r(SCRATCH)
            a.sete_r(step.out)
            a.and8_rr(step.out, SCRATCH)
            a.movzx32_8_rr(step.out, step.out)
        elif which == 1:
            a.setp_r(SCRATCH)
            a.setne_r(step.out)
            a.or8_rr(step.out, SCRATCH)
            a.movzx32_8_rr(step.out, step.out)
        else:
            self.flag(Condition.A if which in (2, 3) else Condition.AE, step.out)

    def convert(self, step: Step, op: int) -> None:
        """Integers to floating point, and between the two widths of it."""
        a = self.a
        source, out = step.ins[0], step.out - 16
        if op == 0xB6:
            a.cvtsd2ss_rr(out, source - 16)
            return
        if op == 0xBB:
            a.cvtss2sd_rr(out, source - 16)
            return
        is_double = op >= 0xB7
        kind = op - (0xB7 if is_double else 0xB2)  # i32_s i32_u i64_s i64_u
        a.xorps_rr(out, out)  # the conversion writes the low lane only: no waiting for the rest
        if kind == 0:
            (a.cvtsi2sd32_rr if is_double else a.cvtsi2ss32_rr)(out, source)
        elif kind == 1:
            a.mov32_rr(SCRATCH, source)
            self._from_i64(is_double, out, SCRATCH)
        elif kind == 2:
            self._from_i64(is_double, out, source)
        else:
            self._from_u64(is_double, out, source)

    def _from_i64(self, is_double: bool, out: int, source: int) -> None:
        (self.a.cvtsi2sd64_rr if is_double else self.a.cvtsi2ss64_rr)(out, source)

    def _from_u64(self, is_double: bool, out: int, source: int) -> None:
        """Above 2**63: half of it, the lost bit kept for rounding, then doubled."""
        a = self.a
        large, even, done = a.label(), a.label(), a.label()
        a.test64_rr(source, source)
        a.jcc_l(Condition.S, large)
        self._from_i64(is_double, out, source)
        a.jmp_l(done)
        a.bind(large)
        a.mov64_rr(SCRATCH, source)
        a.shr64_ri(SCRATCH, 1)
        a.test8_ri(source, 1)
        a.jcc_l(Condition.E, even)
        a.or64_ri(SCRATCH, 1)
        a.bind(even)
        self._from_i64(is_double, out, SCRATCH)
        (a.addsd_rr if is_double else a.addss_rr)(out, out)
        a.bind(done)

    def truncate(self, step: Step, op: int) -> None:
        """Floating point to integer, trapping when it does not fit; the trap tells NaN from overflow by the operand."""
        a = self.a
        source, out = step.ins[0] - 16, step.out
        is_double = op in (0xAA, 0xAB, 0xB0, 0xB1)
        kind = "truncation 64" if is_double else "truncation 32"
        if op in (0xA8, 0xA9, 0xAA, 0xAB):
            self._truncating(is_double, out, source)
            if op in (0xA8, 0xAA):
                a.movsxd64_32_rr(SCRATCH, out)
            else:
                a.mov32_rr(SCRATCH, out)
            a.cmp64_rr(SCRATCH, out)
            self.trap_if(step.value, Condition.NE, kind, step.ins[0])
            a.mov32_rr(out, out)
        elif op in (0xAE, 0xB0):
            done = a.label()
            self._truncating(is_double, out, source)
            a.cmp64_ri(out, 1)  # overflows for the one result that also means "does not fit"
            a.jcc_l(Condition.NO, done)
            self._two_to_63(is_double, negative=True)
            self._ucomi(is_double, source, FLOAT_SCRATCH)
            self.trap_if(step.value, Condition.P, kind, step.ins[0])
            self.trap_if(step.value, Condition.NE, kind, step.ins[0])
            a.bind(done)
        else:
            self._truncate_u64(is_double, out, source)
            self.trap_if(step.value, Condition.S, kind, step.ins[0])
            self._add_above(out)

    def _two_to_63(self, is_double: bool, negative: bool = False) -> None:
        value = -(2.0**63) if negative else 2.0**63
        self.float_bits(FLOAT_SCRATCH, _double(value) if is_double else _single(value), is_double)

    def _truncate_u64(self, is_double: bool, out: int, source: int) -> None:
        """The number less 2**63 where it is that large; the sign flag says that it does not fit. r11 is 1 then."""
        a = self.a
        large, done = a.label(), a.label()
        self._two_to_63(is_double)
        self._ucomi(is_double, source, FLOAT_SCRATCH)
        a.jcc_l(Condition.AE, large)
        self._truncating(is_double, out, source)
        a.mov32_ri(SCRATCH, 0)
        a.test64_rr(out, out)
        a.jmp_l(done)
        a.bind(large)
        (a.subsd_rr if is_double else a.subss_rr)(FLOAT_SCRATCH, source)
        self._truncating(is_double, out, FLOAT_SCRATCH)
        a.mov32_ri(SCRATCH, 1)
        a.neg64_r(out)
        a.bind(done)

    def _add_above(self, out: int) -> None:
        """2**63 again, where r11 is 1."""
        self.a.shl64_ri(SCRATCH, 63)
        self.a.xor64_rr(out, SCRATCH)

    def saturate(self, step: Step, op: int) -> None:
        """Floating point to integer; NaN is 0 and what does not fit the nearest that does."""
        a = self.a
        source, out = step.ins[0] - 16, step.out
        is_double = op in (0xFC02, 0xFC03, 0xFC06, 0xFC07)
        if op <= 0xFC03:
            self._saturate_32(source, out, is_double, op in (0xFC00, 0xFC02))
            return
        zero, most, done = a.label(), a.label(), a.label()
        if op in (0xFC04, 0xFC06):
            self._ucomi(is_double, source, source)
            a.jcc_l(Condition.P, zero)
            self._two_to_63(is_double)
            self._ucomi(is_double, source, FLOAT_SCRATCH)
            a.jcc_l(Condition.AE, most)
            self._truncating(is_double, out, source)  # too small gives the least number by itself
            a.jmp_l(done)
            a.bind(most)
            a.mov64_ri64(out, (1 << 63) - 1)
        else:
            a.xorps_rr(FLOAT_SCRATCH, FLOAT_SCRATCH)
            self._ucomi(is_double, source, FLOAT_SCRATCH)
            a.jcc_l(Condition.BE, zero)  # NaN too
            self._truncate_u64(is_double, out, source)
            a.jcc_l(Condition.S, most)
            self._add_above(out)
            a.jmp_l(done)
            a.bind(most)
            a.mov64_ri(out, -1)
        a.jmp_l(done)
        a.bind(zero)
        a.xor32_rr(out, out)
        a.bind(done)

    def _saturate_32(self, source: int, out: int, is_double: bool, is_signed: bool) -> None:
        """In double precision, where every bound is exact."""
        a = self.a
        zero, done = a.label(), a.label()
        if is_double:
            a.movaps_rr(FLOAT_SCRATCH, source)
        else:
            a.cvtss2sd_rr(FLOAT_SCRATCH, source)
        a.ucomisd_rr(FLOAT_SCRATCH, FLOAT_SCRATCH)
        a.jcc_l(Condition.P, zero)
        low, high = (-(2.0**31), 2.0**31 - 1) if is_signed else (0.0, 2.0**32 - 1)
        a.minsd_rp(FLOAT_SCRATCH, a.constant(struct.pack("<d", high)))
        a.maxsd_rp(FLOAT_SCRATCH, a.constant(struct.pack("<d", low)))
        a.cvttsd2si64_rr(out, FLOAT_SCRATCH)
        a.mov32_rr(out, out)
        a.jmp_l(done)
        a.bind(zero)
        a.xor32_rr(out, out)
        a.bind(done)
