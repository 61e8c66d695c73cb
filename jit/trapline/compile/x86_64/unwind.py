"""Where a function's return address is while its frame is not made yet, or not there any more.

Everywhere else it lies above the caller's frame pointer, which the function's own points at. Source: the prologue and
the epilogue of emit.py.
"""

from __future__ import annotations

from typing import Final

__all__ = ["is_frame_made", "return_address_at"]

_MAKES_FRAME: Final = b"\x55\x48\x89\xe5"
"""push rbp; mov rbp, rsp"""
_KEEPS_BLOCK: Final = b"\x4c\x89\x7d\xf8"
"""mov [rbp - 8], r15"""
_RETURN: Final = 0xC3


def return_address_at(code: bytes, offset: int) -> int | None:
    """Bytes from the stack pointer to the return address, when the instruction at an offset of a function is the next
    to run; None where the frame stands and the frame pointer leads there.

    >>> code = bytes.fromhex("85842400 80ffff 55 4889e5 c9 c3")
    >>> [return_address_at(code, offset) for offset in (0, 7, 8, 11, 12)]
    [0, 0, 8, None, 0]
    """
    made = code.find(_MAKES_FRAME)
    if offset <= made:
        return 0
    if offset == made + 1:
        return 8
    return 0 if offset < len(code) and code[offset] == _RETURN else None


def is_frame_made(code: bytes, offset: int) -> bool:
    """Whether the frame pointer is the function's own and the address of the instance block lies below it."""
    return offset > code.find(_KEEPS_BLOCK) and return_address_at(code, offset) is None
