"""Integer operations, comparisons, loads and stores, in bytes.

Source: Intel SDM volume 2, by instruction; core specification 4.3.2 for what must come out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trapline.arch.x86_64.assembler import Assembler, Condition, Reg
from trapline.compile.allocate import SLOT, Step
from trapline.compile.ir import Op
from trapline.compile.x86_64.layout import MEMORY_BYTES, SCRATCH
from trapline.compile.x86_64.moves import Moves

__all__ = ["CONDITIONS", "Integers"]

CONDITIONS: Final = (
    Condition.E,
    Condition.NE,
    Condition.L,
    Condition.B,
    Condition.G,
    Condition.A,
    Condition.LE,
    Condition.BE,
    Condition.GE,
    Condition.AE,
)
"""Of the ten comparisons in the order of their opcodes."""

Two = Callable[[Assembler, int, int], None]
Memory = Callable[[Assembler, int, int, int], None]
Indexed = Callable[[Assembler, int, int, int, int, int], None]
One = Callable[[Assembler, int], None]
A = Assembler

_ALU: Final[dict[int, tuple[Two, Memory, Two]]] = {
    # opcode: (with a register, with memory, with an immediate)
    0x6A: (A.add32_rr, A.add32_rm, A.add32_ri),
    0x6B: (A.sub32_rr, A.sub32_rm, A.sub32_ri),
    0x71: (A.and32_rr, A.and32_rm, A.and32_ri),
    0x72: (A.or32_rr, A.or32_rm, A.or32_ri),
    0x73: (A.xor32_rr, A.xor32_rm, A.xor32_ri),
    0x7C: (A.add64_rr, A.add64_rm, A.add64_ri),
    0x7D: (A.sub64_rr, A.sub64_rm, A.sub64_ri),
    0x83: (A.and64_rr, A.and64_rm, A.and64_ri),
    0x84: (A.or64_rr, A.or64_rm, A.or64_ri),
    0x85: (A.xor64_rr, A.xor64_rm, A.xor64_ri),
}
_SHIFTS: Final[dict[int, tuple[One, Two]]] = {
    # opcode: (by cl, by an immediate)
    0x74: (A.shl32_rc, A.shl32_ri),
    0x75: (A.sar32_rc, A.sar32_ri),
    0x76: (A.shr32_rc, A.shr32_ri),
    0x77: (A.rol32_rc, A.rol32_ri),
    0x78: (A.ror32_rc, A.ror32_ri),
    0x86: (A.shl64_rc, A.shl64_ri),
    0x87: (A.sar64_rc, A.sar64_ri),
    0x88: (A.shr64_rc, A.shr64_ri),
    0x89: (A.rol64_rc, A.rol64_ri),
    0x8A: (A.ror64_rc, A.ror64_ri),
}
_UNARY: Final[dict[int, Two]] = {
    0x67: A.lzcnt32_rr,
    0x68: A.tzcnt32_rr,
    0x69: A.popcnt32_rr,
    0x79: A.lzcnt64_rr,
    0x7A: A.tzcnt64_rr,
    0x7B: A.popcnt64_rr,
    0xA7: A.mov32_rr,
    0xAC: A.movsxd64_32_rr,
    0xAD: A.mov32_rr,
    0xC0: A.movsx32_8_rr,
    0xC1: A.movsx32_16_rr,
    0xC2: A.movsx64_8_rr,
    0xC3: A.movsx64_16_rr,
    0xC4: A.movsxd64_32_rr,
}
_LOADS: Final[dict[int, tuple[Memory, Indexed]]] = {
    # opcode: (at base + displacement, at base + index + displacement)
    0x28: (A.mov32_rm, A.mov32_rx),
    0x29: (A.mov64_rm, A.mov64_rx),
    0x2A: (A.movss_rm, A.movss_rx),
    0x2B: (A.movsd_rm, A.movsd_rx),
    0x2C: (A.movsx32_8_rm, A.movsx32_8_rx),
    0x2D: (A.movzx32_8_rm, A.movzx32_8_rx),
    0x2E: (A.movsx32_16_rm, A.movsx32_16_rx),
    0x2F: (A.movzx32_16_rm, A.movzx32_16_rx),
    0x30: (A.movsx64_8_rm, A.movsx64_8_rx),
    0x31: (A.movzx32_8_rm, A.movzx32_8_rx),
    0x32: (A.movsx64_16_rm, A.movsx64_16_rx),
    0x33: (A.movzx32_16_rm, A.movzx32_16_rx),
    0x34: (A.movsxd64_32_rm, A.movsxd64_32_rx),
    0x35: (A.mov32_rm, A.mov32_rx),
}
_STORES: Final[dict[int, tuple[Memory, Indexed]]] = {
    0x36: (A.mov32_mr, A.mov32_xr),
    0x37: (A.mov64_mr, A.mov64_xr),
    0x38: (A.movss_mr, A.movss_xr),
    0x39: (A.movsd_mr, A.movsd_xr),
    0x3A: (A.mov8_mr, A.mov8_xr),
    0x3B: (A.mov16_mr, A.mov16_xr),
    0x3C: (A.mov8_mr, A.mov8_xr),
    0x3D: (A.mov16_mr, A.mov16_xr),
    0x3E: (A.mov32_mr, A.mov32_xr),
}
_SET: Final[dict[int, One]] = {
    Condition.E: A.sete_r,
    Condition.NE: A.setne_r,
    Condition.L: A.setl_r,
    Condition.B: A.setb_r,
    Condition.G: A.setg_r,
    Condition.A: A.seta_r,
    Condition.LE: A.setle_r,
    Condition.BE: A.setbe_r,
    Condition.GE: A.setge_r,
    Condition.AE: A.setae_r,
}


class Integers(Moves):
    """Everything that works on general registers and memory."""

    trap_row: Callable[[int, str, int], None]
    """Called before an instruction that may fault: (value, kind of trap, place of the operand that tells more)."""
    trap_if: Callable[[int, int, str, int], None]

    def alu(self, step: Step, op: int) -> None:
        """add sub and or xor, two-address."""
        with_register, with_memory, with_immediate = _ALU[op]
        other = step.ins[1]
        if other < 0:
            with_immediate(self.a, step.out, self._immediate(step.value, op >= 0x7C))
        elif other >= SLOT:
            with_memory(self.a, step.out, *self.memory(other))
        else:
            with_register(self.a, step.out, other)

    def multiply(self, step: Step, op: int) -> None:
        """mul, two-address; by a constant, three."""
        a, is_64, other = self.a, op == 0x7E, step.ins[1]
        if other < 0:
            immediate = self._immediate(step.value, is_64)
            (a.imul64_rri if is_64 else a.imul32_rri)(step.out, step.out, immediate)
        elif other >= SLOT:
            (a.imul64_rm if is_64 else a.imul32_rm)(step.out, *self.memory(other))
        else:
            (a.imul64_rr if is_64 else a.imul32_rr)(step.out, other)

    def _immediate(self, value: int, is_64: bool) -> int:
        """The constant operand as the signed number that the encoder takes; it is the second if both are constants."""
        args = self.func.args[value]
        constant = args[1] if self.func.op[args[1]] == Op.CONST else args[0]
        bits = self.func.imm[constant]
        assert isinstance(bits, int)
        top = 64 if is_64 else 32
        return bits - (1 << top) if bits >> (top - 1) else bits

    def shift(self, step: Step, op: int) -> None:
        """shl shr_s shr_u rotl rotr: by cl, or by a constant."""
        by_cl, by_immediate = _SHIFTS[op]
        if step.ins[1] < 0:
            bits = self.func.imm[self.func.args[step.value][1]]
            assert isinstance(bits, int)
            by_immediate(self.a, step.out, bits & (63 if op >= 0x86 else 31))
        else:
            by_cl(self.a, step.out)

    def compare(self, step: Step, op: int) -> None:
        """Flags of the two operands of an integer comparison."""
        a, is_64 = self.a, op >= 0x51
        left, right = step.ins
        if right < 0:
            immediate = self._immediate(step.value, is_64)
            if immediate:
                (a.cmp64_ri if is_64 else a.cmp32_ri)(left, immediate)
            else:
                (a.test64_rr if is_64 else a.test32_rr)(left, left)
        elif right >= SLOT:
            (a.cmp64_rm if is_64 else a.cmp32_rm)(left, *self.memory(right))
        else:
            (a.cmp64_rr if is_64 else a.cmp32_rr)(left, right)

    def flag(self, condition: int, out: int) -> None:
        """0 or 1 by a condition."""
        _SET[condition](self.a, out)
        self.a.movzx32_8_rr(out, out)

    def divide(self, step: Step, op: int) -> None:
        """div and rem: rdx:rax by a register; the machine traps on zero and on overflow."""
        is_64 = op >= 0x7F
        kind = op - (0x7F if is_64 else 0x6D)  # div_s div_u rem_s rem_u
        divisor = step.ins[1]
        a = self.a
        done = -1
        if kind == 2:  # the least number rem -1 is 0 and no overflow
            general = a.label()
            done = a.label()
            (a.cmp64_ri if is_64 else a.cmp32_ri)(divisor, -1)
            a.jcc_l(Condition.NE, general)
            a.xor32_rr(Reg.RDX, Reg.RDX)
            a.jmp_l(done)
            a.bind(general)
        if kind in (0, 2):
            (a.cqo if is_64 else a.cdq)()
        else:
            a.xor32_rr(Reg.RDX, Reg.RDX)
        self.trap_row(step.value, "division", divisor)
        if kind in (0, 2):
            (a.idiv64_r if is_64 else a.idiv32_r)(divisor)
        else:
            (a.div64_r if is_64 else a.div32_r)(divisor)
        if done >= 0:
            a.bind(done)

    def unary(self, step: Step, op: int) -> None:
        """eqz, bit counts, extensions, wraps, reinterpretations."""
        a = self.a
        source, out = step.ins[0], step.out
        if op in (0x45, 0x50, 0xD1):
            (a.test32_rr if op == 0x45 else a.test64_rr)(source, source)
            self.flag(Condition.E, out)
        elif op == 0xBC:
            a.movd_rv(out, source - 16)
        elif op == 0xBD:
            a.movq_rv(out, source - 16)
        elif op == 0xBE:
            a.movd_vr(out - 16, source)
        elif op == 0xBF:
            a.movq_vr(out - 16, source)
        else:
            _UNARY[op](a, out, source)

    def access(self, step: Step, op: int) -> None:
        """A load or store: memory base + address + offset, with no check below 2 GiB of offset."""
        imm = self.func.imm[step.value]
        assert isinstance(imm, tuple)
        offset: int = imm[1]
        is_load = op <= 0x35
        data = step.out if is_load else step.ins[1]
        register = data - 16 if data >= 16 else data
        address = step.ins[0]
        a = self.a
        at_base, at_index = _LOADS[op] if is_load else _STORES[op]
        if address < 0:
            bits = self.func.imm[self.func.args[step.value][0]]
            assert isinstance(bits, int)
            self.trap_row(step.value, "memory", -1)
            if is_load:
                at_base(a, register, Reg.R14, bits + offset)
            else:
                at_base(a, Reg.R14, bits + offset, register)
            return
        if offset >= 1 << 31:
            a.mov32_ri(SCRATCH, offset)
            a.add64_rr(SCRATCH, address)
            a.cmp64_rm(SCRATCH, Reg.R15, MEMORY_BYTES)
            self.trap_if(step.value, Condition.AE, "memory", -1)
            address, offset = SCRATCH, 0
        self.trap_row(step.value, "memory", -1)
        if is_load:
            at_index(a, register, Reg.R14, address, 1, offset)
        else:
            at_index(a, Reg.R14, address, 1, offset, register)
