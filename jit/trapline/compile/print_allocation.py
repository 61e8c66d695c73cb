"""What allocation decided, as text: the steps of each block with places for operands and results.

A place is a register, `[k]` for the k-th slot of the frame, or what the machine's `place_text` says of it.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.compile.allocate import SLOT, Allocation, Step
from trapline.compile.ir import Func, Op
from trapline.compile.print_ssa import block_heading, commented, constant_text, edge_text, instruction_text

__all__ = ["print_allocation"]

PlaceText = Callable[[int], str]
"""The name of a place that is no slot."""


class _Printer:
    def __init__(self, func: Func, allocation: Allocation, place_text: PlaceText) -> None:
        self._func = func
        self._allocation = allocation
        self._place_text = place_text

    def _place(self, place: int) -> str:
        is_slot = SLOT <= place < SLOT + self._allocation.slot_count
        return f"[{place - SLOT}]" if is_slot else self._place_text(place)

    def _constant(self, value: int) -> str:
        return constant_text(self._func.type[value], self._func.imm[value])

    def _named(self, value: int, place: int) -> str:
        """A value in its place; one without is a constant in the instruction."""
        if place >= 0:
            return f"{self._place(place)}:v{value}"
        return self._constant(value) if self._func.op[value] == Op.CONST else f"v{value}"

    def _operand(self, value: int, position: int, place: int) -> str:
        """An operand: its place, or the constant it is. Commuted operands come in the order of their places."""
        if place >= 0:
            return self._place(place)
        args = self._func.args[value]
        of_this = [args[position]] if position < len(args) else []
        constants = [arg for arg in (*of_this, *args) if self._func.op[arg] == Op.CONST]
        return self._constant(constants[0]) if constants else "-"

    def _step(self, step: Step) -> str:
        func, value = self._func, step.value
        if step.kind == 0:
            return f"{self._place(step.out)}:v{value} = {self._place(step.ins[0])}"
        if step.kind == 1:
            return f"{self._place(step.out)}:v{value} = {self._constant(value)}"
        operands = [self._operand(value, position, place) for position, place in enumerate(step.ins)]
        slot = self._allocation.slot[value]
        result = self._named(value, step.out) + (f" and [{slot}]" if slot >= 0 else "")
        return instruction_text(func, value, operands, result, [])

    def steps(self) -> str:
        func, allocation = self._func, self._allocation
        lines = [f"{allocation.slot_count} slots"]
        for number, block in enumerate(func.blocks):
            params = [
                self._named(param, place)
                for param, place in zip(block.params, allocation.param_places[number], strict=False)
            ]
            entry = [f"{self._place(register)}:v{value}" for at, register, value in allocation.log[number] if not at]
            lines.append(block_heading(func, number, ", ".join(params)))
            if held := [text for text in entry if text not in params]:
                lines.append(f"  holding {', '.join(held)}")
            lines += [
                commented(f"  {self._step(step)}", str(func.pos[step.value]) if step.kind == 2 else "")
                for step in allocation.steps[number]
            ]
            for edge, moves in zip(block.edges, allocation.edge_moves[number], strict=False):
                text = "; ".join(map(self._step, moves))
                lines.append(f"  to {edge_text(edge)}" + (f": {text}" if text else ""))
        return "\n".join(lines)


def print_allocation(func: Func, allocation: Allocation, place_text: PlaceText) -> str:
    """An allocation as text: what happens in which order, with the place of each operand and result."""
    return _Printer(func, allocation, place_text).steps()
