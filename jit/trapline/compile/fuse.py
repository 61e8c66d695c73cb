"""Comparisons that only decide a branch become part of it.

Requires: SSA without dead code. Leaves: BRANCH instructions whose `imm` is the opcode of a comparison of their
operands; the comparison itself is in no block any more. A state that names its value recomputes it: the operands live
until the branch.
"""

from __future__ import annotations

from typing import Final

from trapline.compile.ir import Func, Op

__all__ = ["fuse_comparisons"]

_COMPARISONS: Final = frozenset([*range(0x45, 0x5B)])
"""Integer ones, eqz included. Those of floating point need two flags and stay values."""


def fuse_comparisons(func: Func) -> None:
    """Fuse each integer comparison whose one use is the branch that ends its block, and that no local names."""
    op, args = func.op, func.args
    uses = [0] * len(op)
    for block in func.blocks:
        for instruction in block.instructions:
            for value in args[instruction]:
                uses[value] += 1
        for edge in block.edges:
            for value in edge.args:
                uses[value] += 1
    for _, _, value in func.local_events:
        uses[value] += 1
    for block in func.blocks:
        if not block.instructions or op[block.instructions[-1]] != Op.BRANCH:
            continue
        branch = block.instructions[-1]
        condition = args[branch][0]
        if op[condition] in _COMPARISONS and uses[condition] == 1 and condition in block.instructions:
            block.instructions.remove(condition)
            args[branch] = args[condition]
            func.imm[branch] = op[condition]
