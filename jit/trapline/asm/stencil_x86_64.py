"""x86-64 stencils patched into bytes, and the memo tables the encoders read.

Source: Intel SDM volume 2, section 2.1 (ModRM, SIB), 2.2.1 (REX), 2.3 (VEX).
"""

from __future__ import annotations

from typing import Final

from trapline.asm.forms import X86Stencil
from trapline.errors import AssemblyError

_MEMO_LIMIT: Final = 1 << 16
_SCALES: Final = {1: 0, 2: 1, 4: 2, 8: 3}
_REGISTER_KINDS: Final = frozenset(("r8", "r16", "r32", "r64", "xmm", "ymm"))


def is_register(kind: str) -> bool:
    """Whether an operand of this kind is a register."""
    return kind in _REGISTER_KINDS


def is_memory(kind: str) -> bool:
    """Whether an operand of this kind is memory."""
    return kind[0] == "m"


def head_bytes(stencil: X86Stencil, registers: tuple[int, ...], rm_high: int, index_high: int) -> tuple[bytes, int]:
    """Everything before the ModRM byte, and the ModRM.reg field.

    `registers` are by operand position (0 for those that are no register); `rm_high` and `index_high` are bit 3
    of the register in ModRM.rm or SIB.base, and in SIB.index.
    """
    reg = registers[stencil.reg] if stencil.reg >= 0 else max(stencil.digit, 0)
    if stencil.vex is not None:
        pp, opcode_map, wide, length = stencil.vex
        vvvv = registers[stencil.vvvv] if stencil.vvvv >= 0 else 0
        low = (~vvvv & 15) << 3 | length << 2 | pp
        if opcode_map == 1 and not wide and not rm_high and not index_high:
            return bytes((0xC5, (reg >> 3 ^ 1) << 7 | low)) + stencil.opcode, reg & 7
        second = (reg >> 3 ^ 1) << 7 | (index_high ^ 1) << 6 | (rm_high ^ 1) << 5 | opcode_map
        return bytes((0xC4, second, wide << 7 | low)) + stencil.opcode, reg & 7
    opcode = stencil.opcode
    if stencil.plus >= 0:
        number = registers[stencil.plus]
        rm_high = number >> 3
        opcode = opcode[:-1] + bytes((opcode[-1] | number & 7,))
    rex = stencil.wide << 3 | (reg >> 3) << 2 | index_high << 1 | rm_high
    needed = rex != 0
    for position, kind in enumerate(stencil.kinds):
        if kind == "r8" and 4 <= registers[position] <= 7:  # spl bpl sil dil; without REX they are ah ch dh bh
            needed = True
    middle = bytes((0x40 | rex,)) if needed else b""
    return stencil.prefixes + middle + opcode, reg & 7


def _address(base: int, index: int, scale: int, displacement: int | None) -> tuple[int, bytes]:
    """ModRM.mod and rm, and SIB with displacement; `displacement` None leaves room for 32 bits behind."""
    if displacement is None:
        mod, tail = 2, b""
    elif displacement == 0 and base & 7 != 5:
        mod, tail = 0, b""
    else:
        mod, tail = 1, displacement.to_bytes(1, "little", signed=True)
    if index < 0 and base & 7 != 4:
        return mod << 6 | base & 7, tail
    sib = _SCALES[scale] << 6 | (index & 7 if index >= 0 else 4) << 3 | base & 7
    return mod << 6 | 4, bytes((sib,)) + tail


