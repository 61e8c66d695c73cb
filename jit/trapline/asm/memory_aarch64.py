"""The memory operand of an aarch64 instruction, read from its word.

Source: Arm ARM (DDI 0487) section C4.1.94, "Loads and Stores", whose classes the branches below follow.
"""

from __future__ import annotations

from trapline.asm.operands import MemoryOperand


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _x_or_sp(number: int) -> str:
    return "sp" if number == 31 else f"x{number}"


def _operand(
    base: str | None,
    displacement: int,
    size_bytes: int,
    reads: bool,
    writes: bool,
    *,
    index: str | None = None,
    scale: int = 1,
    extend: str | None = None,
    writeback: int = 0,
    pc_relative: bool = False,
) -> MemoryOperand:
    return MemoryOperand(
        None, base, index, scale, displacement, size_bytes, reads, writes, extend, writeback, pc_relative
    )


def _structure(word: int, base: str) -> MemoryOperand | None:
    """ld1 to ld4 and st1 to st4."""
    load = bool(word >> 22 & 1)
    quad = word >> 30 & 1
    opcode = word >> 12 & 15
    if word >> 24 & 1 == 0:  # whole registers
        count = {0: 4, 2: 4, 4: 3, 6: 3, 7: 1, 8: 2, 10: 2}.get(opcode)
        if count is None:
            return None
        size_bytes = count * (16 if quad else 8)
    else:  # one lane, or one element replicated
        lanes = ((opcode >> 1 & 1) << 1 | (word >> 21 & 1)) + 1
        width = opcode >> 2
        if width == 3:
            element = 1 << (word >> 10 & 3)
        elif width == 2:
            element = 8 if word >> 10 & 1 else 4
        else:
            element = 1 << width
        size_bytes = lanes * element
    post = 0
    if word >> 23 & 1 and word >> 16 & 31 == 31:
        post = size_bytes
    return _operand(base, 0, size_bytes, load, not load, writeback=post)


def _exclusive(word: int, base: str) -> MemoryOperand:
    """ldxr, stxr, ldar, stlr, ldxp, stxp, cas, casp and kin."""
    size_bytes = 1 << (word >> 30)
    ordered, load, pair = word >> 23 & 1, bool(word >> 22 & 1), word >> 21 & 1
    if pair and not ordered:
        if word >> 31 == 0:  # casp
            return _operand(base, 0, 2 * (4 << (word >> 30 & 1)), True, True)
        return _operand(base, 0, 2 * size_bytes, load, not load)
    if pair:  # cas
        return _operand(base, 0, size_bytes, True, True)
    return _operand(base, 0, size_bytes, load, not load)


def _single(word: int, base: str) -> MemoryOperand | None:
    """ldr, str, their unscaled, indexed and register forms, and the atomics."""
    size, vector, opc = word >> 30, word >> 26 & 1, word >> 22 & 3
    if vector:
        size_bytes = 16 if opc & 2 else 1 << size
        load = bool(opc & 1)
    else:
        size_bytes = 1 << size
        load = opc != 0
        if size == 3 and opc == 2 and (word >> 24 & 1 or word >> 10 & 3 in (0, 2)) and not _is_atomic(word):
            return None  # prfm: reads nothing that a program can see
    if word >> 24 & 1:
        shift = size_bytes.bit_length() - 1
        return _operand(base, (word >> 10 & 0xFFF) << shift, size_bytes, load, not load)
    mode = word >> 10 & 3
    if word >> 21 & 1 == 0:
        offset = _signed(word >> 12, 9)
        if mode == 1:  # post-indexed
            return _operand(base, 0, size_bytes, load, not load, writeback=offset)
        writeback = offset if mode == 3 else 0
        return _operand(base, offset, size_bytes, load, not load, writeback=writeback)
    if mode == 0:
        if vector:
            return None
        acquire_only = word >> 12 & 15 == 12  # ldapr
        return _operand(base, 0, 1 << size, True, not acquire_only)
    if mode == 2:
        option, scaled = word >> 13 & 7, word >> 12 & 1
        number = word >> 16 & 31
        narrow = not option & 1
        prefix = "w" if narrow else "x"
        index = f"{prefix}zr" if number == 31 else f"{prefix}{number}"
        extend = {2: "uxtw", 6: "sxtw"}.get(option)
        return _operand(
            base, 0, size_bytes, load, not load, index=index, scale=size_bytes if scaled else 1, extend=extend
        )
    return None  # pointer-authenticated loads: the address depends on a key


def _is_atomic(word: int) -> bool:
    return word >> 24 & 1 == 0 and word >> 21 & 1 == 1 and word >> 10 & 3 == 0


def memory_operand_of(word: int) -> MemoryOperand | None:
    """The access that the instruction `word` makes, or None."""
    if word & 0x0A00_0000 != 0x0800_0000:  # op0 is x1x0 for loads and stores
        return None
    base = _x_or_sp(word >> 5 & 31)
    vector = word >> 26 & 1
    if word & 0x3F00_0000 == 0x0800_0000:
        return _exclusive(word, base)
    if word & 0xBE00_0000 == 0x0C00_0000:
        return _structure(word, base)
    if word & 0x3B00_0000 == 0x1800_0000:
        opc = word >> 30
        if vector == 0 and opc == 3:
            return None
        size_bytes = 4 << opc if vector else (4, 8, 4)[opc]
        return _operand(None, 4 * _signed(word >> 5, 19), size_bytes, True, False, pc_relative=True)
    if word & 0x3A00_0000 == 0x2800_0000:
        opc, load = word >> 30, bool(word >> 22 & 1)
        width = 4 << opc if vector else 4 << (opc >> 1)
        if vector == 0 and opc == 1 and not load:
            width = 8  # stgp stores two 8-byte registers and a tag
        offset = _signed(word >> 15, 7) * width
        mode = word >> 23 & 3
        writeback = offset if mode in (1, 3) else 0
        return _operand(base, 0 if mode == 1 else offset, 2 * width, load, not load, writeback=writeback)
    if word & 0x3A00_0000 == 0x3800_0000:
        return _single(word, base)
    return None
