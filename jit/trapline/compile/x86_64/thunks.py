"""Code between conventions: from words in memory to compiled code, from compiled code to the host, to a compiler.

Everything here is position-independent, placed by the runtime, and keeps a frame by rbp whose first word is the
instance block, as compiled functions do. Words are 8 bytes, those of i32 and f32 with zeros above in what this code
writes; it reads their low half only.

`call [block + HOST_STUB]` leaves for the host with edi the kind of request and rsi its words; rsp, rbp, r14 and r15 are
the same when it comes back, nothing else is. Source: native core, tl_stub_host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from trapline.arch.x86_64.assembler import Assembler, Reg
from trapline.compile.instance import HOST_STUB, MEMORY_BASE, RECORD_BLOCK, RECORD_ENTRY
from trapline.compile.x86_64.layout import (
    FLOAT_ARGUMENTS,
    GENERAL_ARGUMENTS,
    SCRATCH,
    STACK_WORD,
    places,
    word_count,
)
from trapline.wasm.types import F32, I32, FuncType

__all__ = ["COMPILE", "HOST_CALL", "LAZY_BYTES", "Thunk", "entry_thunk", "host_thunk", "lazy_thunks"]

HOST_CALL: Final = 1
"""Request: words are the arguments, results go there; r15 is the block of the host function."""
COMPILE: Final = 2
"""Request: word 0 is a function index, an entry address goes there; r15 is the instance block."""

LAZY_BYTES: Final = 16
"""From one lazy thunk to the next."""
_WORDS: Final = Reg.R10
"""Address of the words; like r11, r12 and r13 no register of arguments."""


class Thunk(NamedTuple):
    """Code, and the offsets its calls return to: where a walk of the stack finds it."""

    code: bytes
    return_offsets: tuple[int, ...]


def _frame(a: Assembler, words: int) -> None:
    """A frame with the block, one word more, and `words` words from rsp on; rsp is a multiple of 16."""
    a.push_r(Reg.RBP)
    a.mov64_rr(Reg.RBP, Reg.RSP)
    a.sub64_ri(Reg.RSP, 16 + (8 * words + 15) // 16 * 16)
    a.mov64_mr(Reg.RBP, -8, Reg.R15)


def _from_words(a: Assembler, types: Sequence[int], words: int, stack: tuple[int, int]) -> None:
    """Values from `words` (a register) to where they are passed; `stack`: base and displacement of word places."""
    for position, (type_, place) in enumerate(zip(types, places(types, STACK_WORD), strict=True)):
        at = 8 * position
        if place < 16:
            (a.mov32_rm if type_ == I32 else a.mov64_rm)(place, words, at)
        elif place < STACK_WORD:
            (a.movss_rm if type_ == F32 else a.movsd_rm)(place - 16, words, at)
        else:
            (a.mov32_rm if type_ in (I32, F32) else a.mov64_rm)(SCRATCH, words, at)
            a.mov64_mr(*_word(stack, place), SCRATCH)


def _to_words(a: Assembler, types: Sequence[int], words: int, stack: tuple[int, int], scratch: int) -> None:
    """The reverse, through a scratch register that is neither `words` nor one of values."""
    for position, (type_, place) in enumerate(zip(types, places(types, STACK_WORD), strict=True)):
        at = 8 * position
        if place < 16:
            a.mov64_mr(words, at, place)
            continue
        if place >= STACK_WORD:
            (a.mov32_rm if type_ in (I32, F32) else a.mov64_rm)(scratch, *_word(stack, place))
        elif type_ == F32:
            a.movd_rv(scratch, place - 16)
        else:
            a.movsd_mr(words, at, place - 16)
            continue
        a.mov64_mr(words, at, scratch)


def _word(stack: tuple[int, int], place: int) -> tuple[int, int]:
    return stack[0], stack[1] + 8 * (place - STACK_WORD)


def _finish(a: Assembler, returns: Sequence[int]) -> Thunk:
    code = a.finish()
    return Thunk(code, tuple(a.offset(label) for label in returns))


def entry_thunk(type_: FuncType) -> Thunk:
    """A C function (rdi = words, rsi = record) that calls a function of this type.

    Words hold the arguments, then the results: as many as there are of whichever are more. It is the outermost code
    of a fiber and keeps no register but rsp and rbp.
    """
    a = Assembler()
    outgoing = max(word_count(type_.params), word_count(type_.results))
    _frame(a, outgoing)
    a.mov64_rm(Reg.R15, Reg.RSI, RECORD_BLOCK)
    a.mov64_rm(Reg.R14, Reg.R15, MEMORY_BASE)
    a.mov64_mr(Reg.RBP, -8, Reg.R15)
    a.mov64_mr(Reg.RBP, -16, Reg.RDI)
    a.mov64_rr(Reg.R12, Reg.RSI)
    a.mov64_rr(_WORDS, Reg.RDI)
    _from_words(a, type_.params, _WORDS, (Reg.RSP, 0))
    a.call_m(Reg.R12, RECORD_ENTRY)
    returned = a.here()
    a.mov64_rm(_WORDS, Reg.RBP, -16)
    _to_words(a, type_.results, _WORDS, (Reg.RSP, 0), SCRATCH)
    a.leave()
    a.ret()
    return _finish(a, [returned])


def host_thunk(type_: FuncType) -> Thunk:
    """Where the record of a host function of this type leads: the host gets the arguments and gives the results."""
    a = Assembler()
    _frame(a, max(len(type_.params), len(type_.results)))
    _to_words(a, type_.params, Reg.RSP, (Reg.RBP, 16), SCRATCH)
    a.mov32_ri(Reg.RDI, HOST_CALL)
    a.mov64_rr(Reg.RSI, Reg.RSP)
    a.call_m(Reg.R15, HOST_STUB)
    returned = a.here()
    _from_words(a, type_.results, Reg.RSP, (Reg.RBP, 16))
    a.leave()
    a.ret()
    return _finish(a, [returned])


def lazy_thunks(indices: Sequence[int]) -> Thunk:
    """Entries for functions that have no code yet, `LAZY_BYTES` apart: each has its function compiled and goes there.

    The arguments stay in their registers and words; the common part behind the entries keeps the registers while the
    host compiles.
    """
    a = Assembler()
    common = a.label()
    for index in indices:
        a.align(LAZY_BYTES)
        a.mov32_ri(SCRATCH, index)
        a.jmp_l(common)
    a.align(LAZY_BYTES)
    a.bind(common)
    _frame(a, 1 + len(GENERAL_ARGUMENTS) + len(FLOAT_ARGUMENTS))
    a.mov64_mr(Reg.RSP, 0, SCRATCH)
    saved = [(8 * (1 + position), place) for position, place in enumerate((*GENERAL_ARGUMENTS, *FLOAT_ARGUMENTS))]
    for at, place in saved:
        if place < 16:
            a.mov64_mr(Reg.RSP, at, place)
        else:
            a.movsd_mr(Reg.RSP, at, place - 16)
    a.mov32_ri(Reg.RDI, COMPILE)
    a.mov64_rr(Reg.RSI, Reg.RSP)
    a.call_m(Reg.R15, HOST_STUB)
    returned = a.here()
    a.mov64_rm(SCRATCH, Reg.RSP, 0)
    for at, place in saved:
        if place < 16:
            a.mov64_rm(place, Reg.RSP, at)
        else:
            a.movsd_rm(place - 16, Reg.RSP, at)
    a.leave()
    a.jmp_r(SCRATCH)
    return _finish(a, [returned])
