"""Which values share a slot of the frame, so that passing one to the other costs nothing.

Requires: SSA in its layout and its Liveness. Leaves: for each value the number of its home; values of one home are
joined by edges and never live at the same time, so that one slot does for them.

A life is a list of half-open intervals of positions. That of a value which only one local was ever given, and which is
used only while that local holds it, is where the local holds it: on other ways through the code, however they lie in
the layout, others may have the home. Any other value's life is all from its definition to its end. Lives that only
touch are apart: an instruction reads before it writes, and the moves of an edge happen at once.

What a state names counts at every debug level: a slot is right for as long as any state names a value in it.
"""

from __future__ import annotations

from bisect import bisect_right, insort

from trapline.compile.ir import Func, Op
from trapline.compile.liveness import Liveness, unplaced

__all__ = ["find_homes", "find_lives"]

_Life = list[tuple[int, int]]
_LATE = 1 << 60


class _Homes:
    """Sets of values with disjoint lives."""

    def __init__(self, func: Func, live: Liveness, lives: dict[int, _Life]) -> None:
        self._live = live
        self._leader = list(range(len(func.op)))
        self._lives = lives
        """Leader -> lives of its members, in order; a leader that is not here is alone and lives without holes."""
        self._joined: set[int] = set()
        """Leaders whose list is of several."""

    def leader(self, value: int) -> int:
        """The member that stands for the whole home."""
        leader = self._leader
        while leader[value] != value:
            leader[value] = leader[leader[value]]
            value = leader[value]
        return value

    def _life(self, leader: int) -> _Life:
        found = self._lives.get(leader)
        if found is None:
            start = self._live.position[leader]
            found = [(start, max(self._live.named_end[leader], start + 1))]
        return found

    def join(self, a: int, b: int) -> None:
        """Make one home of two if no lives of theirs overlap."""
        a, b = self.leader(a), self.leader(b)
        if a == b:
            return
        few, many = self._life(a), self._life(b)
        if len(few) > len(many):
            a, b, few, many = b, a, many, few
        for start, end in few:
            at = bisect_right(many, (start, end))
            if at < len(many) and many[at][0] < end:
                return
            if at and many[at - 1][1] > start:
                return
        if b not in self._joined:
            many = list(many)
            self._joined.add(b)
        for life in few:
            insort(many, life)
        self._leader[a] = b
        self._lives[b] = many


def _held(func: Func) -> dict[int, _Life]:
    """For each value that only one local was given: [first, behind the last) opcode of each stretch in which the local
    holds it."""
    out: dict[int, _Life] = {}
    owner = dict(func.owner)
    now = [(value, 0) for value in func.initial_locals]
    for _, local, value in [*((0, local, value) for local, (value, _) in enumerate(now)), *func.local_events]:
        if owner.get(value, -1) != local:  # passes have given it to others
            owner[value] = -1
    for pos, local, value in func.local_events:
        before, since = now[local]
        if owner[before] == local:
            out.setdefault(before, []).append((since, pos))
        now[local] = (value, pos)
    for local, (value, since) in enumerate(now):
        if owner[value] == local:
            out.setdefault(value, []).append((since, len(func.stack_at)))
    return out


def _drop_strays(func: Func, live: Liveness, held: dict[int, _Life]) -> None:
    """Remove values that are used, or on the operand stack, while their local holds another."""

    def stretch(value: int, pos: int) -> int:
        """The stretch that an opcode is in, -1 before the first, -2 between others."""
        life = held[value]
        at = bisect_right(life, (pos, _LATE)) - 1
        return at if at < 0 or pos < life[at][1] else -2

    args, position = func.args, func.pos
    for block in func.blocks:
        for instruction in block.instructions:
            for value in args[instruction]:
                if value in held and stretch(value, position[instruction]) == -2:
                    del held[value]
        for edge in block.edges:
            for value in edge.args:
                if value in held and stretch(value, position[block.instructions[-1]]) == -2:
                    del held[value]
    below, values = func.cell_below, func.cell_value
    chain: list[tuple[int, int]] = []  # (cell, opcode at which it was first there)

    def gone(since: int, cell: int, last: int) -> None:
        value = values[cell]
        if value not in held:
            return
        end = stretch(value, last)
        if end not in (-1, max(stretch(value, since), 0)):
            del held[value]

    last = 0
    for index, cell in enumerate(func.stack_at):
        if cell == -2:
            continue
        missing = []
        while cell != (chain[-1][0] if chain else -1):
            if chain and chain[-1][0] > cell:
                old, since = chain.pop()
                gone(since, old, last)
            else:
                missing.append((cell, index))
                cell = below[cell]
        chain.extend(reversed(missing))
        last = index
    for old, since in chain:
        gone(since, old, last)


def find_lives(func: Func, live: Liveness) -> dict[int, _Life]:
    """The lives of values that live where one local holds them."""
    entering = set(func.blocks[0].params)
    held = {
        value: life
        for value, life in _held(func).items()
        if func.op[value] != Op.CONST and (live.position[value] >= 0 or value in entering)
    }
    _drop_strays(func, live, held)
    opcode_at, end = live.opcode_at, len(func.stack_at) - 1
    starts = set(live.block_start)
    out: dict[int, _Life] = {}
    for value, stretches in held.items():
        life: _Life = []
        for first, behind in stretches:
            start = opcode_at[min(first, end)] - 1 if life else live.position[value]
            stop = opcode_at[min(behind, end)] - 1  # where a block begins, its edges still read the value here
            if stop not in starts:
                stop -= 1
            stop = max(stop, live.state_at[min(behind - 1, end)])
            if not life:
                stop = max(stop, start + 1)
            if stop > start:
                life.append((start, stop))
        out[value] = life
    for value in unplaced(func, live):  # what states compute must be there while they do, whatever its local holds
        first, last = opcode_at[func.pos[value]], live.named_end[value]
        for arg in func.args[value]:
            if arg in out and not any(start <= first and last <= stop for start, stop in out[arg]):
                del out[arg]
    return out


def find_homes(func: Func, live: Liveness, lives: dict[int, _Life]) -> list[int]:
    """The home of every value, by the number of one of its members; `lives` are those of find_lives.

    The values of a local come first, parameters before what is made in between; then what edges join, in inner loops
    before others.
    """
    by_local: dict[int, int] = {}
    values = sorted(lives, key=lambda value: func.op[value] != Op.PARAM)
    homes = _Homes(func, live, dict(lives))
    for value in values:
        homes.join(value, by_local.setdefault(func.owner[value], value))
    blocks = sorted(range(len(func.blocks)), key=lambda number: -func.blocks[number].depth)
    for number in blocks:
        for edge in func.blocks[number].edges:
            for arg, param in zip(edge.args, func.blocks[edge.target].params, strict=True):
                if func.op[arg] != Op.CONST:
                    homes.join(arg, param)
    return [homes.leader(value) for value in range(len(func.op))]