class Memo(dict[tuple[int, ...], bytes]):
    """The bytes of one form by operands, made when first asked for.

    A key holds the registers in operand order, then the immediate if the form has one of a byte and no memory.
    For memory there follow, told apart by their number: nothing (rip-relative, without the displacement); base
    (the displacement of 32 bits follows the bytes); base and a displacement of 8 bits; base, index, scale; base,
    index, scale and a displacement of 8 bits. Immediates of memory forms follow the bytes.
    """

    __slots__ = ("stencil",)

    def __init__(self, stencil: X86Stencil) -> None:
        self.stencil = stencil

    def __missing__(self, key: tuple[int, ...]) -> bytes:
        code = self._make(key)
        if len(self) < _MEMO_LIMIT:
            self[key] = code
        return code

    def _refuse(self, key: tuple[int, ...]) -> AssemblyError:
        return AssemblyError(
            f"{self.stencil.name}: found the operands {key}, expected {' '.join(self.stencil.kinds)}"
            " with registers 0 to 15, scale 1, 2, 4 or 8, an index other than rsp and immediates in range"
        )

    def _make(self, key: tuple[int, ...]) -> bytes:
        stencil = self.stencil
        registers: list[int] = []
        at = 0
        for kind in stencil.kinds:
            if is_register(kind):
                registers.append(key[at])
                if not 0 <= key[at] <= 15:
                    raise self._refuse(key)
                at += 1
            else:
                registers.append(0)
        rest = key[at:]
        if not any(map(is_memory, stencil.kinds)):
            rm = registers[stencil.rm] if stencil.rm >= 0 else 0
            head, reg = head_bytes(stencil, tuple(registers), rm >> 3, 0)
            if stencil.digit >= 0 or stencil.reg >= 0:
                head += bytes((0xC0 | reg << 3 | rm & 7,))
            if stencil.immediate_bytes == 1:
                low = 0 if "u8" in stencil.kinds else -128
                high = 255 if "u8" in stencil.kinds or "i8" in stencil.kinds else 127  # else it is sign-extended
                if not low <= rest[0] <= high:
                    raise self._refuse(key)
                head += bytes((rest[0] & 255,))
            return head
        if not rest:
            head, reg = head_bytes(stencil, tuple(registers), 0, 0)
            return head + bytes((reg << 3 | 5,))
        base = rest[0]
        index, scale = (rest[1], rest[2]) if len(rest) > 2 else (-1, 1)
        wrong = not 0 <= base <= 15 or scale not in _SCALES
        if len(rest) > 2 and (not 0 <= index <= 15 or index == 4):
            wrong = True
        if wrong:
            raise self._refuse(key)
        displacement = rest[-1] if len(rest) in (2, 4) else None
        head, reg = head_bytes(stencil, tuple(registers), base >> 3, index >> 3 if index >= 0 else 0)
        modrm, tail = _address(base, index, scale, displacement)
        return head + bytes((modrm | reg << 3,)) + tail


def _ranged(value: int, low: int, high: int, size_bytes: int) -> bytes:
    if not low <= value <= high:
        raise AssemblyError(f"found the immediate {value:#x}, expected {low:#x} to {high:#x}")
    return (value & ((1 << 8 * size_bytes) - 1)).to_bytes(size_bytes, "little")


def i16(value: int) -> bytes:
    """Two bytes, signed or not."""
    return _ranged(value, -(1 << 15), (1 << 16) - 1, 2)


def i32(value: int) -> bytes:
    """Four bytes, signed or not."""
    return _ranged(value, -(1 << 31), (1 << 32) - 1, 4)


def s32(value: int) -> bytes:
    """Four bytes that are sign-extended: displacements and immediates of 64-bit operations."""
    try:
        return value.to_bytes(4, "little", signed=True)
    except OverflowError:
        raise AssemblyError(f"found the number {value:#x}, expected -0x80000000 to 0x7fffffff") from None


def i64(value: int) -> bytes:
    """Eight bytes, signed or not."""
    return _ranged(value, -(1 << 63), (1 << 64) - 1, 8)


class ByteTable(dict[int, bytes]):
    """The numbers of [low, high] as one byte each; any other raises AssemblyError."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__({value: bytes((value & 255,)) for value in range(low, high + 1)})
        self.low = low
        self.high = high

    def __missing__(self, value: int) -> bytes:
        raise AssemblyError(f"found the immediate {value}, expected {self.low} to {self.high}")


I8: Final = ByteTable(-128, 255)
U8: Final = ByteTable(0, 255)
