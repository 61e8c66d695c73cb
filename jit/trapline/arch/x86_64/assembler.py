"""The x86-64 macro assembler the code generator emits with: encoders, labels, branches, constants.

Requires: registers as numbers (`Reg`), labels from `label()`. Leaves: position-independent code, with each branch in
its shortest form, the offset of every label and every instruction.
Invariant: a branch only ever grows while its form is chosen, so `finish` ends.

Sources: Intel SDM volume 2 (JMP, Jcc, CALL, NOP). Not done: shrinking `disp32` of rip-relative operands, which x86 does
not have, and the `jmp` of 16 bits, which differs between processors.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from trapline.arch.x86_64.assembler_encoders import Encoders
from trapline.errors import AssemblyError

__all__ = ["Assembler", "Condition", "Reg"]

_JUMP: Final = 0
_BIND: Final = 1
_ALIGN: Final = 2
_CALL: Final = 3
_MAX_PASSES: Final = 40
_MAX_ALIGN: Final = 4096
# Intel SDM volume 2, NOP: the recommended multi-byte forms.
_NOPS: Final = tuple(
    bytes.fromhex(text)
    for text in (
        "",
        "90",
        "6690",
        "0f1f00",
        "0f1f4000",
        "0f1f440000",
        "660f1f440000",
        "0f1f8000000000",
        "0f1f840000000000",
        "660f1f840000000000",
    )
)


class Reg:
    """Numbers of the general registers."""

    RAX: Final = 0
    RCX: Final = 1
    RDX: Final = 2
    RBX: Final = 3
    RSP: Final = 4
    RBP: Final = 5
    RSI: Final = 6
    RDI: Final = 7
    R8: Final = 8
    R9: Final = 9
    R10: Final = 10
    R11: Final = 11
    R12: Final = 12
    R13: Final = 13
    R14: Final = 14
    R15: Final = 15


class Condition:
    """Condition codes, as in the low 4 bits of Jcc, SETcc and CMOVcc; ``code ^ 1`` is the opposite."""

    O: Final = 0  # noqa: E741
    NO: Final = 1
    B: Final = 2
    AE: Final = 3
    E: Final = 4
    NE: Final = 5
    BE: Final = 6
    A: Final = 7
    S: Final = 8
    NS: Final = 9
    P: Final = 10
    NP: Final = 11
    L: Final = 12
    GE: Final = 13
    LE: Final = 14
    G: Final = 15


class Assembler(Encoders):
    """Emits x86-64 code; see `Encoders` for the names of the instructions.

    Besides those: l is a label a branch goes to. `finish` may be called once.

    >>> a = Assembler()
    >>> top = a.label()
    >>> a.bind(top)
    >>> a.sub64_ri(Reg.RDI, 1)
    >>> a.jcc_l(Condition.NE, top)
    >>> a.ret()
    >>> a.finish().hex()
    '4883ef0175fac3'
    """

    def __init__(self) -> None:
        super().__init__()
        # In order of emission: (what, index of the piece, label or alignment or pool, condition or -1)
        self._marks: list[tuple[int, int, int, int]] = []
        self._label_offsets: list[int] = []
        self._bound: list[bool] = []
        self._data_pieces: set[int] = set()
        self._pool: dict[bytes, int] = {}
        self._starts: list[int] = []
        self._code: bytes | None = None

    def label(self) -> int:
        """A new label, not yet bound."""
        self._label_offsets.append(-1)
        self._bound.append(False)
        return len(self._bound) - 1

    def bind(self, label: int) -> None:
        """Bind `label` to the next instruction. Raises AssemblyError the second time."""
        self._check_label(label)
        if self._bound[label]:
            raise AssemblyError(f"label {label}: found it bound, expected a label that is not")
        self._bound[label] = True
        self._marks.append((_BIND, len(self._pieces), label, -1))

    def here(self) -> int:
        """A new label bound to the next instruction."""
        label = self.label()
        self.bind(label)
        return label

    def _check_label(self, label: int) -> None:
        if not 0 <= label < len(self._bound):
            raise AssemblyError(f"found the label {label}, expected one of this assembler's {len(self._bound)}")

    def jmp_l(self, label: int) -> None:
        """``jmp label``, 2 or 5 bytes."""
        self._marks.append((_JUMP, len(self._pieces), label, -1))
        self._pieces.append(b"\xeb\0")

    def jcc_l(self, condition: int, label: int) -> None:
        """``jcc label``, 2 or 6 bytes; `condition` is one of `Condition`."""
        if condition & -16:
            raise AssemblyError(f"jcc_l: found the condition {condition}, expected 0 to 15")
        self._marks.append((_JUMP, len(self._pieces), label, condition))
        self._pieces.append(bytes((0x70 | condition, 0)))

    def call_l(self, label: int) -> None:
        """``call label``, 5 bytes."""
        self._marks.append((_CALL, len(self._pieces), label, -1))
        self._pieces.append(b"\xe8\0\0\0\0")

    def align(self, count: int) -> None:
        """Fill with nops up to a multiple of `count` bytes, a power of two up to 4096."""
        if not 1 <= count <= _MAX_ALIGN or count & (count - 1):
            raise AssemblyError(f"align: found {count}, expected a power of two up to {_MAX_ALIGN}")
        self._marks.append((_ALIGN, len(self._pieces), count, -1))
        self._pieces.append(b"")

    def data(self, data: bytes) -> None:
        """Bytes that are no instruction."""
        self._data_pieces.add(len(self._pieces))
        self._pieces.append(data)

    def raw(self, code: bytes) -> None:
        """One instruction, already encoded."""
        if not 1 <= len(code) <= 15:
            raise AssemblyError(f"raw: found {len(code)} bytes, expected one instruction of 1 to 15")
        self._pieces.append(code)

    def constant(self, data: bytes) -> int:
        """A label of `data` in the pool behind the code, aligned to its size; the same data has one label."""
        label = self._pool.get(data)
        if label is None:
            if len(data) not in (4, 8, 16, 32):
                raise AssemblyError(f"constant: found {len(data)} bytes, expected 4, 8, 16 or 32")
            label = self._pool[data] = self.label()
        return label

    def finish(self) -> bytes:
        """Place everything and return the code. Raises AssemblyError for labels used and never bound."""
        if self._code is not None:
            raise AssemblyError("finish: found code that is finished, expected to be called once")
        for data in sorted(self._pool, key=len, reverse=True):
            self.align(len(data))
            self._data_pieces.add(len(self._pieces) - 1)
            self.bind(self._pool[data])
            self.data(data)
        pieces = self._pieces
        fixed = [0, *accumulate(map(len, pieces))]
        grown: set[int] = set()
        for turn in range(_MAX_PASSES + 1):
            far = self._place(fixed, grown)
            if not far:
                break
            grown |= far
            if turn == _MAX_PASSES - 1:  # a long cascade: let all that are left grow at once
                grown |= {index for kind, index, _label, _condition in self._marks if kind == _JUMP}
        self._patch(fixed, grown)
        starts = [0, *accumulate(map(len, pieces))]
        self._patch_rip(starts)
        self._starts = starts
        self._code = b"".join(pieces)
        return self._code

    def _place(self, fixed: list[int], grown: set[int]) -> set[int]:
        """Offsets of all labels with these branches grown; the pieces of short branches that do not reach."""
        offsets = self._label_offsets
        jumps: list[tuple[int, int, int]] = []
        extra = 0
        for kind, index, value, condition in self._marks:
            if kind == _BIND:
                offsets[value] = fixed[index] + extra
            elif kind == _ALIGN:
                extra += -(fixed[index] + extra) % value
            elif kind == _JUMP:
                if index in grown:
                    extra += 3 if condition < 0 else 4
                else:
                    jumps.append((index, fixed[index] + extra + 2, value))
        far: set[int] = set()
        for index, stop, label in jumps:
            if not -128 <= self._target(label) - stop <= 127:
                far.add(index)
        return far

    def _target(self, label: int) -> int:
        if not 0 <= label < len(self._bound) or not self._bound[label]:
            raise AssemblyError(f"label {label}: found no bind, expected one before finish")
        return self._label_offsets[label]

    def _patch(self, fixed: list[int], grown: set[int]) -> None:
        """The final bytes of branches, calls and padding."""
        pieces = self._pieces
        extra = 0
        for kind, index, value, condition in self._marks:
            if kind == _BIND:
                continue
            offset = fixed[index] + extra
            if kind == _ALIGN:
                gap = -offset % value
                pieces[index] = bytes(gap) if index in self._data_pieces else _NOPS[9] * (gap // 9) + _NOPS[gap % 9]
                extra += gap
                continue
            if kind == _CALL:
                head = b"\xe8"
            elif index not in grown:
                distance = self._target(value) - (offset + 2)
                pieces[index] = pieces[index][:1] + distance.to_bytes(1, "little", signed=True)
                continue
            elif condition < 0:
                head = b"\xe9"
                extra += 3
            else:
                head = bytes((0x0F, 0x80 | condition))
                extra += 4
            distance = self._target(value) - (offset + len(head) + 4)
            pieces[index] = head + distance.to_bytes(4, "little", signed=True)

    def _patch_rip(self, starts: list[int]) -> None:
        pieces = self._pieces
        for index, label, behind in self._rip_uses:
            piece = pieces[index]
            stop = len(piece) - behind
            distance = self._target(label) - starts[index + 1]
            pieces[index] = piece[: stop - 4] + distance.to_bytes(4, "little", signed=True) + piece[stop:]

    def offset(self, label: int) -> int:
        """The offset of `label` in the finished code."""
        if self._code is None:
            raise AssemblyError("offset: found code that is not finished, expected finish() first")
        return self._target(label)

    def boundaries(self) -> list[int]:
        """The offsets of all instructions in the finished code, in order; data and padding are left out."""
        if self._code is None:
            raise AssemblyError("boundaries: found code that is not finished, expected finish() first")
        padding = {index for kind, index, _value, _condition in self._marks if kind == _ALIGN}
        skip = padding | self._data_pieces
        return [start for index, start in enumerate(self._starts[:-1]) if index not in skip]
