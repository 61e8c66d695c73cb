"""Which values share a slot of the frame, so that passing one to the other costs nothing.

Requires: SSA in its layout and its Liveness. Leaves: for each value the number of its home; values of one home are
joined by edges and never live at the same time, so that one slot does for them.

A life is the half-open interval from the definition to the end of a Liveness. Lives that only touch are apart: an
instruction reads before it writes, and the moves of an edge happen at once.
"""

from __future__ import annotations

from bisect import bisect_right, insort

from trapline.compile.ir import Func, Op
from trapline.compile.liveness import Liveness

__all__ = ["find_homes"]


class _Homes:
    """Sets of values with disjoint lives."""

    def __init__(self, func: Func, live: Liveness) -> None:
        self._live = live
        self._leader = list(range(len(func.op)))
        self._lives: dict[int, list[tuple[int, int]]] = {}
        """Leader -> (start, end) of its members, in order; a leader that is not here is alone."""

    def leader(self, value: int) -> int:
        """The member that stands for the whole home."""
        leader = self._leader
        while leader[value] != value:
            leader[value] = leader[leader[value]]
            value = leader[value]
        return value

    def _lives_of(self, leader: int) -> list[tuple[int, int]]:
        found = self._lives.get(leader)
        if found is None:
            start = self._live.position[leader]
            found = [(start, max(self._live.end[leader], start + 1))]
        return found

    def join(self, a: int, b: int) -> None:
        """Make one home of two if no lives of theirs overlap."""
        a, b = self.leader(a), self.leader(b)
        if a == b:
            return
        few, many = self._lives_of(a), self._lives_of(b)
        if len(few) > len(many):
            a, b, few, many = b, a, many, few
        for start, end in few:
            at = bisect_right(many, (start, end))
            if at < len(many) and many[at][0] < end:
                return
            if at and many[at - 1][1] > start:
                return
        for life in few:
            insort(many, life)
        self._leader[a] = b
        self._lives[b] = many


def find_homes(func: Func, live: Liveness) -> list[int]:
    """The home of every value, by the number of one of its members; what is joined in inner loops goes first."""
    homes = _Homes(func, live)
    blocks = sorted(range(len(func.blocks)), key=lambda number: -func.blocks[number].depth)
    for number in blocks:
        for edge in func.blocks[number].edges:
            for arg, param in zip(edge.args, func.blocks[edge.target].params, strict=True):
                if func.op[arg] != Op.CONST:
                    homes.join(arg, param)
    return [homes.leader(value) for value in range(len(func.op))]
