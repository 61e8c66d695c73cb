"""Moves between places and constants into places, in bytes.

Source: Intel SDM volume 2 (MOV, MOVAPS, MOVD/MOVQ, MOVSD).
"""

from __future__ import annotations

from trapline.arch.x86_64.assembler import Assembler, Reg
from trapline.compile.allocate import SLOT, Step
from trapline.compile.ir import Func
from trapline.compile.x86_64.layout import BUFFER, FLOAT_SCRATCH, RESULT_WORD, SCRATCH, STACK_WORD
from trapline.compile.x86_64.shapes import fits_imm32
from trapline.wasm.types import F32, F64, I32

__all__ = ["Moves"]

_KEPT_WORDS = 1
"""Words between the caller's rbp and the first slot: r15."""


class Moves:
    """Places of one function, read and written through one assembler."""

    def __init__(self, assembler: Assembler, func: Func) -> None:
        self.a = assembler
        self.func = func

    def memory(self, place: int) -> tuple[int, int]:
        """(base register, displacement) of a place that is no register, as its own function sees it."""
        if place >= RESULT_WORD:
            return Reg.R15, BUFFER + 8 * (place - RESULT_WORD)
        if place >= STACK_WORD:
            return Reg.RSP, 8 * (place - STACK_WORD)
        return Reg.RBP, -8 * (place - SLOT + 1 + _KEPT_WORDS)

    def incoming(self, place: int) -> tuple[int, int]:
        """(base, displacement) of a word of arguments that the caller has pushed."""
        return Reg.RBP, 16 + 8 * (place - STACK_WORD)

    def is_float(self, value: int) -> bool:
        """Whether a value lives in floating-point registers."""
        return self.func.type[value] in (F32, F64)

    def store(self, base: int, displacement: int, register: int) -> None:
        """A whole register to memory."""
        if register >= 16:
            self.a.movsd_mr(base, displacement, register - 16)
        else:
            self.a.mov64_mr(base, displacement, register)

    def load(self, register: int, base: int, displacement: int) -> None:
        """A whole register from memory."""
        if register >= 16:
            self.a.movsd_rm(register - 16, base, displacement)
        else:
            self.a.mov64_rm(register, base, displacement)

    def move(self, step: Step) -> None:
        """A value from one place to another; -2 is the scratch register of its class."""
        scratch = 16 + FLOAT_SCRATCH if self.is_float(step.value) else SCRATCH
        source = scratch if step.ins[0] == -2 else step.ins[0]
        target = scratch if step.out == -2 else step.out
        if target < 32:
            if source >= 32:
                self.load(target, *self.memory(source))
            elif target >= 16:
                self.a.movaps_rr(target - 16, source - 16)
            elif self.func.type[step.value] == I32:
                self.a.mov32_rr(target, source)
            else:
                self.a.mov64_rr(target, source)
            return
        if source >= 32:
            self.load(SCRATCH, *self.memory(source))
            source = SCRATCH
        self.store(*self.memory(target), source)

    def constant(self, value: int, place: int) -> None:
        """The constant of a CONST instruction into a place."""
        bits = self.func.imm[value]
        assert isinstance(bits, int)
        if place < 16:
            self.integer(place, bits)
        elif place < 32:
            if not bits:
                self.a.xorps_rr(place - 16, place - 16)
            else:
                self.integer(SCRATCH, bits)
                self.a.movq_vr(place - 16, SCRATCH)
        else:
            self.integer(SCRATCH, bits)
            self.store(*self.memory(place), SCRATCH)

    def integer(self, register: int, bits: int) -> None:
        """Bits into a general register."""
        if not bits:
            self.a.xor32_rr(register, register)
        elif bits < 1 << 32:
            self.a.mov32_ri(register, bits)
        elif fits_imm32(bits, True):
            self.a.mov64_ri(register, bits - (1 << 64))
        else:
            self.a.mov64_ri64(register, bits)
