"""What each instruction asks of its operands on x86-64: registers, constants it can hold, what it overwrites.

Source: Intel SDM volume 2, the pages of the instructions that `emit` makes of them.
"""

from __future__ import annotations

from typing import Final

from trapline.arch.x86_64.assembler import Reg
from trapline.compile.allocate import ANY, NONE, REG, SAME, Shape
from trapline.compile.ir import NO_TYPE, Func, Op
from trapline.compile.libcalls import INLINE
from trapline.compile.x86_64.layout import (
    FLOATING,
    GENERAL,
    HELPER_ARGUMENTS,
    RESULT_WORD,
    STACK_WORD,
    SWITCH_SCRATCH,
    TABLE_INDEX,
    places,
)
from trapline.wasm.types import F64, I64

__all__ = ["X86_64", "fits_imm32"]

_ALL: Final = (*GENERAL, *FLOATING)
_ALU: Final = frozenset([0x6A, 0x6B, 0x71, 0x72, 0x73, 0x7C, 0x7D, 0x83, 0x84, 0x85])
_MULTIPLY: Final = frozenset([0x6C, 0x7E])
_COMMUTES: Final = frozenset([0x6A, 0x6C, 0x71, 0x72, 0x73, 0x7C, 0x7E, 0x83, 0x84, 0x85])
_SHIFTS: Final = frozenset([*range(0x74, 0x79), *range(0x86, 0x8B)])
_QUOTIENTS: Final = frozenset([0x6D, 0x6E, 0x7F, 0x80])
_REMAINDERS: Final = frozenset([0x6F, 0x70, 0x81, 0x82])
_COMPARES: Final = frozenset([*range(0x46, 0x50), *range(0x51, 0x5B)])
_FLOAT_ARITHMETIC: Final = frozenset([*range(0x92, 0x96), *range(0xA0, 0xA4)])
_FLOAT_SAME: Final = frozenset([0x96, 0x97, 0x98, 0xA4, 0xA5, 0xA6])  # min, max, copysign
_ROUNDINGS: Final = frozenset([*range(0x8D, 0x91), *range(0x9B, 0x9F)])
_FLOAT_SIGN: Final = frozenset([0x8B, 0x8C, 0x99, 0x9A])  # abs, neg


def fits_imm32(bits: int, is_64: bool) -> bool:
    """Whether a constant can be the sign-extended 32-bit immediate of an instruction."""
    return not is_64 or bits < 1 << 31 or bits >= (1 << 64) - (1 << 31)


