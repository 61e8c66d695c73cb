"""aarch64: registers and their places in the record.

Source: Arm ARM, B1.2 (registers in AArch64 execution state) and C5.2 (NZCV, FPCR, FPSR).
"""

from __future__ import annotations

from typing import Final

from trapline.arch import Arch, Piece, Register

__all__ = ["describe"]

# Offsets in struct tl_fiber. Must match stubs/stubs.h.
RECORD: Final = {"x": 0, "sp": 248, "pc": 256, "pstate": 264, "fpcr": 288, "fpsr": 292, "q": 512}
_FLAGS: Final = {"n": 31, "z": 30, "c": 29, "v": 28}


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
        breakpoint_vector=0x3C,  # the exception class of brk in ESR_ELx.EC
    )
