"""Wasm operations by what they need of a compiler: which only make a value, which read or write memory."""

from __future__ import annotations

from typing import Final

from trapline.compile.ir import Op
from trapline.wasm.opcodes import OPCODES, TRAPS

__all__ = ["LOADS", "PLAIN", "PURE_OPS", "STORES"]

PLAIN: Final[dict[int, tuple[int, int, bool]]] = {
    code: (len(row.operands), row.results[0], not row.flags & TRAPS)
    for code, row in OPCODES.items()
    if (0x45 <= code <= 0xC4 or 0xFC00 <= code <= 0xFC07) and row.results
}
"""Opcode -> (operand count, result type, pure); loads, stores and everything with control of its own are not here."""

PURE_OPS: Final = frozenset(
    [code for code, (_, _, pure) in PLAIN.items() if pure] + [0x1B, 0xD1, Op.CONST, Op.REF_FUNC]
)
"""Operations that only make a value and cannot trap."""

LOADS: Final = {code: OPCODES[code].results[0] for code in range(0x28, 0x36)}
"""Opcode -> the type of what it loads."""

STORES: Final = frozenset(range(0x36, 0x3F))
