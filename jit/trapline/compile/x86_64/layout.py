"""Registers, the frame and the instance block: what compiled code on x86-64 takes for granted.

The calling convention of compiled Wasm code is its own: arguments in the registers below by class and then in words
above the return address; results in the same registers and then in the instance's buffer; every register is the
caller's but rbp, r14 (memory base) and r15 (instance).

Frame, from high to low addresses: incoming words, return address, rbp of the caller, r15, slots, outgoing words.
"""

from __future__ import annotations

from typing import Final

from trapline.arch.x86_64.assembler import Reg
from trapline.wasm.types import F32, F64

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

STACK_WORD: Final = 1000
"""Places: STACK_WORD + k is the k-th word of arguments, incoming or outgoing as the case may be."""
RESULT_WORD: Final = 2000
"""Places: RESULT_WORD + k is the k-th word of the instance's buffer."""

GUARD_BYTES: Final = 32 << 10
"""Stack below a frame that stays usable for C functions and signal frames."""

# The instance block, by r15.
MEMORY_BASE: Final = 0
MEMORY_BYTES: Final = 8
CHECK_STUB: Final = 16
REQUEST: Final = 24
GLOBALS: Final = 32
"""Address of a list of addresses, one of each global's cell of 16 bytes."""
FUNCTIONS: Final = 40
"""Address of a list of addresses, one of each function's record."""
TABLES: Final = 48
"""Address of a list of table descriptors."""
BUFFER: Final = 64
BUFFER_WORDS: Final = 1024
INSTANCE_BYTES: Final = BUFFER + 8 * BUFFER_WORDS

# A function record, to which a funcref points: entry, instance, type number, index.
RECORD_BYTES: Final = 32
RECORD_INSTANCE: Final = 8
RECORD_TYPE: Final = 16

# A table descriptor: address of its elements (8 bytes each), how many there are.
TABLE_BYTES: Final = 16
TABLE_COUNT: Final = 8


def places(types: list[int], beyond: int) -> list[int]:
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
