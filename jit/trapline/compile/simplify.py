"""Loop header parameters that carry only one value, and instructions that nobody needs.

Requires: SSA from lowering. Leaves: the same function with fewer parameters and pure instructions; every edge still
passes one value for each parameter; states name the values that took the place of what is gone.

`keep_states` says that values which only a state names are needed (debug level `full`).
"""

from __future__ import annotations

from trapline.compile.fold import COMMUTATIVE
from trapline.compile.ir import Func, Op
from trapline.compile.operations import PURE_OPS

__all__ = ["remove_dead", "remove_redundant_parameters"]


def _find(rename: list[int], value: int) -> int:
    while rename[value] != value:
        rename[value] = rename[rename[value]]
        value = rename[value]
    return value


def remove_redundant_parameters(func: Func) -> None:
    """Replace each parameter whose arguments are all one value, itself apart, by that value.

    Those behind a loop that only bring out a value of the loop stay: see lowering.
    """
    rename = list(range(len(func.op)))
    depth = [0] * len(func.op)
    for block in func.blocks:
        if block.depth:
            for value in block.params:
                depth[value] = block.depth
            for value in block.instructions:
                depth[value] = block.depth
    headers = [number for number, block in enumerate(func.blocks) if block.params and number]
    incoming: dict[int, list[list[int]]] = {number: [] for number in headers}
    for block in func.blocks:
        for edge in block.edges:
            if edge.target in incoming:
                incoming[edge.target].append(edge.args)
    changed = True
    any_change = False
    while changed:
        changed = False
        for number in headers:
            params = func.blocks[number].params
            outside = func.blocks[number].depth
            for position, param in enumerate(params):
                if rename[param] != param:
                    continue
                only = -1
                for args in incoming[number]:
                    value = _find(rename, args[position])
                    if value in (param, only):
                        continue
                    if only >= 0:
                        break
                    only = value
                else:
                    if only >= 0 and (depth[only] <= outside or func.op[only] == Op.CONST):
                        rename[param] = only
                        changed = any_change = True
    if any_change:
        _apply(func, rename, headers, incoming)


def _apply(func: Func, rename: list[int], headers: list[int], incoming: dict[int, list[list[int]]]) -> None:
    for number in headers:
        block = func.blocks[number]
        kept = [position for position, param in enumerate(block.params) if rename[param] == param]
        if len(kept) < len(block.params):
            block.params = [block.params[position] for position in kept]
            for args in incoming[number]:
                args[:] = [args[position] for position in kept]
            for position, param in enumerate(block.params):
                func.imm[param] = position
    final = [_find(rename, value) for value in range(len(rename))]
    op = func.op
    for value, operands in enumerate(func.args):
        renamed = tuple([final[operand] for operand in operands])
        if op[value] in COMMUTATIVE and op[renamed[0]] == Op.CONST:  # as lowering has it: a constant goes second
            renamed = (renamed[1], renamed[0])
        func.args[value] = renamed
    for block in func.blocks:
        for edge in block.edges:
            edge.args[:] = [final[arg] for arg in edge.args]
    func.cell_value[:] = [final[value] for value in func.cell_value]
    func.local_events[:] = [(pos, local, final[value]) for pos, local, value in func.local_events]


def remove_dead(func: Func, keep_states: bool) -> None:
    """Remove pure instructions, and parameters, whose values nothing uses."""
    needed = bytearray(len(func.op))
    work: list[int] = []

    def need(value: int) -> None:
        if not needed[value]:
            needed[value] = 1
            work.append(value)

    op = func.op
    param_home: dict[int, tuple[int, int]] = {}
    sources: dict[int, list[list[int]]] = {}
    for number, block in enumerate(func.blocks):
        for position, param in enumerate(block.params):
            param_home[param] = (number, position)
        for edge in block.edges:
            sources.setdefault(edge.target, []).append(edge.args)
        for instruction in block.instructions:
            if op[instruction] not in PURE_OPS:
                need(instruction)
    if keep_states:
        for value in func.cell_value:
            need(value)
        for _, _, value in func.local_events:
            need(value)
        for value in func.initial_locals:
            need(value)
    while work:
        value = work.pop()
        for arg in func.args[value]:
            need(arg)
        home = param_home.get(value)
        if home is not None:
            for args in sources.get(home[0], ()):
                need(args[home[1]])
    for number, block in enumerate(func.blocks):
        block.instructions = [value for value in block.instructions if needed[value] or op[value] not in PURE_OPS]
        if number and not all(needed[param] for param in block.params):
            kept = [position for position, param in enumerate(block.params) if needed[param]]
            block.params = [block.params[position] for position in kept]
            for args in sources.get(number, ()):
                args[:] = [args[position] for position in kept]
            for position, param in enumerate(block.params):
                func.imm[param] = position
