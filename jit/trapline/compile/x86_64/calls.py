"""Calls, and everything that reads or writes the instance: globals, tables, references, C functions.

Source: System V AMD64 ABI 1.0, 3.2 (calls of C functions).
"""

from __future__ import annotations

from trapline.arch.x86_64.assembler import Assembler, Condition, Reg
from trapline.compile.allocate import Step
from trapline.compile.instance import (
    MEMORY,
    MEMORY_BASE,
    MEMORY_SIZE_BYTES,
    RECORD_BLOCK,
    RECORD_ENTRY,
    RECORD_TYPE,
    TABLE_COUNT,
    TABLE_ELEMENTS,
)
from trapline.compile.ir import Func, Op
from trapline.compile.libcalls import HELPERS, TABLE_BOUNDS, helper_immediate
from trapline.compile.x86_64.floats import Floats
from trapline.compile.x86_64.layout import RESULT_WORD, SCRATCH, TABLE_INDEX, places
from trapline.compile.x86_64.target import Target
from trapline.wasm.types import F32, I32

__all__ = ["Calls"]

_PAGE_SHIFT = 16
_WIDE = 0x7FFF_FFFF
"""An immediate that gets its 4 bytes, to be filled in later."""


class Calls(Floats):
    """Everything that leaves the function or reads the instance block."""

    def __init__(self, assembler: Assembler, func: Func, target: Target) -> None:
        super().__init__(assembler, func, target)
        self.layout = target.layout
        self.entry = self.a.label()
        """The function's first instruction."""
        self.type_uses: list[tuple[int, int]] = []
        """(index of the piece whose last 4 bytes are a type's number, type index)."""

    # ---- calls ----

    def _enter(self, step: Step) -> None:
        """Call the function whose record r11 points at, in its own instance; back in ours."""
        a = self.a
        a.mov64_rm(Reg.R15, SCRATCH, RECORD_BLOCK)
        a.mov64_rm(Reg.R14, Reg.R15, MEMORY_BASE)
        a.call_m(SCRATCH, RECORD_ENTRY)
        self.trap_row(step.value, "call")
        a.mov64_rm(Reg.R15, Reg.RBP, -8)
        a.mov64_rm(Reg.R14, Reg.R15, MEMORY_BASE)

    def call(self, step: Step) -> None:
        """A function of the module by index: itself, one of its own, an imported one."""
        index = self.func.imm[step.value]
        assert isinstance(index, int)
        if index == self.func.index:
            self.a.call_l(self.entry)
        elif index >= self.layout.imported_functions:
            self.a.call_m(Reg.R15, self.layout.own_function(index) + RECORD_ENTRY)
        else:
            self.a.mov64_rm(SCRATCH, Reg.R15, self.layout.imported_function(index))
            self._enter(step)
            return
        self.trap_row(step.value, "call")

    def call_indirect(self, step: Step) -> None:
        """The function that a table holds, if it is of the type."""
        imm = self.func.imm[step.value]
        assert isinstance(imm, tuple)
        type_index, table = imm
        a = self.a
        a.mov64_rm(SCRATCH, Reg.R15, self.layout.table(table))
        a.cmp32_rm(TABLE_INDEX, SCRATCH, TABLE_COUNT)
        self.trap_if(step.value, Condition.AE, "undefined element")
        a.mov64_rm(SCRATCH, SCRATCH, TABLE_ELEMENTS)
        a.mov64_rx(SCRATCH, SCRATCH, TABLE_INDEX, 8, 0)
        a.test64_rr(SCRATCH, SCRATCH)
        self.trap_if(step.value, Condition.E, "uninitialized element")
        self.type_uses.append((len(a._pieces), type_index))
        a.cmp32_mi(SCRATCH, RECORD_TYPE, _WIDE)
        self.trap_if(step.value, Condition.NE, "indirect call type mismatch")
        self._enter(step)

    def result(self, step: Step) -> None:
        """A further result of a call: in its register already, or a word."""
        position = self.func.imm[step.value]
        assert isinstance(position, int)
        types = self.func.result_types_of[self.func.args[step.value][0]]
        place = places(types, RESULT_WORD)[position]
        if place >= RESULT_WORD:
            self.load(step.out, Reg.RSP, 8 * (place - RESULT_WORD), types[position])

    # ---- C functions ----

    def library(self, step: Step) -> None:
        """An opcode on memories, tables or segments."""
        imm = self.func.imm[step.value]
        assert isinstance(imm, tuple)
        code, immediate = imm
        if code == 0x3F:
            self.a.mov64_rm(step.out, Reg.R15, MEMORY)
            self.a.mov64_rm(step.out, step.out, MEMORY_SIZE_BYTES)
            self.a.shr64_ri(step.out, _PAGE_SHIFT)
        elif code == 0xFC10:
            self.a.mov64_rm(step.out, Reg.R15, self.layout.table(immediate))
            self.a.mov32_rm(step.out, step.out, TABLE_COUNT)
        elif code in (0x25, 0x26):
            self._element(step, immediate)
        else:
            called = HELPERS[code]
            number = helper_immediate(code, immediate)
            if number >= 0:
                self.integer(Reg.R8, number)
            self.a.mov64_rr(Reg.RDI, Reg.R15)
            self.call_helper(step.value, called.helper)
            if called.trap:
                self.a.test32_rr(Reg.RAX, Reg.RAX)
                self.trap_if(step.value, Condition.NE, called.trap)

    def _element(self, step: Step, table: int) -> None:
        """table.get and table.set."""
        a, index = self.a, step.ins[0]
        a.mov64_rm(SCRATCH, Reg.R15, self.layout.table(table))
        a.cmp32_rm(index, SCRATCH, TABLE_COUNT)
        self.trap_if(step.value, Condition.AE, TABLE_BOUNDS)
        a.mov64_rm(SCRATCH, SCRATCH, TABLE_ELEMENTS)
        if step.out >= 0:
            a.mov64_rx(step.out, SCRATCH, index, 8, 0)
        else:
            a.mov64_xr(SCRATCH, index, 8, 0, step.ins[1])

    # ---- globals and references ----

    def instance(self, step: Step, op: int) -> None:
        """global.get, global.set and ref.func."""
        a, index = self.a, self.func.imm[step.value]
        assert isinstance(index, int)
        layout = self.layout
        if op == Op.REF_FUNC:
            if index < layout.imported_functions:
                a.mov64_rm(step.out, Reg.R15, layout.imported_function(index))
            else:
                a.lea64_rm(step.out, Reg.R15, layout.own_function(index))
            return
        if index < layout.imported_globals:
            a.mov64_rm(SCRATCH, Reg.R15, layout.imported_global(index))
            base, displacement = SCRATCH, 0
        else:
            base, displacement = Reg.R15, layout.own_global(index)
        if op == Op.GLOBAL_GET:
            self.load(step.out, base, displacement, self.func.type[step.value])
            return
        value = self.func.args[step.value][0]
        if step.ins[0] >= 0:
            self.store(base, displacement, step.ins[0], self.func.type[value])
            return
        bits = self.func.imm[value]
        assert isinstance(bits, int)
        if self.func.type[value] in (I32, F32):
            a.mov32_mi(base, displacement, bits)
        else:
            a.mov64_mi(base, displacement, bits - (1 << 64) if bits >> 63 else bits)
