"""Registers and the frame: what compiled code on x86-64 takes for granted.

The calling convention of compiled Wasm code is its own: arguments and results in the registers below by class; further
arguments, and further results in their place, as words above the return address, which the caller provides for
whichever are more. Every register is the caller's but rbp, r14 (memory base) and r15 (instance block).

Frame, from high to low addresses: incoming words, return address, rbp of the caller, r15, slots, outgoing words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trapline.arch.x86_64.assembler import Reg
from trapline.compile.recompute import NanRule
from trapline.wasm.types import F32, F64

__all__ = [
    "FLOATING",
    "FLOAT_ARGUMENTS",
    "FLOAT_SCRATCH",
    "GENERAL",
    "GENERAL_ARGUMENTS",
    "GUARD_BYTES",
    "HELPER_ARGUMENTS",
    "RESULT_WORD",
    "SCRATCH",
    "STACK_WORD",
    "STRIDE_BYTES",
    "SWITCH_SCRATCH",
    "SWITCH_TABLE_WAYS",
    "TABLE_INDEX",
    "places",
    "word_count",
]

GENERAL: Final = (
    Reg.RAX,
    Reg.RCX,
    Reg.RDX,
    Reg.RBX,
    Reg.RSI,
    Reg.RDI,
    Reg.R8,
    Reg.R9,
    Reg.R10,
    Reg.R12,
    Reg.R13,
)
FLOATING: Final = tuple(range(16, 31))
SCRATCH: Final = Reg.R11
FLOAT_SCRATCH: Final = 15
"""xmm15; floating-point registers are 16 and up as places, 0 and up as operands of an encoder."""

GENERAL_ARGUMENTS: Final = (Reg.RAX, Reg.RCX, Reg.RDX, Reg.RBX, Reg.RSI, Reg.RDI, Reg.R8, Reg.R9)
FLOAT_ARGUMENTS: Final = tuple(range(16, 24))
TABLE_INDEX: Final = Reg.R10
"""Where call_indirect finds the element's index."""
HELPER_ARGUMENTS: Final = (Reg.RSI, Reg.RDX, Reg.RCX)
"""Operands of C functions, behind rdi, which is the instance block (System V AMD64 ABI 1.0, 3.2.3)."""
SWITCH_SCRATCH: Final = Reg.R10
"""What the jump through a table destroys."""
SWITCH_TABLE_WAYS: Final = 5
"""From so many ways up a switch jumps through a table."""

STACK_WORD: Final = 1 << 24
"""Places: STACK_WORD + k is the k-th word of arguments, outgoing where an instruction names it."""
RESULT_WORD: Final = 1 << 25
"""Places: RESULT_WORD + k is the k-th word of results: the caller's where a function returns, ours behind a call."""

GUARD_BYTES: Final = 32 << 10
"""Stack below a frame that stays usable for C functions and signal frames."""
STRIDE_BYTES: Final = 32 << 10
"""A new frame touches the stack at least so often, which is less than a stack's guard. Must match native/fiber.c."""

NAN_RULE: Final = NanRule(negative_default=True, signalling_first=False)
"""Of SSE arithmetic. Intel SDM volume 1, 4.8.3.5 and table 4-7 (of two NaNs the first source operand)."""



def places(types: Sequence[int], beyond: int) -> list[int]:
    """Where values of these types are passed, `beyond` being the first place behind the registers."""
    general, floating = iter(GENERAL_ARGUMENTS), iter(FLOAT_ARGUMENTS)
    out = []
    for type_ in types:
        place = next(floating if type_ in (F32, F64) else general, -1)
        if place < 0:
            place = beyond
            beyond += 1
        out.append(place)
    return out


def word_count(types: Sequence[int]) -> int:
    """How many values of these types are passed as words."""
    if len(types) <= min(len(GENERAL_ARGUMENTS), len(FLOAT_ARGUMENTS)):
        return 0
    floating = sum(type_ in (F32, F64) for type_ in types)
    return max(floating - len(FLOAT_ARGUMENTS), 0) + max(len(types) - floating - len(GENERAL_ARGUMENTS), 0)
