"""The memory operand: one description of an access for disassembly, relocation and the debugger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_MASK_64 = 0xFFFF_FFFF_FFFF_FFFF


def _full_name(register: str) -> str:
    """The name of the full-width register that `register` is the low half of."""
    if register[0] == "w" and register[1:].isdigit():
        return "x" + register[1:]
    if register.startswith("r") and register.endswith("d") and register[1:-1].isdigit():
        return register[:-1]
    if register.startswith("e") and register != "es":
        return "r" + register[1:]
    return register


@dataclass(frozen=True, slots=True)
class MemoryOperand:
    """``segment:[base + index * scale + displacement]``, `size_bytes` long; 0 if the machine decides.

    `base` may be "rip": the address of the next instruction. On aarch64 `extend` says how a 32-bit `index` is
    widened ("uxtw" or "sxtw"), `writeback` is what is added to the base register by the access, and a literal
    load has no base and its offset from the instruction itself as `displacement` with `pc_relative` set.
    """

    segment: str | None
    base: str | None
    index: str | None
    scale: int
    displacement: int
    size_bytes: int
    reads: bool
    writes: bool
    extend: str | None = None
    writeback: int = 0
    pc_relative: bool = False

    def effective_address(self, registers: Mapping[str, int], next_address: int) -> int:
        """The address this operand names; see `Decoded.memory_address`."""
        value = self.displacement
        narrow = False
        if self.pc_relative:
            value += next_address - 4
        elif self.base in ("rip", "eip"):
            value += next_address
            narrow = self.base == "eip"
        elif self.base is not None:
            value += registers[_full_name(self.base)]
            narrow = self.base != _full_name(self.base)
        if self.index is not None and self.index not in ("xzr", "wzr"):
            index = registers[_full_name(self.index)]
            if self.extend == "uxtw":
                index &= 0xFFFF_FFFF
            elif self.extend == "sxtw":
                index = ((index & 0xFFFF_FFFF) ^ 0x8000_0000) - 0x8000_0000
            elif self.extend is None and self.index != _full_name(self.index):
                narrow = True
            value += index * self.scale
        if narrow:
            value &= 0xFFFF_FFFF
        if self.segment is not None:
            value += registers[f"{self.segment}_base"]
        return value & _MASK_64