class X86_64:
    """The machine that allocation sees. `rounds` says that it has ROUNDSD; else a C function rounds."""

    general: tuple[int, ...] = GENERAL
    floating: tuple[int, ...] = FLOATING

    def __init__(self, rounds: bool = True) -> None:
        self._rounds = rounds

    def parameter_places(self, types: list[int]) -> list[int]:
        return places(types, STACK_WORD)

    def shape(self, func: Func, value: int) -> Shape:
        op = func.op[value]
        args = func.args[value]
        if op in _ALU or op in _MULTIPLY:
            return Shape((REG, self._second(func, args[1], op)), SAME, swaps=op in _COMMUTES)
        if op in _COMPARES:
            return Shape((REG, self._second(func, args[1], 0x7C if op >= 0x51 else 0x6A)), REG)
        if 0x28 <= op <= 0x35:
            return Shape((self._address(func, value),), REG)
        if 0x36 <= op <= 0x3E:
            return Shape((self._address(func, value), self._stored(func, args[1])), NONE)
        if op in _FLOAT_ARITHMETIC:
            constant = func.op[args[1]] == Op.CONST
            swaps = op in (0x92, 0x94, 0xA0, 0xA2) and func.op[args[0]] != Op.CONST
            return Shape((REG, REG if constant else ANY), SAME, swaps=swaps)
        if op in _FLOAT_SAME:
            return Shape((REG, REG), SAME)
        if op in _FLOAT_SIGN or op == Op.COPY:
            return Shape((REG,), SAME)
        if op in _SHIFTS:
            return Shape((REG, NONE if func.op[args[1]] == Op.CONST else Reg.RCX), SAME)
        if op in _QUOTIENTS:
            return Shape((Reg.RAX, REG), Reg.RAX, (Reg.RAX, Reg.RDX))
        if op in _REMAINDERS:
            return Shape((Reg.RAX, REG), Reg.RDX, (Reg.RAX, Reg.RDX))
        if op == 0x1B:
            return Shape((REG, REG, REG), SAME)
        if op == 0xAD:
            return Shape((REG,), SAME)  # nothing to do: an i32 has zeros above
        if op in (Op.CALL, Op.CALL_INDIRECT):
            return self._call(func, value)
        if op == Op.LIBCALL:
            return self._library(func, value)
        if op == Op.SWITCH:
            return Shape((REG,), NONE, (SWITCH_SCRATCH,))
        if op in _ROUNDINGS and not self._rounds:
            return Shape((FLOATING[0],), FLOATING[0], _ALL, call=True)
        if op == Op.GLOBAL_SET:
            return Shape((self._stored(func, args[0]),), NONE)
        if op == Op.RETURN:
            return Shape(tuple(places([func.type[arg] for arg in args], RESULT_WORD)), NONE, _ALL, call=True)
        if op == Op.RESULT:
            return self._result(func, value)
        if op == Op.BRANCH and func.imm[value] is not None:
            compared = func.imm[value]
            assert isinstance(compared, int)
            if len(args) == 1:
                return Shape((REG,), NONE)
            return Shape((REG, self._second(func, args[1], 0x7C if compared >= 0x51 else 0x6A)), NONE)
        early = 0xA8 <= op <= 0xB1 or 0xFC00 <= op <= 0xFC07 or op in (0xB5, 0xBA)
        return Shape((REG,) * len(args), REG if func.type[value] != NO_TYPE else NONE, early=early)

    def _second(self, func: Func, value: int, op: int) -> int:
        if func.op[value] != Op.CONST:
            return ANY
        bits = func.imm[value]
        assert isinstance(bits, int)
        return ANY if fits_imm32(bits, op >= 0x7C) else REG

    def _address(self, func: Func, value: int) -> int:
        address, imm = func.args[value][0], func.imm[value]
        assert isinstance(imm, tuple)
        if func.op[address] == Op.CONST:
            bits = func.imm[address]
            assert isinstance(bits, int)
            if bits + imm[1] + 8 < 1 << 31:
                return NONE
        return REG

    def _stored(self, func: Func, value: int) -> int:
        if func.op[value] != Op.CONST:
            return REG
        bits = func.imm[value]
        assert isinstance(bits, int)
        return NONE if fits_imm32(bits, func.type[value] in (I64, F64)) else REG

    def _library(self, func: Func, value: int) -> Shape:
        args, imm = func.args[value], func.imm[value]
        assert isinstance(imm, tuple)
        has_result = func.type[value] != NO_TYPE
        if imm[0] in INLINE:
            return Shape((REG,) * len(args), REG if has_result else NONE)
        return Shape(HELPER_ARGUMENTS[: len(args)], Reg.RAX if has_result else NONE, _ALL, call=True)

    def _call(self, func: Func, value: int) -> Shape:
        args = func.args[value]
        indirect = func.op[value] == Op.CALL_INDIRECT
        types = [func.type[arg] for arg in (args[:-1] if indirect else args)]
        wanted = places(types, STACK_WORD)
        if indirect:
            wanted.append(TABLE_INDEX)
        type_ = func.type[value]
        output = NONE if type_ == NO_TYPE else places([type_], RESULT_WORD)[0]
        return Shape(tuple(wanted), output, _ALL, call=True)

    def _result(self, func: Func, value: int) -> Shape:
        """A further result of a call: in its register still, since only other results come between."""
        position = func.imm[value]
        call = func.args[value][0]
        assert isinstance(position, int)
        types = func.result_types_of[call]
        place = places(list(types), RESULT_WORD)[position]
        return Shape((NONE,), place if place < RESULT_WORD else REG)
