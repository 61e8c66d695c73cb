"""Where each value is used and how long it must live, in positions of the layout.

Requires: SSA in its final layout. Leaves: a Liveness. Position 2k stands for the k-th instruction of the layout, 2k + 1
for the moment behind it; a block's start is the position of its first instruction less one.

A value that is used inside a loop it was not defined in lives to the end of the outermost such loop, and has a use
there, so that whoever looks for the next use sees the next round.

In `full` a value also lives as long as a state names it: a local from the event that set it to the one that replaced
it, an operand as long as its cell is on the stack. These are no uses: any place will do for them.

An operand of a C function that may answer with a trap lives past the call, so that the call can be made again.
"""

from __future__ import annotations

from typing import Final

from trapline.compile.ir import Func, Op
from trapline.compile.libcalls import may_fail

__all__ = ["Liveness", "analyse", "unplaced"]

_LEAVES: Final = frozenset([Op.CONST, Op.PARAM])


class Liveness:
    """`uses[v]`: positions in order; `end[v]`: the last position at which it is needed, -1 never; `named_end[v]`: the
    last at which it is needed or a state names it, whether states are kept or not."""

    __slots__ = (
        "block_end",
        "block_start",
        "def_block",
        "end",
        "named_end",
        "opcode_at",
        "order",
        "position",
        "state_at",
        "uses",
    )

    def __init__(self, count: int, blocks: int) -> None:
        self.opcode_at: list[int] = []
        """For each opcode the position of the first instruction at or behind it."""
        self.state_at: list[int] = []
        """For each opcode where its state is looked at, or that of the last one before it that can be reached."""
        self.uses: list[list[int]] = [[] for _ in range(count)]
        self.end = [-1] * count
        self.named_end: list[int] = []
        self.position = [-1] * count
        self.def_block = [0] * count
        self.order: list[int] = []
        self.block_start = [0] * blocks
        self.block_end = [0] * blocks


def analyse(func: Func, full: bool) -> Liveness:
    """Uses and ends of every value of a function."""
    live = Liveness(len(func.op), len(func.blocks))
    position, def_block = live.position, live.def_block
    at = 0
    for number, block in enumerate(func.blocks):
        live.block_start[number] = at - 1
        for param in block.params:
            position[param] = at - 1
            def_block[param] = number
        for instruction in block.instructions:
            position[instruction] = at
            def_block[instruction] = number
            live.order.append(instruction)
            at += 2
        live.block_end[number] = at - 2
    live.opcode_at = _opcode_positions(func, live)
    live.state_at = list(live.opcode_at)
    for opcode, cell in enumerate(func.stack_at):
        if cell == -2 and opcode:
            live.state_at[opcode] = live.state_at[opcode - 1]
    for value, op in enumerate(func.op):
        if position[value] < 0 and op not in _LEAVES:  # where it would be
            def_block[value] = _block_at(live, live.opcode_at[func.pos[value]])
    chains = _loop_chains(func)
    _real_uses(func, live, chains)
    live.named_end = live.end if full else list(live.end)
    _state_ends(func, live, chains)
    return live


def _loop_chains(func: Func) -> list[list[tuple[int, int]]]:
    """For each block the loops around it, innermost first: (header, one past the loop's last block)."""
    out: list[list[tuple[int, int]]] = []
    open_loops: list[tuple[int, int]] = []
    for number, block in enumerate(func.blocks):
        while open_loops and number >= open_loops[0][1]:
            open_loops.pop(0)
        while open_loops and block.loop != open_loops[0][0] and number != block.loop:
            open_loops.pop(0)
        if block.is_header:
            open_loops.insert(0, (number, func.loop_ends.get(number, len(func.blocks))))
        out.append(list(open_loops))
    return out


def _needed_until(value: int, block: int, at: int, live: Liveness, chain: list[tuple[int, int]]) -> tuple[int, bool]:
    """How long a value needed at a position of a block must live, and whether a loop makes it longer."""
    home = live.def_block[value]
    until, looped = at, False
    for header, stop in chain:
        if home >= header:
            break
        until, looped = live.block_end[stop - 1] + 1, True
    return until, looped


