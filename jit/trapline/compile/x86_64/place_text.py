"""Names of places on x86-64, for dumps."""

from __future__ import annotations

from typing import Final

from trapline.compile.x86_64.layout import RESULT_WORD, STACK_WORD

__all__ = ["place_text"]

_GENERAL: Final = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()


def place_text(place: int) -> str:
    """A register, `arg k` for a word of arguments, `result k` for one of results; `scratch` for what breaks cycles."""
    if place >= RESULT_WORD:
        return f"result {place - RESULT_WORD}"
    if place >= STACK_WORD:
        return f"arg {place - STACK_WORD}"
    if place < 0:
        return "scratch"
    return _GENERAL[place] if place < 16 else f"xmm{place - 16}"
