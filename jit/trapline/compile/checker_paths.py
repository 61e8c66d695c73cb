"""Proves that a stop offset and the one before it tell which opcode execution is at.

Requires: a proved frame table and what emission left. Leaves: nothing. Raises: CheckError.

Opcodes without code share the stop point of what follows them, so a block without any code shares the one of the block
it falls into. Whoever stops there must know whether it came through that block: by where it stopped before. An anchor
instruction in such a block keeps the two apart (x86_64/emit.py).
"""

from __future__ import annotations

from typing import Protocol

from trapline.compile.checker_ssa import CheckError
from trapline.compile.frame_table import FrameTable, Group
from trapline.compile.ir import Func

__all__ = ["check_paths"]

Arrival = tuple[int, int]
"""(block, index of the group), index -1: a block without one."""


class _Layout(Protocol):
    @property
    def block_offsets(self) -> list[int]: ...
    @property
    def step_offsets(self) -> list[list[int]]: ...
    @property
    def edge_offsets(self) -> list[list[tuple[int, int]]]: ...


class _Check:
    def __init__(self, func: Func, emitted: _Layout, table: FrameTable) -> None:
        self._func = func
        self._emitted = emitted
        self._table = table
        self._arrivals: dict[tuple[int, int], set[Arrival]] = {}
        """(offset of the stop before, offset) -> what is first there."""

    def run(self) -> None:
        self._arrive(-1, 0, True, set())
        for number, block in enumerate(self._table.blocks):
            for index, group in enumerate(block.groups):
                if index + 1 < len(block.groups):
                    following = block.groups[index + 1]
                    if following.offset != group.offset:
                        self._add(group.offset, following.offset, (number, index + 1))
                else:
                    self._leave(group.offset, number, group.offset, set())
        stops = {offset for offset, _ in self._table.stops}
        for (before, offset), found in self._arrivals.items():
            if len(found) > 1 and offset in stops:
                raise CheckError(
                    self._func.index,
                    f"arriving from offset {before:#x} does not tell which opcode is next",
                    offset=offset,
                    found=[self._opcodes(arrival) for arrival in sorted(found)],
                    expected="one way",
                )

    def _opcodes(self, arrival: Arrival) -> str:
        number, index = arrival
        if index < 0:
            return f"nothing of block {number}"
        group: Group = self._table.blocks[number].groups[index]
        return f"opcodes {group.first} to {group.stop - 1} of block {number}"

    def _add(self, before: int, offset: int, arrival: Arrival) -> None:
        self._arrivals.setdefault((before, offset), set()).add(arrival)

    def _leave(self, before: int, number: int, since: int, seen: set[tuple[int, bool]]) -> None:
        """Along each edge of a block; `since`: the offset behind which no code has run yet, -1: some has."""
        emitted = self._emitted
        end = emitted.step_offsets[number][-1]
        for edge, (start, stop) in zip(self._func.blocks[number].edges, emitted.edge_offsets[number], strict=True):
            falls = since == end and start == stop == end == emitted.block_offsets[edge.target]
            self._arrive(before, edge.target, not falls, seen)

    def _arrive(self, before: int, number: int, ran: bool, seen: set[tuple[int, bool]]) -> None:
        """At the start of a block, with or without having run code since the last stop."""
        if (number, ran) in seen:
            return
        seen.add((number, ran))
        emitted = self._emitted
        first = emitted.step_offsets[number][0]
        ran = ran or first != emitted.block_offsets[number]
        groups = self._table.blocks[number].groups
        if ran:
            self._add(before, first, (number, 0 if groups else -1))
        if not groups:
            self._leave(before, number, -1 if ran else first, seen)


def check_paths(func: Func, emitted: _Layout, table: FrameTable) -> None:
    """Every stop of a function, by the one before it. For code that keeps its states."""
    _Check(func, emitted, table).run()
