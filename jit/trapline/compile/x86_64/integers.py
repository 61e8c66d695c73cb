"""Integer operations, comparisons, loads and stores, in bytes.

Source: Intel SDM volume 2, by instruction; core specification 4.3.2 for what must come out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trapline.arch.x86_64.assembler import Assembler, Condition, Reg
from trapline.compile.allocate import SLOT, Step
from trapline.compile.instance import MEMORY, MEMORY_SIZE_BYTES
from trapline.compile.ir import Op
from trapline.compile.libcalls import MEMORY_BOUNDS
from trapline.compile.x86_64.layout import SCRATCH
from trapline.compile.x86_64.moves import Moves

__all__ = ["ACCESS_BYTES", "CONDITIONS", "Integers"]

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
Based = Callable[[Assembler, int, int, int], None]
IndexedImmediate = Callable[[Assembler, int, int, int, int, int], None]
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
    0xA7: A.mov32_rr,
    0xAC: A.movsxd64_32_rr,
    0xC0: A.movsx32_8_rr,
    0xC1: A.movsx32_16_rr,
    0xC2: A.movsx64_8_rr,
    0xC3: A.movsx64_16_rr,
    0xC4: A.movsxd64_32_rr,
}
_COUNTS: Final[dict[int, tuple[str, Two]]] = {
    # opcode: (the feature that has it, the instruction)
    0x67: ("lzcnt", A.lzcnt32_rr),
    0x68: ("bmi1", A.tzcnt32_rr),
    0x69: ("popcnt", A.popcnt32_rr),
    0x79: ("lzcnt", A.lzcnt64_rr),
    0x7A: ("bmi1", A.tzcnt64_rr),
    0x7B: ("popcnt", A.popcnt64_rr),
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
_STORES_OF_CONSTANTS: Final[dict[int, tuple[int, Based, IndexedImmediate]]] = {
    # opcode: (bits of it that are stored, at base + displacement, at base + index + displacement)
    0x36: (32, A.mov32_mi, A.mov32_xi),
    0x37: (64, A.mov64_mi, A.mov64_xi),
    0x38: (32, A.mov32_mi, A.mov32_xi),
    0x39: (64, A.mov64_mi, A.mov64_xi),
    0x3A: (8, A.mov8_mi, A.mov8_xi),
    0x3B: (16, A.mov16_mi, A.mov16_xi),
    0x3C: (8, A.mov8_mi, A.mov8_xi),
    0x3D: (16, A.mov16_mi, A.mov16_xi),
    0x3E: (32, A.mov32_mi, A.mov32_xi),
}
ACCESS_BYTES: Final = dict(
    zip(range(0x28, 0x3F), (4, 8, 4, 8, 1, 1, 2, 2, 1, 1, 2, 2, 4, 4, 4, 8, 4, 8, 1, 2, 1, 2, 4), strict=True)
)
"""How much each load and store touches."""
_MOST_SUBTRACTED: Final = (1 << 31) - 1
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

    def alu(self, step: Step, op: int) -> None:
        """add sub and or xor, two-address."""
        with_register, with_memory, with_immediate = _ALU[op]
        other = step.ins[1]
        if other < 0:
            immediate = self._immediate(step.value, op >= 0x7C)
            if op == 0x83 and immediate >= 0:
                self.a.and32_ri(step.out, immediate)  # the upper half becomes zero either way
            else:
                with_immediate(self.a, step.out, immediate)
        elif other >= SLOT:
            with_memory(self.a, step.out, *self.memory(other))
        else:
            with_register(self.a, step.out, other)

    def has_three_operands(self, step: Step, op: int) -> bool:
        """Whether `apart` can do a two-address step without the move of its first operand."""
        other = step.ins[1]
        if op in (0x6A, 0x7C):
            return other < SLOT
        if other >= 0:
            return False
        if op in (0x6B, 0x7D):
            return self._immediate(step.value, op == 0x7D) != -(1 << 31)
        return op in (0x6C, 0x7E)

    def apart(self, step: Step, op: int, first: int) -> None:
        """add, sub and mul into another register than that of the first operand."""
        a, out, other = self.a, step.out, step.ins[1]
        is_64 = op >= 0x7C
        if op in (0x6C, 0x7E):
            (a.imul64_rri if is_64 else a.imul32_rri)(out, first, self._immediate(step.value, is_64))
        elif other >= 0:
            (a.lea64_rx if is_64 else a.lea32_rx)(out, first, other, 1, 0)
        else:
            immediate = self._immediate(step.value, is_64)
            (a.lea64_rm if is_64 else a.lea32_rm)(out, first, -immediate if op in (0x6B, 0x7D) else immediate)

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

    def comparison(self, step: Step, op: int) -> None:
        """0 or 1 by an integer comparison; the register is cleared before where the operands allow it."""
        condition = CONDITIONS[op - (0x51 if op >= 0x51 else 0x46)]
        if step.out in step.ins:
            self.compare(step, op)
            self.flag(condition, step.out)
        else:
            self.a.xor32_rr(step.out, step.out)
            self.compare(step, op)
            _SET[condition](self.a, step.out)

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
            if out != source:
                a.xor32_rr(out, out)
            (a.test32_rr if op == 0x45 else a.test64_rr)(source, source)
            if out != source:
                a.sete_r(out)
            else:
                self.flag(Condition.E, out)
        elif op == 0xAD:
            assert out == source, "extend_i32_u finds zeros above its operand"
        elif op == 0xBC:
            a.movd_rv(out, source - 16)
        elif op == 0xBD:
            a.movq_rv(out, source - 16)
        elif op == 0xBE:
            a.movd_vr(out - 16, source)
        elif op == 0xBF:
            a.movq_vr(out - 16, source)
        elif op in _COUNTS:
            feature, instruction = _COUNTS[op]
            if getattr(self.target.features, feature):
                instruction(a, out, source)
            else:
                self._count(op, out, source)
        else:
            _UNARY[op](a, out, source)

    def _count(self, op: int, out: int, source: int) -> None:
        """Bit counts of the baseline: BSR and BSF, which leave the flag to tell 0, and a count by halves."""
        a, is_64 = self.a, op >= 0x79
        if op in (0x69, 0x7B):
            self._population(is_64, out, source)
        elif op in (0x67, 0x79):
            a.mov32_ri(SCRATCH, 127 if is_64 else 63)
            (a.bsr64_rr if is_64 else a.bsr32_rr)(out, source)
            (a.cmove64_rr if is_64 else a.cmove32_rr)(out, SCRATCH)
            a.xor32_ri(out, 63 if is_64 else 31)
        else:
            a.mov32_ri(SCRATCH, 64 if is_64 else 32)
            (a.bsf64_rr if is_64 else a.bsf32_rr)(out, source)
            (a.cmove64_rr if is_64 else a.cmove32_rr)(out, SCRATCH)

    def _population(self, is_64: bool, out: int, source: int) -> None:
        """Sums of 2, 4 and 8 bits side by side, then all of them by a multiplication."""
        a = self.a

        def mask(byte: int) -> int:
            return a.constant(bytes([byte]) * 8)

        move, shift = (a.mov64_rr, a.shr64_ri) if is_64 else (a.mov32_rr, a.shr32_ri)
        move(SCRATCH, source)
        if out != source:
            move(out, source)
        shift(SCRATCH, 1)
        a.and64_rp(SCRATCH, mask(0x55))
        a.sub64_rr(out, SCRATCH)
        a.mov64_rr(SCRATCH, out)
        a.shr64_ri(SCRATCH, 2)
        a.and64_rp(SCRATCH, mask(0x33))
        a.and64_rp(out, mask(0x33))
        a.add64_rr(out, SCRATCH)
        a.mov64_rr(SCRATCH, out)
        a.shr64_ri(SCRATCH, 4)
        a.add64_rr(out, SCRATCH)
        a.and64_rp(out, mask(0x0F))
        a.imul64_rp(out, mask(0x01))
        a.shr64_ri(out, 56)

    # ---- memory ----

    def access(self, step: Step, op: int) -> None:
        """A load or store: memory base + address + offset."""
        imm = self.func.imm[step.value]
        assert isinstance(imm, tuple)
        address, offset = step.ins[0], int(imm[1])
        base, index = Reg.R14, -1
        if address < 0:  # a constant
            bits = self.func.imm[self.func.args[step.value][0]]
            assert isinstance(bits, int)
            offset += bits
            if self.target.checked:
                self._check_constant(step, offset + ACCESS_BYTES[op])
        else:
            index = address
            if self.target.checked or offset >= 1 << 31:
                self._check(step, address, offset + ACCESS_BYTES[op])
            if offset >= 1 << 31:
                self.a.mov32_ri(SCRATCH, offset)
                self.a.add64_rr(SCRATCH, address)
                index, offset = SCRATCH, 0
        self.trap_row(step.value, "memory")
        if op > 0x35 and step.ins[1] < 0:
            self._store_constant(step, op, base, index, offset)
            return
        data = step.out if op <= 0x35 else step.ins[1]
        register = data - 16 if data >= 16 else data
        a = self.a
        if op <= 0x35:
            at_base, at_index = _LOADS[op]
            if index < 0:
                at_base(a, register, base, offset)
            else:
                at_index(a, register, base, index, 1, offset)
        else:
            at_base, at_index = _STORES[op]
            if index < 0:
                at_base(a, base, offset, register)
            else:
                at_index(a, base, index, 1, offset, register)

    def _store_constant(self, step: Step, op: int, base: int, index: int, offset: int) -> None:
        bits = self.func.imm[self.func.args[step.value][1]]
        assert isinstance(bits, int)
        width, at_base, at_index = _STORES_OF_CONSTANTS[op]
        bits &= (1 << width) - 1
        if bits >> (width - 1):
            bits -= 1 << width
        if index < 0:
            at_base(self.a, base, offset, bits)
        else:
            at_index(self.a, base, index, 1, offset, bits)

    def _check(self, step: Step, address: int, extent_bytes: int) -> None:
        """A trap unless address + extent, of up to 34 bits, is at most the size of the memory."""
        a = self.a
        a.mov64_rm(SCRATCH, Reg.R15, MEMORY)
        a.mov64_rm(SCRATCH, SCRATCH, MEMORY_SIZE_BYTES)
        fits = extent_bytes <= self.target.layout.memory_minimum_bytes
        while extent_bytes:
            part = min(extent_bytes, _MOST_SUBTRACTED)
            a.sub64_ri(SCRATCH, part)
            if not fits:
                self.trap_if(step.value, Condition.B, MEMORY_BOUNDS)
            extent_bytes -= part
        a.cmp64_rr(address, SCRATCH)
        self.trap_if(step.value, Condition.A, MEMORY_BOUNDS)

    def _check_constant(self, step: Step, extent_bytes: int) -> None:
        """The same where the address is known: nothing that the memory has from the beginning needs a check."""
        if extent_bytes > self.target.layout.memory_minimum_bytes:
            self.a.mov64_rm(SCRATCH, Reg.R15, MEMORY)
            self.a.cmp64_mi(SCRATCH, MEMORY_SIZE_BYTES, extent_bytes)
            self.trap_if(step.value, Condition.B, MEMORY_BOUNDS)
