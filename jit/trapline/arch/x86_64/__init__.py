"""x86-64: registers and their places in the record and the XSAVE area.

Sources: Intel SDM volume 1, 3.4 (general registers and flags) and 13.4-13.5 (the XSAVE area's standard format, whose
component offsets CPUID leaf 0xD gives); volume 2, FXSAVE (the legacy region).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Final

from trapline.arch import Arch, Fault, Piece, Register
from trapline.errors import TrapCode

__all__ = ["describe"]

# Offsets in struct tl_fiber. Must match stubs/stubs.h.
RECORD: Final = {
    "rip": 0,
    "rflags": 16,
    "rsp": 24,
    "rax": 40,
    "rcx": 48,
    "rdx": 56,
    "rbx": 64,
    "rbp": 72,
    "rsi": 80,
    "rdi": 88,
    "r8": 96,
    "r9": 104,
    "r10": 112,
    "r11": 120,
    "r12": 128,
    "r13": 136,
    "r14": 144,
    "r15": 152,
}
XSAVE: Final = 512

_READING_ORDER: Final = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split()
_FLAGS: Final = {"cf": 0, "pf": 2, "af": 4, "zf": 6, "sf": 7, "tf": 8, "df": 10, "of": 11}
_X87, _SSE, _AVX, _OPMASK, _ZMM_HIGH, _ZMM_16_31 = 0, 1, 2, 5, 6, 7
_X87_CONTROL: Final = {"fcw": (0, 2), "fsw": (2, 2), "ftw": (4, 1), "fop": (6, 2), "fip": (8, 8), "fdp": (16, 8)}


def _general() -> dict[str, Register]:
    out = {}
    for name in _READING_ORDER:
        out[name] = Register(name, "general", (Piece(RECORD[name], 8),), 64)
    for name, bit in _FLAGS.items():
        out[name] = Register(name, "flag", (Piece(RECORD["rflags"], 8),), 1, bit)
    for letter in "abcd":
        place = (Piece(RECORD[f"r{letter}x"], 8),)
        out[f"e{letter}x"] = Register(f"e{letter}x", "general", place, 32)
        out[f"{letter}x"] = Register(f"{letter}x", "general", place, 16)
        out[f"{letter}l"] = Register(f"{letter}l", "general", place, 8)
        out[f"{letter}h"] = Register(f"{letter}h", "general", place, 8, 8)
    for name in ("si", "di", "bp", "sp"):
        place = (Piece(RECORD[f"r{name}"], 8),)
        for part, bits in ((f"e{name}", 32), (name, 16), (f"{name}l", 8)):
            out[part] = Register(part, "general", place, bits)
    for number in range(8, 16):
        place = (Piece(RECORD[f"r{number}"], 8),)
        for suffix, bits in (("d", 32), ("w", 16), ("b", 8)):
            out[f"r{number}{suffix}"] = Register(f"r{number}{suffix}", "general", place, bits)
    out["eflags"] = Register("eflags", "general", (Piece(RECORD["rflags"], 8),), 32)
    return out


def _legacy() -> dict[str, Register]:
    out = {"mxcsr": Register("mxcsr", "control", (Piece(XSAVE + 24, 4),), 32)}
    for name, (offset, size_bytes) in _X87_CONTROL.items():
        out[name] = Register(name, "control", (Piece(XSAVE + offset, size_bytes, _X87),), 8 * size_bytes)
    for number in range(8):
        out[f"st{number}"] = Register(f"st{number}", "float", (Piece(XSAVE + 32 + 16 * number, 10, _X87),), 80)
    return out


def _vectors(components: Mapping[int, tuple[int, int]]) -> dict[str, Register]:
    xmm, ymm, zmm, masks = {}, {}, {}, {}
    avx = components.get(_AVX)
    high = components.get(_ZMM_HIGH)
    more = components.get(_ZMM_16_31)
    opmask = components.get(_OPMASK)
    for number in range(16):
        low = Piece(XSAVE + 160 + 16 * number, 16, _SSE)
        pieces: tuple[Piece, ...] = (low,)
        xmm[f"xmm{number}"] = Register(f"xmm{number}", "vector", pieces, 128)
        if avx is None:
            continue
        pieces = (*pieces, Piece(avx[0] + 16 * number, 16, _AVX))
        ymm[f"ymm{number}"] = Register(f"ymm{number}", "vector", pieces, 256)
        if high is None:
            continue
        pieces = (*pieces, Piece(high[0] + 32 * number, 32, _ZMM_HIGH))
        zmm[f"zmm{number}"] = Register(f"zmm{number}", "vector", pieces, 512)
    for number in range(16, 32 if more else 16):
        assert more is not None
        whole = (Piece(more[0] + 64 * (number - 16), 64, _ZMM_16_31),)
        xmm[f"xmm{number}"] = Register(f"xmm{number}", "vector", whole, 128)
        ymm[f"ymm{number}"] = Register(f"ymm{number}", "vector", whole, 256)
        zmm[f"zmm{number}"] = Register(f"zmm{number}", "vector", whole, 512)
    for number in range(8 if opmask else 0):
        assert opmask is not None
        masks[f"k{number}"] = Register(f"k{number}", "mask", (Piece(opmask[0] + 8 * number, 8, _OPMASK),), 64)
    return {**xmm, **ymm, **zmm, **masks}


# Exception vectors (Intel SDM volume 3, table 6-1).
_VECTORS: Final = {
    0: TrapCode.DIVISION,
    1: TrapCode.SINGLE_STEP,
    3: TrapCode.BREAKPOINT_INSTRUCTION,
    4: TrapCode.INTEGER_OVERFLOW,
    5: TrapCode.BOUND_RANGE,
    6: TrapCode.ILLEGAL_INSTRUCTION,
    12: TrapCode.MEMORY_ACCESS,
    13: TrapCode.PRIVILEGED_INSTRUCTION,
    16: TrapCode.FLOATING_POINT,
    17: TrapCode.ALIGNMENT,
    19: TrapCode.FLOATING_POINT,
}
_GENERAL_PROTECTION, _PAGE_FAULT = 13, 14
_HLT: Final = 0xF4
_PAGE_FAULT_WRITE: Final = 2  # bit 1 of the error code (Intel SDM volume 3, 4.7)


def classify(fault: Fault, code: Callable[[], bytes]) -> TrapCode:
    """The reason of a fault; `code` reads the bytes at its pc, as many as can be read."""
    if fault.fetch:
        return TrapCode.INSTRUCTION_FETCH
    if fault.vector == _PAGE_FAULT:
        if fault.signal == signal.SIGBUS:
            return TrapCode.BUS
        return TrapCode.MEMORY_WRITE if fault.error & _PAGE_FAULT_WRITE else TrapCode.MEMORY_READ
    if fault.vector == _GENERAL_PROTECTION and code()[:1] == bytes([_HLT]):
        return TrapCode.TRAP_INSTRUCTION
    return _VECTORS.get(fault.vector, TrapCode.ILLEGAL_INSTRUCTION)


def describe(components: Mapping[int, tuple[int, int]]) -> Arch:
    """x86-64 with the given extended-state components: number -> (offset in the saved state, bytes)."""
    every = {_X87: (XSAVE, 160), _SSE: (XSAVE + 160, 256), **components}
    return Arch(
        name="x86_64",
        registers={**_general(), **_legacy(), **_vectors(components)},
        aliases={"pc": "rip", "sp": "rsp", "fp": "rbp"},
        shown=tuple(_READING_ORDER),
        pc="rip",
        sp="rsp",
        fp="rbp",
        trap_code=b"\xcc",
        trap_behind_bytes=1,
        classify=classify,
        present_offset=XSAVE + 512,
        components=every,
        # FNINIT's control word (Intel SDM volume 1, 8.1.5); MXCSR lies in the x87 component's bytes and always counts.
        initial={_X87: bytes.fromhex("7f03")},
    )
