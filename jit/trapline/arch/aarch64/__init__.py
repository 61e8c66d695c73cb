"""aarch64: registers and their places in the record.

Source: Arm ARM, B1.2 (registers in AArch64 execution state) and C5.2 (NZCV, FPCR, FPSR).
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

from trapline.arch import Arch, Fault, Piece, Register
from trapline.errors import TrapCode

__all__ = ["describe"]

# Offsets in struct tl_fiber. Must match stubs/stubs.h.
RECORD: Final = {"x": 0, "sp": 248, "pc": 256, "pstate": 264, "fpcr": 288, "fpsr": 292, "q": 512}
_FLAGS: Final = {"n": 31, "z": 30, "c": 29, "v": 28}


_WRITE_NOT_READ: Final = 1 << 6  # ESR_ELx.ISS.WnR of a data abort (Arm ARM, D17.2.37)
_HLT_MASK, _HLT = 0xFFE0001F, 0xD4400000


def classify(fault: Fault, code: Callable[[], bytes]) -> TrapCode:
    """The reason of a fault; `code` reads the bytes at its pc, as many as can be read."""
    if fault.fetch:
        return TrapCode.INSTRUCTION_FETCH
    if fault.signal == signal.SIGTRAP:
        return TrapCode.BREAKPOINT_INSTRUCTION
    if fault.signal == signal.SIGFPE:
        return TrapCode.FLOATING_POINT
    if fault.signal == signal.SIGILL:
        word = code()[:4]
        is_hlt = len(word) == 4 and int.from_bytes(word, "little") & _HLT_MASK == _HLT
        return TrapCode.TRAP_INSTRUCTION if is_hlt else TrapCode.ILLEGAL_INSTRUCTION
    if fault.signal == signal.SIGBUS:
        return TrapCode.BUS
    return TrapCode.MEMORY_WRITE if fault.error & _WRITE_NOT_READ else TrapCode.MEMORY_READ


def describe() -> Arch:
    """aarch64 with its 32 vector registers of 128 bits."""
    registers = {}
    for number in range(31):
        place = (Piece(RECORD["x"] + 8 * number, 8),)
        registers[f"x{number}"] = Register(f"x{number}", "general", place, 64)
        registers[f"w{number}"] = Register(f"w{number}", "general", place, 32)
    for name in ("sp", "pc", "pstate"):
        registers[name] = Register(name, "general", (Piece(RECORD[name], 8),), 64)
    for name, bit in _FLAGS.items():
        registers[name] = Register(name, "flag", (Piece(RECORD["pstate"], 8),), 1, bit)
    for name in ("fpcr", "fpsr"):
        registers[name] = Register(name, "control", (Piece(RECORD[name], 4),), 32)
    for number in range(32):
        vector = (Piece(RECORD["q"] + 16 * number, 16),)
        for letter, bits in (("q", 128), ("d", 64), ("s", 32), ("h", 16), ("b", 8)):
            registers[f"{letter}{number}"] = Register(f"{letter}{number}", "vector", vector, bits)
    aliases = {"fp": "x29", "lr": "x30"} | {f"v{number}": f"q{number}" for number in range(32)}
    return Arch(
        name="aarch64",
        registers=registers,
        aliases=aliases,
        shown=(*(f"x{number}" for number in range(31)), "sp", "pc", "pstate"),
        pc="pc",
        sp="sp",
        fp="x29",
        trap_code=bytes.fromhex("000020d4"),  # brk #0
        trap_behind_bytes=0,
        classify=classify,
    )
