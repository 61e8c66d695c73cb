"""What allocation asks of a machine, and what it leaves: the words that it shares with emission and frame tables."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from trapline.compile.ir import Func

__all__ = ["ANY", "NONE", "REG", "SAME", "SLOT", "Allocation", "Machine", "Shape", "Step"]

SLOT: Final = 64
"""Places: 0-15 general registers, 16-31 floating-point registers, SLOT + k the k-th slot of the frame."""

REG: Final = -1
"""In or out: any register of the value's class."""
ANY: Final = -2
"""In: a register, a slot or a constant, as it happens to be."""
SAME: Final = -3
"""Out: the register of the first operand, which is overwritten."""
NONE: Final = -4
"""Out: no register. In: a constant that the instruction holds itself."""


class Shape(NamedTuple):
    """What an instruction asks of its operands: a register number, or one of the codes above.

    `clobbers` are registers it destroys; `early` says that the result is written before every operand is read.
    `swaps` says that the first two operands may change places. `call` says that it destroys every register and that all
    inputs are places to move to at once, slots of the outgoing area included.
    """

    inputs: tuple[int, ...]
    output: int
    clobbers: tuple[int, ...] = ()
    early: bool = False
    swaps: bool = False
    call: bool = False


class Machine(Protocol):
    """What allocation asks of an architecture."""

    general: tuple[int, ...]
    floating: tuple[int, ...]

    def shape(self, func: Func, value: int) -> Shape: ...
    def parameter_places(self, types: list[int]) -> list[int]: ...


class Step(NamedTuple):
    """One thing to emit: kind 0 a move from `ins[0]` to `out`, 1 the constant `value` into `out`, 2 the instruction."""

    kind: int
    value: int
    ins: tuple[int, ...]
    out: int


class Allocation:
    """What emission and the frame table read.

    `steps[b]` in order; `edge_moves[b][k]` for the k-th edge; `slot[v]` or -1; `log[b]`: (number of steps before it
    holds, register, value or -1 for rubbish), the block's entry first. A value stays in a register, as far as a state
    is concerned, until something else is written there, however early the allocator gave it up. `param_places[b]`:
    where the block finds its parameters. `delivered`: parameters in registers whose slots every edge has filled
    already; the block stores the others.
    """

    __slots__ = ("delivered", "edge_moves", "log", "param_places", "slot", "slot_count", "steps")

    def __init__(self, values: int, blocks: int) -> None:
        self.steps: list[list[Step]] = [[] for _ in range(blocks)]
        self.edge_moves: list[list[list[Step]]] = [[] for _ in range(blocks)]
        self.slot = [-1] * values
        self.slot_count = 0
        self.log: list[list[tuple[int, int, int]]] = [[] for _ in range(blocks)]
        self.param_places: list[list[int]] = [[] for _ in range(blocks)]
        self.delivered: set[int] = set()
