"""Integer operations, comparisons, loads and stores, in bytes.

Source: Intel SDM volume 2, by instruction; core specification 4.3.2 for what must come out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from trapline.arch.x86_64.assembler import Condition, Reg
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

_NAMES: Final = {0: "add", 1: "sub", 7: "and", 8: "or", 9: "xor"}
_LOADS: Final = {
    0x28: "mov32_r",
    0x29: "mov64_r",
    0x2A: "movss_r",
    0x2B: "movsd_r",
    0x2C: "movsx32_8_r",
    0x2D: "movzx32_8_r",
    0x2E: "movsx32_16_r",
    0x2F: "movzx32_16_r",
    0x30: "movsx64_8_r",
    0x31: "movzx32_8_r",
    0x32: "movsx64_16_r",
    0x33: "movzx32_16_r",
    0x34: "movsxd64_32_r",
    0x35: "mov32_r",
}
_STORES: Final = {
    0x36: "mov32",
    0x37: "mov64",
    0x38: "movss",
    0x39: "movsd",
    0x3A: "mov8",
    0x3B: "mov16",
    0x3C: "mov8",
    0x3D: "mov16",
    0x3E: "mov32",
}


class Integers(Moves):
    """Everything that works on general registers and memory."""

    trap_row: Callable[[int, str, int], None]
    """Called before an instruction that may fault: (value, kind of trap, place of the operand that tells more)."""
    trap_if: Callable[[int, int, str, int], None]

    def alu(self, step: Step, op: int) -> None:
        """add sub mul and or xor, two-address."""
        is_64 = op >= 0x7C
        first = 0x7C if is_64 else 0x6A
        width = "64" if is_64 else "32"
        other = step.ins[1]
        a: Any = self.a
        if op - first == 2:
            if other < 0:
                a_imm = self._immediate(step.value, 1, is_64)
                getattr(a, f"imul{width}_rri")(step.out, step.out, a_imm)
            elif other >= SLOT:
                getattr(a, f"imul{width}_rm")(step.out, *self.memory(other))
            else:
                getattr(a, f"imul{width}_rr")(step.out, other)
            return
        name = f"{_NAMES[op - first]}{width}"
        if other < 0:
            getattr(a, f"{name}_ri")(step.out, self._immediate(step.value, 1, is_64))
        elif other >= SLOT:
            getattr(a, f"{name}_rm")(step.out, *self.memory(other))
        else:
            getattr(a, f"{name}_rr")(step.out, other)

    def _immediate(self, value: int, position: int, is_64: bool) -> int:
        """A constant operand as the signed number that the encoder takes."""
        args = self.func.args[value]
        constant = args[position] if self.func.op[args[position]] == Op.CONST else args[1 - position]
        bits = self.func.imm[constant]
        assert isinstance(bits, int)
        top = 64 if is_64 else 32
        return bits - (1 << top) if bits >> (top - 1) else bits

    def shift(self, step: Step, op: int) -> None:
        """shl shr_s shr_u rotl rotr: by cl, or by a constant."""
        is_64 = op >= 0x86
        name = ("shl", "sar", "shr", "rol", "ror")[op - (0x86 if is_64 else 0x74)] + ("64" if is_64 else "32")
        a: Any = self.a
        if step.ins[1] < 0:
            bits = self.func.imm[self.func.args[step.value][1]]
            assert isinstance(bits, int)
            getattr(a, f"{name}_ri")(step.out, bits & (63 if is_64 else 31))
        else:
            getattr(a, f"{name}_rc")(step.out)

    def compare(self, step: Step, op: int) -> None:
        """Flags of the two operands of an integer comparison."""
        is_64 = op >= 0x51
        name = "cmp64" if is_64 else "cmp32"
        left, right = step.ins
        a: Any = self.a
        if right < 0:
            immediate = self._immediate(step.value, 1, is_64)
            if immediate:
                getattr(a, f"{name}_ri")(left, immediate)
            else:
                getattr(a, "test64_rr" if is_64 else "test32_rr")(left, left)
        elif right >= SLOT:
            getattr(a, f"{name}_rm")(left, *self.memory(right))
        else:
            getattr(a, f"{name}_rr")(left, right)

    def flag(self, condition: int, out: int) -> None:
        """0 or 1 by a condition."""
        names = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
        a: Any = self.a
        getattr(a, f"set{names[condition]}_r")(out)
        a.movzx32_8_rr(out, out)

    def divide(self, step: Step, op: int) -> None:
        """div and rem: rdx:rax by a register; the machine traps on zero and on overflow."""
        is_64 = op >= 0x7F
        kind = op - (0x7F if is_64 else 0x6D)  # div_s div_u rem_s rem_u
        width = "64" if is_64 else "32"
        divisor = step.ins[1]
        a: Any = self.a
        done = -1
        if kind == 2:  # the least number rem -1 is 0 and no overflow
            general = a.label()
            done = a.label()
            getattr(a, f"cmp{width}_ri")(divisor, -1)
            a.jcc_l(Condition.NE, general)
            a.xor32_rr(Reg.RDX, Reg.RDX)
            a.jmp_l(done)
            a.bind(general)
        if kind in (0, 2):
            a.cqo() if is_64 else a.cdq()
        else:
            a.xor32_rr(Reg.RDX, Reg.RDX)
        self.trap_row(step.value, "division", divisor)
        getattr(a, f"{'idiv' if kind in (0, 2) else 'div'}{width}_r")(divisor)
        if done >= 0:
            a.bind(done)

    def unary(self, step: Step, op: int) -> None:
        """eqz, bit counts, extensions, wraps, reinterpretations."""
        a: Any = self.a
        source, out = step.ins[0], step.out
        if op in (0x45, 0x50, 0xD1):
            (a.test32_rr if op == 0x45 else a.test64_rr)(source, source)
            self.flag(Condition.E, out)
        elif op in (0x67, 0x68, 0x69, 0x79, 0x7A, 0x7B):
            name = ("lzcnt", "tzcnt", "popcnt")[(op - 0x67) % 18]
            getattr(a, f"{name}{64 if op >= 0x79 else 32}_rr")(out, source)
        elif op in (0xA7, 0xAD):
            a.mov32_rr(out, source)
        elif op in (0xAC, 0xC4):
            a.movsxd64_32_rr(out, source)
        elif op == 0xBC:
            a.movd_rv(out, source - 16)
        elif op == 0xBD:
            a.movq_rv(out, source - 16)
        elif op == 0xBE:
            a.movd_vr(out - 16, source)
        elif op == 0xBF:
            a.movq_vr(out - 16, source)
        else:
            names = {0xC0: "movsx32_8", 0xC1: "movsx32_16", 0xC2: "movsx64_8", 0xC3: "movsx64_16"}
            getattr(a, f"{names[op]}_rr")(out, source)

    def access(self, step: Step, op: int) -> None:
        """A load or store: memory base + address + offset, with no check below 2 GiB of offset."""
        imm = self.func.imm[step.value]
        assert isinstance(imm, tuple)
        offset: int = imm[1]
        is_load = op <= 0x35
        data = step.out if is_load else step.ins[1]
        register = data - 16 if data >= 16 else data
        address = step.ins[0]
        a: Any = self.a
        if address < 0:
            bits = self.func.imm[self.func.args[step.value][0]]
            assert isinstance(bits, int)
            place: tuple[int, ...] = (Reg.R14, bits + offset)
            suffix = "m"
        elif offset < 1 << 31:
            place, suffix = (Reg.R14, address, 1, offset), "x"
        else:
            a.mov32_ri(SCRATCH, offset)
            a.add64_rr(SCRATCH, address)
            a.cmp64_rm(SCRATCH, Reg.R15, MEMORY_BYTES)
            self.trap_if(step.value, Condition.AE, "memory", -1)
            place, suffix = (Reg.R14, SCRATCH, 1, 0), "x"
        self.trap_row(step.value, "memory", -1)
        if is_load:
            getattr(a, _LOADS[op] + suffix)(register, *place)
        else:
            getattr(a, f"{_STORES[op]}_{suffix}r")(*place, register)
