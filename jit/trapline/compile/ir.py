"""SSA form of one function, as parallel lists: what lowering makes, passes change and allocation reads.

An instruction and the value it defines have one number. Columns, by that number:

    op      an Op below, or the Wasm opcode of a pure or memory operation (0x45 .. 0xFC11), whose meaning it has
    args    the values it reads, in operand order
    type    value type of what it defines, or NO_TYPE
    imm     what else it needs: a constant's bits, an offset, an index
    pos     index of the Wasm opcode it belongs to; within a block positions never go down

Blocks are numbered in the order in which they are laid out. A block's last instruction is its terminator, and only that
names other blocks; every edge passes one value for each parameter of its target.

Invariants (checker.py proves them): a definition dominates each use; a loop's blocks are contiguous and start with
its header; an effect keeps its order with every other effect and with every stop point.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["NO_TYPE", "Block", "Edge", "Func", "Op"]

NO_TYPE: Final = 0


class Op(enum.IntEnum):
    """Instructions that are no Wasm operation of one value. Below 0 so that Wasm opcodes keep their numbers."""

    PARAM = -1  # parameter of a block, or of the function in block 0; imm: which
    CONST = -2  # imm: the bits, unsigned
    JUMP = -3  # terminator: edges[0]
    BRANCH = -4  # terminator: args[0] is not zero (or imm, a comparison of args, holds): edges[0], else edges[1]
    SWITCH = -5  # terminator: edges[min(args[0], last)]; imm: how many
    RETURN = -6  # terminator: args are the results
    TRAP = -7  # terminator: imm is the trap's kind
    CALL = -8  # imm: function index; results beyond the first are RESULTs behind it
    CALL_INDIRECT = -9  # args: arguments, then the table index; imm: (type index, table index)
    RESULT = -10  # args[0]: the call, imm: which result
    GLOBAL_GET = -11  # imm: global index
    GLOBAL_SET = -12  # args[0]: value; imm: global index
    LIBCALL = -13  # args: operands; imm: (name, immediates...) of a runtime function
    REF_FUNC = -14  # imm: function index
    COPY = -15  # args[0] under the name of the local that takes it


class Edge:
    """One way out of a block: the target and a value for each of its parameters."""

    __slots__ = ("args", "target")

    def __init__(self, target: int, args: list[int]) -> None:
        self.target = target
        self.args = args


class Block:
    """Instructions in order. `loop` is the header of the innermost loop it is in, or -1; `depth` counts loops.

    `params` are values of op PARAM. `edges` are the terminator's. `predecessors` lists block numbers, one for each
    edge, in no order that means anything. `start_pos` is the opcode index of the state on entry.
    """

    __slots__ = ("depth", "edges", "instructions", "is_header", "loop", "params", "predecessors", "start_pos")

    def __init__(self, loop: int, depth: int, start_pos: int) -> None:
        self.instructions: list[int] = []
        self.params: list[int] = []
        self.edges: list[Edge] = []
        self.predecessors: list[int] = []
        self.loop = loop
        self.depth = depth
        self.is_header = False
        self.start_pos = start_pos


class Func:
    """A function in SSA form, with the state of every opcode.

    The state before opcode i: local x holds the value of the last event with index <= i in `local_events` of x, or its
    initial value; the operand stack is the chain that begins at `stack_at[i]`: `cell_value[c]` on top of the chain
    `cell_below[c]`, -1 the empty one. `stack_at[i]` is -2 where opcode i cannot be reached.
    """

    __slots__ = (
        "args",
        "blocks",
        "cell_below",
        "cell_value",
        "imm",
        "index",
        "initial_locals",
        "local_events",
        "loop_ends",
        "op",
        "owner",
        "pos",
        "result_types",
        "result_types_of",
        "stack_at",
        "type",
    )

    def __init__(self, index: int, opcode_count: int) -> None:
        self.index = index
        self.op: list[int] = []
        self.args: list[tuple[int, ...]] = []
        self.type: list[int] = []
        self.imm: list[object] = []
        self.pos: list[int] = []
        self.blocks: list[Block] = []
        self.loop_ends: dict[int, int] = {}
        """Header -> one past the last block of its loop."""
        self.initial_locals: list[int] = []
        self.local_events: list[tuple[int, int, int]] = []
        """(opcode index from which it holds, local, value), by opcode index."""
        self.owner: dict[int, int] = {}
        """Value -> the one local that was ever given it, once and for all paths; -1: there were several."""
        self.stack_at = [-2] * (opcode_count + 1)
        self.cell_value: list[int] = []
        self.cell_below: list[int] = []
        self.result_types: tuple[int, ...] = ()
        self.result_types_of: dict[int, tuple[int, ...]] = {}
        """Of each call with more than one result."""

    def add(self, op: int, args: tuple[int, ...], type_: int, imm: object, pos: int) -> int:
        """A new instruction, in no block yet; returns its number."""
        number = len(self.op)
        self.op.append(op)
        self.args.append(args)
        self.type.append(type_)
        self.imm.append(imm)
        self.pos.append(pos)
        return number
