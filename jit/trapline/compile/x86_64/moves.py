"""Moves between places and constants into places, in bytes; and the sites where code may trap.

Source: Intel SDM volume 2 (MOV, MOVAPS, MOVD/MOVQ, MOVSS/MOVSD).
"""

from __future__ import annotations

from typing import NamedTuple

from trapline.arch.x86_64.assembler import Assembler, Reg
from trapline.compile.allocate import SLOT, Step
from trapline.compile.instance import HELPERS
from trapline.compile.ir import Func
from trapline.compile.libcalls import Helper
from trapline.compile.x86_64.layout import FLOAT_SCRATCH, RESULT_WORD, SCRATCH, STACK_WORD
from trapline.compile.x86_64.shapes import fits_imm32
from trapline.compile.x86_64.target import Target
from trapline.wasm.types import F32, F64, I32

__all__ = ["Moves", "Site"]

_KEPT_WORDS = 1
"""Words between the caller's rbp and the first slot: the instance block."""


class Site(NamedTuple):
    """A TrapRow before its offset is known: (index of the piece, opcode index, kind, place, block, step)."""

    piece: int
    pos: int
    kind: str
    place: int
    block: int
    step: int


class Moves:
    """Places of one function, read and written through one assembler.

    An i32 or f32 fills the low half of its slot or word; what lies above is undefined. In a register an i32 has zeros
    above.
    """

    def __init__(self, assembler: Assembler, func: Func, target: Target) -> None:
        self.a = assembler
        self.func = func
        self.target = target
        self.sites: list[Site] = []
        self.late_sites: list[tuple[int, Site]] = []
        """(label, site): trap instructions behind the function's code."""
        self.block_number = -1
        self.step_number = -1
        """Of the step under way."""

    # ---- trap sites ----

    def trap_row(self, value: int, kind: str, place: int = -1) -> None:
        """Before an instruction that may fault, or behind a call. `place` is of the operand that tells more."""
        here = len(self.a._pieces)
        self.sites.append(Site(here, self.func.pos[value], kind, place, self.block_number, self.step_number))

    def trap_if(self, value: int, condition: int, kind: str, place: int = -1) -> None:
        """A trap, out of line, where a condition holds."""
        label = self.a.label()
        self.a.jcc_l(condition, label)
        site = Site(-1, self.func.pos[value], kind, place, self.block_number, self.step_number)
        self.late_sites.append((label, site))

    def call_helper(self, value: int, helper: Helper) -> None:
        """A C function whose operands are in place already."""
        self.a.mov64_rm(SCRATCH, Reg.R15, HELPERS)
        self.a.call_m(SCRATCH, 8 * helper)
        self.trap_row(value, "call")

    # ---- places ----

    def memory(self, place: int) -> tuple[int, int]:
        """(base register, displacement) of a place that is no register; result words are those of the caller."""
        if place < STACK_WORD:
            return Reg.RBP, -8 * (place - SLOT + 1 + _KEPT_WORDS)
        if place < RESULT_WORD:
            return Reg.RSP, 8 * (place - STACK_WORD)
        return Reg.RBP, 16 + 8 * (place - RESULT_WORD)

    def store(self, base: int, displacement: int, register: int, type_: int) -> None:
        """A register to memory, as wide as the type."""
        if register < 16:
            (self.a.mov32_mr if type_ == I32 else self.a.mov64_mr)(base, displacement, register)
        else:
            (self.a.movss_mr if type_ == F32 else self.a.movsd_mr)(base, displacement, register - 16)

    def load(self, register: int, base: int, displacement: int, type_: int) -> None:
        """A register from memory, as wide as the type; zeros above."""
        if register < 16:
            (self.a.mov32_rm if type_ == I32 else self.a.mov64_rm)(register, base, displacement)
        else:
            (self.a.movss_rm if type_ == F32 else self.a.movsd_rm)(register - 16, base, displacement)

    def move(self, step: Step) -> None:
        """A value from one place to another; -2 is the scratch register of its class.

        From memory to memory it goes by the other class's scratch register: its own may hold a value of the same
        parallel move.
        """
        type_ = self.func.type[step.value]
        is_float = type_ in (F32, F64)
        source, target = step.ins[0], step.out
        if source < 0:
            source = 16 + FLOAT_SCRATCH if is_float else SCRATCH
        if target < 0:
            target = 16 + FLOAT_SCRATCH if is_float else SCRATCH
        if source >= 32:
            base, displacement = self.memory(source)
            if target < 32:
                self.load(target, base, displacement, type_)
                return
            if is_float:
                source, type_ = SCRATCH, I32 if type_ == F32 else 0
            else:
                source, type_ = 16 + FLOAT_SCRATCH, F32 if type_ == I32 else 0
            self.load(source, base, displacement, type_)
        elif target < 32:
            if target >= 16:
                self.a.movaps_rr(target - 16, source - 16)
            elif type_ == I32:
                self.a.mov32_rr(target, source)
            else:
                self.a.mov64_rr(target, source)
            return
        self.store(*self.memory(target), source, type_)

    # ---- constants ----

    def constant(self, value: int, place: int) -> None:
        """The constant of a CONST instruction into a place."""
        bits = self.func.imm[value]
        assert isinstance(bits, int)
        type_ = self.func.type[value]
        if place < 16:
            self.integer(place, bits)
        elif place < 32:
            self.float_bits(place - 16, bits, type_ == F64)
        else:
            base, displacement = self.memory(place)
            if type_ in (I32, F32):
                self.a.mov32_mi(base, displacement, bits)
            elif fits_imm32(bits, True):
                self.a.mov64_mi(base, displacement, bits - (1 << 64) if bits >> 63 else bits)
            else:
                self.integer(SCRATCH, bits)
                self.a.mov64_mr(base, displacement, SCRATCH)

    def integer(self, register: int, bits: int) -> None:
        """Bits into a general register. Destroys the flags for 0."""
        if not bits:
            self.a.xor32_rr(register, register)
        elif bits < 1 << 32:
            self.a.mov32_ri(register, bits)
        elif fits_imm32(bits, True):
            self.a.mov64_ri(register, bits - (1 << 64))
        else:
            self.a.mov64_ri64(register, bits)

    def float_bits(self, register: int, bits: int, is_double: bool) -> None:
        """Bits into a floating-point register, which is numbered from 0 here."""
        if not bits:
            self.a.xorps_rr(register, register)
        elif is_double:
            self.a.movsd_rp(register, self.a.constant(bits.to_bytes(8, "little")))
        else:
            self.a.movss_rp(register, self.a.constant(bits.to_bytes(4, "little")))