def _real_uses(func: Func, live: Liveness, chains: list[list[tuple[int, int]]]) -> None:
    uses, end = live.uses, live.end
    args, op = func.args, func.op
    def_block = live.def_block
    for number, block in enumerate(func.blocks):
        chain = chains[number]
        for instruction in block.instructions:
            at = live.position[instruction]
            for value in args[instruction]:
                if op[instruction] == Op.RESULT:
                    continue
                uses[value].append(at)
                if chain and def_block[value] < chain[0][0]:
                    until, _ = _needed_until(value, number, at, live, chain)
                    uses[value].append(until)
                    if until > end[value]:
                        end[value] = until
                elif at > end[value]:
                    end[value] = at
            if op[instruction] == Op.LIBCALL and may_fail(func.imm[instruction]):
                # It traps when the registers are gone already: who tries again needs the operands elsewhere.
                for value in args[instruction]:
                    end[value] = max(end[value], at + 1)
        at = live.block_end[number] + 1
        for edge in block.edges:
            for value in edge.args:
                uses[value].append(at)
                if chain and def_block[value] < chain[0][0]:
                    at_end, _ = _needed_until(value, number, at, live, chain)
                    uses[value].append(at_end)
                    if at_end > end[value]:
                        end[value] = at_end
                elif at > end[value]:
                    end[value] = at
    for positions in uses:
        positions.sort()


def _state_ends(func: Func, live: Liveness, chains: list[list[tuple[int, int]]]) -> None:
    """Lengthen lives by what states name."""
    starts = live.state_at
    end = live.named_end

    def named(value: int, until_opcode: int) -> None:
        """States before opcode `until_opcode` name the value; the last is looked at where that opcode's code begins."""
        at = starts[max(min(until_opcode, len(starts)) - 1, 0)]
        number = _block_at(live, at)
        until, _ = _needed_until(value, number, at, live, chains[number])
        if until > end[value]:
            end[value] = until

    count = len(func.stack_at)
    current = dict(enumerate(func.initial_locals))
    for pos, local, value in func.local_events:
        named(current[local], pos)
        current[local] = value
    for value in current.values():
        named(value, count)
    chain: list[int] = []
    for index, cell in enumerate(func.stack_at):
        if cell == -2:
            continue
        missing = []
        # A cell has a higher number than the cells below it, so the two chains meet where the higher end gives way.
        while cell != (chain[-1] if chain else -1):
            if chain and chain[-1] > cell:
                named(func.cell_value[chain.pop()], index)
            else:
                missing.append(cell)
                cell = func.cell_below[cell]
        chain.extend(reversed(missing))
    while chain:
        named(func.cell_value[chain.pop()], count)
    for value in unplaced(func, live):  # states compute it from its operands
        for arg in func.args[value]:
            if end[arg] < end[value]:
                end[arg] = end[value]
    for block in func.blocks:
        for instruction in block.instructions:
            if func.op[instruction] in (Op.CALL, Op.CALL_INDIRECT):
                # A frame that waits for a call shows the state before it, arguments included.
                for value in func.args[instruction]:
                    end[value] = max(end[value], live.position[instruction] + 1)


def unplaced(func: Func, live: Liveness) -> list[int]:
    """Operations that states name and no block carries out, each before what it is computed from."""
    op, position, end = func.op, live.position, live.named_end
    out: list[int] = []
    work = [value for value, last in enumerate(end) if last >= 0 and position[value] < 0 and op[value] not in _LEAVES]
    seen = set(work)
    waiting: dict[int, int] = {}
    for value in work:
        for arg in func.args[value]:
            if position[arg] < 0 and op[arg] not in _LEAVES:
                waiting[arg] = waiting.get(arg, 0) + 1
                if arg not in seen:
                    seen.add(arg)
                    work.append(arg)
    ready = [value for value in work if value not in waiting]
    while ready:
        value = ready.pop()
        out.append(value)
        for arg in func.args[value]:
            if arg in waiting:
                waiting[arg] -= 1
                if not waiting[arg]:
                    ready.append(arg)
    return out


def _opcode_positions(func: Func, live: Liveness) -> list[int]:
    count = len(func.stack_at)
    out = [0] * count
    opcode = 0
    for instruction in live.order:
        pos = func.pos[instruction]
        while opcode <= pos and opcode < count:
            out[opcode] = live.position[instruction]
            opcode += 1
    last = live.position[live.order[-1]] if live.order else 0
    while opcode < count:
        out[opcode] = last
        opcode += 1
    return out


def _block_at(live: Liveness, at: int) -> int:
    """The block that holds a position."""
    low, high = 0, len(live.block_end) - 1
    while low < high:
        middle = (low + high) // 2
        if live.block_end[middle] < at:
            low = middle + 1
        else:
            high = middle
    return low
