"""Control frames while lowering, and which locals each of them sets."""

from __future__ import annotations

from trapline.compile.ir import Edge

__all__ = ["Label", "assigned_locals"]

_BLOCK, _IF, _END, _LOCAL_SET, _LOCAL_TEE = 0x02, 0x04, 0x0B, 0x21, 0x22


class Label:
    """A control frame: where its label leads, and what a branch there carries."""

    __slots__ = (
        "arity",
        "assigned",
        "base_cell",
        "block",
        "else_cell",
        "else_edge",
        "else_locals",
        "incoming",
        "is_loop",
        "mark",
        "result_types",
    )

    def __init__(
        self, is_loop: bool, result_types: tuple[int, ...], arity: int, assigned: list[int], cell: int
    ) -> None:
        self.is_loop = is_loop
        self.result_types = result_types
        self.arity = arity
        self.assigned = assigned
        self.base_cell = cell
        """The operand stack below the frame's own operands."""
        self.block = -1
        """The loop's header."""
        self.incoming: list[tuple[int, Edge]] = []
        """(block, edge) of each forward branch here; the edge carries results, then assigned locals."""
        self.else_edge: Edge | None = None
        self.else_locals: list[int] = []
        self.else_cell = -1
        self.mark = 0
        """Length of the undo log when the frame began."""


def assigned_locals(opcodes: list[int], immediates: list[object]) -> dict[int, list[int]]:
    """For each block, loop and if by its opcode index: the locals that are set inside, in order; under -1, of all."""
    out: dict[int, list[int]] = {}
    masks = [0]
    starts = [-1]
    for index, code in enumerate(opcodes):
        if code in (_LOCAL_SET, _LOCAL_TEE):
            local = immediates[index]
            assert isinstance(local, int)
            masks[-1] |= 1 << local
        elif _BLOCK <= code <= _IF:
            masks.append(0)
            starts.append(index)
        elif code == _END:
            mask = masks.pop()
            out[starts.pop()] = _bits(mask)
            if masks:
                masks[-1] |= mask
    return out


def _bits(mask: int) -> list[int]:
    out = []
    while mask:
        low = mask & -mask
        out.append(low.bit_length() - 1)
        mask ^= low
    return out
