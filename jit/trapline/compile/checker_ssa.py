"""Proves the invariants of the SSA form (ir.py) for one function.

Requires: a Func. Leaves: a Shape of its control flow: dominators and loops. Raises: CheckError.

Blocks lie so that only edges back to the header of a loop go backwards; so one walk in the order of the layout finds
the dominators.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from trapline.compile.ir import NO_TYPE, Func, Op
from trapline.wasm.opcodes import OPCODES

__all__ = ["CheckError", "Flow", "check_ssa"]

_TERMINATORS: Final = {Op.JUMP: (1, 1), Op.BRANCH: (2, 2), Op.SWITCH: (1, 1 << 30), Op.RETURN: (0, 0), Op.TRAP: (0, 0)}
"""Terminator -> least and greatest number of edges."""


class CheckError(Exception):
    """What compilation has promised and not kept."""

    def __init__(
        self,
        function: int,
        what: str,
        *,
        block: int = -1,
        opcode: int = -1,
        offset: int = -1,
        found: object = None,
        expected: object = None,
    ) -> None:
        self.function = function
        self.what = what
        self.block = block
        self.opcode = opcode
        self.offset = offset
        self.found = found
        self.expected = expected
        where = [f"function {function}"]
        if block >= 0:
            where.append(f"block {block}")
        if opcode >= 0:
            where.append(f"opcode {opcode}")
        if offset >= 0:
            where.append(f"offset {offset:#x}")
        text = f"{', '.join(where)}: {what}"
        if found is not None or expected is not None:
            text += f": found {found}, expected {expected}"
        super().__init__(text)


class Flow:
    """`home[v]`: (block, index in it) of a definition, index -1 for a parameter; None: in no block. `idom[b]`: its
    immediate dominator, -1 of the entry. `loop_of[h]`: one past the last block of the loop of a header."""

    def __init__(self, func: Func) -> None:
        self.home: list[tuple[int, int] | None] = [None] * len(func.op)
        self.idom = [-1] * len(func.blocks)
        self.depth = [0] * len(func.blocks)
        self.loop_of: dict[int, int] = {}

    def dominates(self, above: int, below: int) -> bool:
        """Whether every way to `below` leads through `above`."""
        while self.depth[below] > self.depth[above]:
            below = self.idom[below]
        return above == below


class _Check:
    def __init__(self, func: Func) -> None:
        self._func = func
        self.out = Flow(func)

    def _fail(
        self, what: str, block: int, value: int = -1, found: object = None, expected: object = None
    ) -> CheckError:
        opcode = self._func.pos[value] if value >= 0 else -1
        return CheckError(self._func.index, what, block=block, opcode=opcode, found=found, expected=expected)

    def run(self) -> Flow:
        self._definitions()
        self._edges()
        self._loops()
        self._dominators()
        self._uses()
        return self.out

    def _definitions(self) -> None:
        func, home = self._func, self.out.home
        for number, block in enumerate(func.blocks):
            for position, param in enumerate(block.params):
                if home[param] is not None:
                    raise self._fail(f"value {param} is defined twice", number, param)
                if func.op[param] != Op.PARAM or func.imm[param] != position:
                    raise self._fail(f"parameter {param}", number, param, func.imm[param], position)
                home[param] = number, -1
            last = block.start_pos
            for at, value in enumerate(block.instructions):
                if home[value] is not None:
                    raise self._fail(f"value {value} is defined twice", number, value)
                home[value] = number, at
                op, pos = func.op[value], func.pos[value]
                if op == Op.PARAM:
                    raise self._fail(f"a parameter among the instructions: {value}", number, value)
                if (op in _TERMINATORS) != (at == len(block.instructions) - 1):
                    raise self._fail("a block's terminator is its last instruction, and no other is", number, value)
                # The block in which every way out of the function meets lies behind its last opcode.
                if pos < last and not (op == Op.RETURN and at == 0):
                    raise self._fail("positions go down", number, value, pos, f"{last} or more")
                last = pos
            if not block.instructions:
                raise self._fail("a block without a terminator", number)

    def _edges(self) -> None:
        func = self._func
        arriving: list[Counter[int]] = [Counter() for _ in func.blocks]
        for number, block in enumerate(func.blocks):
            terminator = block.instructions[-1]
            low, high = _TERMINATORS[Op(func.op[terminator])]
            if not low <= len(block.edges) <= high:
                raise self._fail("edges", number, terminator, len(block.edges), f"{low} to {high}")
            for edge in block.edges:
                if not 0 < edge.target < len(func.blocks):
                    raise self._fail("an edge leads nowhere", number, terminator, edge.target)
                arriving[edge.target][number] += 1
                params = func.blocks[edge.target].params
                found, wanted = [func.type[arg] for arg in edge.args], [func.type[param] for param in params]
                if found != wanted:
                    raise self._fail(f"types passed to block {edge.target}", number, terminator, found, wanted)
        for number, block in enumerate(func.blocks):
            if Counter(block.predecessors) != arriving[number]:
                raise self._fail("predecessors", number, -1, sorted(block.predecessors), sorted(arriving[number]))
            if number and not block.predecessors:
                raise self._fail("a block that nothing leads to", number)

    def _loops(self) -> None:
        """Headers, contiguous and nested loops, and no way in but by the header."""
        func = self._func
        open_loops: list[tuple[int, int]] = []
        inside: list[list[tuple[int, int]]] = []
        for number, block in enumerate(func.blocks):
            while open_loops and number >= open_loops[-1][1]:
                open_loops.pop()
            if block.is_header:
                stop = func.loop_ends.get(number, len(func.blocks))
                if open_loops and stop > open_loops[-1][1]:
                    raise self._fail("a loop ends behind the one around it", number, -1, stop, open_loops[-1][1])
                open_loops.append((number, stop))
                self.out.loop_of[number] = stop
            innermost = open_loops[-1][0] if open_loops else -1
            if block.loop != innermost or block.depth != len(open_loops):
                found, wanted = (block.loop, block.depth), (innermost, len(open_loops))
                raise self._fail("innermost loop and depth", number, -1, found, wanted)
            inside.append(list(open_loops))
        for number, block in enumerate(func.blocks):
            for edge in block.edges:
                target = edge.target
                if target <= number and (target, self.out.loop_of.get(target, -1)) not in inside[number]:
                    raise self._fail("an edge back to what is no header of a loop around it", number, -1, target)
                for header, stop in inside[target]:
                    if target != header and not header <= number < stop:
                        raise self._fail(f"a way into the loop of {header} past its header", number, -1, target)

    def _dominators(self) -> None:
        out = self.out
        for number, block in enumerate(self._func.blocks):
            if number == 0:
                continue
            best = -1
            for source in block.predecessors:
                if source >= number:
                    continue
                best = source if best < 0 else self._meet(best, source)
            if best < 0:
                raise self._fail("a block that only what follows it leads to", number)
            out.idom[number] = best
            out.depth[number] = out.depth[best] + 1

    def _meet(self, a: int, b: int) -> int:
        idom = self.out.idom
        while a != b:
            if a > b:
                a = idom[a]
            else:
                b = idom[b]
        return a

    def _uses(self) -> None:
        func = self._func
        for number, block in enumerate(func.blocks):
            for at, value in enumerate(block.instructions):
                for arg in func.args[value]:
                    self._used(arg, number, at, value)
                self._types(value, number)
            for edge in block.edges:
                for arg in edge.args:
                    self._used(arg, number, len(block.instructions), block.instructions[-1])

    def _used(self, arg: int, block: int, at: int, user: int) -> None:
        home = self.out.home[arg]
        if home is None:
            raise self._fail(f"value {arg}, which {user} uses, is defined nowhere", block, user)
        if home[0] == block:
            if home[1] >= at:
                raise self._fail(f"value {arg} is defined behind its use by {user}", block, user)
        elif not self.out.dominates(home[0], block):
            raise self._fail(f"value {arg} of block {home[0]} does not dominate its use by {user}", block, user)

    def _types(self, value: int, number: int) -> None:
        func = self._func
        op, args = func.op[value], func.args[value]
        found = [func.type[arg] for arg in args]
        if op == Op.RETURN:
            wanted = list(func.result_types)
        elif op == Op.BRANCH and func.imm[value] is not None:
            compared = func.imm[value]
            assert isinstance(compared, int)
            wanted = list(OPCODES[compared].operands)
        elif op in OPCODES and op != 0x1B and op != 0xD1:
            wanted = list(OPCODES[op].operands)
            results = OPCODES[op].results
            if func.type[value] != (results[0] if results else NO_TYPE):
                raise self._fail(f"type of value {value}", number, value, func.type[value], results)
        else:
            return
        if found != wanted:
            raise self._fail(f"types of the operands of {value}", number, value, found, wanted)


def check_ssa(func: Func) -> Flow:
    """Every invariant of ir.py that needs no allocation."""
    return _Check(func).run()
