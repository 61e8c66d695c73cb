"""What instructions do to registers and to the frame, read from their disassembly: for the checker.

Source: Intel SDM volume 2, by instruction, for what each writes besides its first operand. An instruction that
emission has never made raises KeyError, so that nothing is passed over.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from trapline.asm.disassemble import Instruction

__all__ = ["Effect", "Memory", "effect_of", "register_number"]

_LEGACY: Final = "rax rcx rdx rbx rsp rbp rsi rdi".split()
_BYTES: Final = "al cl dl bl spl bpl sil dil".split()


def _registers() -> dict[str, tuple[int, int]]:
    """Name -> (number as a place, bytes)."""
    out = {}
    for number, name in enumerate(_LEGACY):
        out[name] = number, 8
        out["e" + name[1:]] = number, 4
        out[name[1:]] = number, 2
        out[_BYTES[number]] = number, 1
    for number in range(8, 16):
        out.update({f"r{number}": (number, 8), f"r{number}d": (number, 4), f"r{number}w": (number, 2)})
        out[f"r{number}b"] = number, 1
    out.update({f"xmm{number}": (16 + number, 16) for number in range(16)})
    return out


_REGISTERS: Final = _registers()
_POINTERS: Final = {"byte": 1, "word": 2, "dword": 4, "qword": 8, "xmmword": 16}
_MEMORY: Final = re.compile(r"(\w+) ptr \[(.*)\]")

_NOTHING: Final = frozenset("cmp test ucomiss ucomisd hlt nop ret jmp".split())
_BRANCHES: Final = frozenset("ja jae jb jbe je jg jge jl jle jne jno jnp jns jo jp js".split())
_FIRST: Final = frozenset(
    """mov movabs movzx movsx movsxd movd movq movss movsd movaps lea add sub and or xor imul neg shl sar shr rol ror
    lzcnt tzcnt popcnt bsf bsr cmove cmovne
    sete setne setl setb setg seta setle setbe setge setae setp setnp sets setns
    addss subss mulss divss addsd subsd mulsd divsd sqrtss sqrtsd roundss roundsd minss minsd maxss maxsd
    andps andnps orps xorps cvtsi2ss cvtsi2sd cvtss2sd cvtsd2ss cvttss2si cvttsd2si""".split()
)
_IMPLICIT: Final = {
    "cdq": (2,),
    "cqo": (2,),
    "div": (0, 2),
    "idiv": (0, 2),
    "push": (4,),
    "leave": (4, 5),
}
_STORES: Final = frozenset("mov movss movsd movd movq".split())
CALL: Final = (1 << 32) - 1


class Memory(NamedTuple):
    """A memory operand: registers as numbers (-1 none, -2 the instruction pointer), displacement, bytes, access."""

    base: int
    scaled: int
    displacement: int
    access_bytes: int
    writes: bool
    reads: bool


class Effect(NamedTuple):
    """What one instruction does.

    `writes`: registers as bits. `registers`: the register operands in order, -1 where an operand is none;
    `width_bytes`: of the first of them, 0 where it is none. `immediate`: the last operand if it is a number. `branch`:
    0 none, 1 jmp, 2 conditional, 3 call, to `target`, -1 if computed.
    """

    mnemonic: str
    writes: int
    registers: tuple[int, ...]
    immediate: int | None
    memory: Memory | None
    branch: int
    target: int
    width_bytes: int


def register_number(name: str) -> int:
    """The number as a place of a register's name."""
    return _REGISTERS[name][0]


def effect_of(instruction: Instruction) -> Effect:
    """What an instruction does."""
    return _parsed(instruction.mnemonic, instruction.operands_text)


@lru_cache(maxsize=1 << 16)
def _parsed(mnemonic: str, text: str) -> Effect:
    operands = [part.strip() for part in text.split(",")] if text else []
    memory, registers, immediate = None, [], None
    for position, operand in enumerate(operands):
        named = _REGISTERS.get(operand)
        registers.append(-1 if named is None else named[0])
        found = _MEMORY.match(operand)
        if found is not None:
            memory = _memory(mnemonic, position, _POINTERS[found[1]], found[2])
        elif operand.startswith("["):
            memory = _memory("lea", 1, 8, operand.strip("[]"))
        elif named is None:
            immediate = int(operand, 0)
    branch = 1 if mnemonic == "jmp" else 2 if mnemonic in _BRANCHES else 3 if mnemonic == "call" else 0
    writes = 0
    if branch == 3:
        writes = CALL
    elif mnemonic in _IMPLICIT:
        for number in _IMPLICIT[mnemonic]:
            writes |= 1 << number
    elif mnemonic in _FIRST:
        if registers[0] >= 0:
            writes = 1 << registers[0]
    elif mnemonic not in _NOTHING and not branch:
        raise KeyError(mnemonic)
    target = immediate if branch and immediate is not None else -1
    width_bytes = _REGISTERS[operands[0]][1] if registers and registers[0] >= 0 else 0
    return Effect(mnemonic, writes, tuple(registers), immediate, memory, branch, target, width_bytes)


def _memory(mnemonic: str, position: int, access_bytes: int, text: str) -> Memory:
    base, index, displacement = -1, -1, 0
    for sign, term in re.findall(r"([+-]?)\s*([^\s+-]+)", text):
        if "*" in term:
            index = _REGISTERS[term.split("*")[0]][0]
        elif term == "rip":
            base = -2
        elif term in _REGISTERS:
            if base == -1:
                base = _REGISTERS[term][0]
            else:
                index = _REGISTERS[term][0]
        else:
            number = int(term, 0)
            displacement += -number if sign == "-" else number
    is_store = position == 0 and mnemonic not in ("cmp", "test", "call", "jmp", "div", "idiv", "push")
    is_load = mnemonic != "lea" and not (is_store and mnemonic in _STORES)
    return Memory(base, index, displacement, access_bytes, is_store and mnemonic != "lea", is_load)
