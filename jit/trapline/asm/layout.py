"""Layout: where each statement lies, which form each branch takes, and the bytes of every fixup.

Requires: items in source order. Leaves: code, the offset of each item and of each label.
Invariant: a branch only ever grows, so the passes end; after `_MAX_PASSES` all that are left grow at once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from trapline.asm.source import Expression, SourceLine

_MAX_PASSES: Final = 40
_MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF


class FixupKind(enum.Enum):
    """How a value is written into a statement; the value is its name in messages."""

    ABSOLUTE = "absolute value"
    RELATIVE = "distance from the end of the instruction"
    BRANCH_26 = "b, bl: 26 bits of words"
    BRANCH_19 = "b.cond, cbz, ldr: 19 bits of words"
    BRANCH_14 = "tbz: 14 bits of words"
    PAGE = "adrp: 21 bits of 4 KiB pages"
    BYTE_21 = "adr: 21 bits of bytes"
    LOW_12 = "low 12 bits of an address"


@dataclass(frozen=True, slots=True)
class Fixup:
    """`size_bytes` at `offset` inside its item are filled from `value`."""

    offset: int
    size_bytes: int
    kind: FixupKind
    value: Expression


@dataclass(slots=True)
class Item:
    """One statement on its way to bytes.

    A branch has its short form in `code` and its long one in `grown` (None: it cannot grow). An alignment has
    `align` over 0. `pieces` are the sizes of the instructions inside, where there are several.
    """

    source: SourceLine
    code: bytes
    is_data: bool = False
    fixups: tuple[Fixup, ...] = ()
    grown: bytes | None = None
    grown_fixups: tuple[Fixup, ...] = ()
    align: int = 0
    fill: int | None = None
    max_padding: int | None = None
    offset: int = 0
    pieces: list[int] = field(default_factory=list)


class Layout:
    """The placing of `items` from address `base` on."""

    def __init__(
        self,
        items: list[Item],
        labels: Mapping[str, int],
        base: int,
        padding: Callable[[int], list[bytes]],
        code_align: int,
    ) -> None:
        self._items = items
        self._label_items = labels  # label -> index of the item it stands before
        self._base = base
        self._padding = padding
        self._code_align = code_align
        self.labels: dict[str, int] = {}

    def run(self) -> bytes:
        """Place, relax, fix up; the finished code."""
        self._check_names()
        self._place()
        passes = 0
        while self._grow(everything=passes >= _MAX_PASSES):
            self._place()
            passes += 1
        out = bytearray()
        for item in self._items:
            if item.align:
                self._pad(item, len(out))
            elif not item.is_data and self._code_align > 1 and len(out) % self._code_align:
                raise item.source.error(
                    f"found an instruction at offset {len(out):#x}, expected a multiple of {self._code_align}:"
                    f" put .balign {self._code_align} before it"
                )
            if item.fixups:
                code = bytearray(item.code)
                for fixup in item.fixups:
                    self._fix(item, fixup, code)
                out += code
            else:
                out += item.code
        return bytes(out)

    def _check_names(self) -> None:
        for item in self._items:
            for fixup in item.fixups:
                for name, _factor in fixup.value.labels:
                    if name != "." and name not in self._label_items:
                        raise item.source.error(f"found {name!r}, expected a label of this text or a name in `symbols`")

    def _place(self) -> None:
        offset = 0
        for item in self._items:
            item.offset = offset
            if item.align:
                gap = -(self._base + offset) % item.align
                if item.max_padding is not None and gap > item.max_padding:
                    gap = 0
                item.code = bytes(gap)
            offset += len(item.code)
        count = len(self._items)
        for name, index in self._label_items.items():
            self.labels[name] = self._items[index].offset if index < count else offset

    def _value(self, item: Item, value: Expression) -> int:
        total = value.constant
        for name, factor in value.labels:
            total += factor * (self._base + (item.offset if name == "." else self.labels[name]))
        return total

    def _grow(self, everything: bool) -> bool:
        grown = False
        for item in self._items:
            if item.grown is None:
                continue
            fixup = item.fixups[0]
            distance = _distance(self._value(item, fixup.value), self._base + item.offset + len(item.code))
            bits = 8 * fixup.size_bytes
            if everything or not -(1 << bits - 1) <= distance < 1 << bits - 1:
                item.code, item.fixups = item.grown, item.grown_fixups
                item.grown = None
                grown = True
        return grown

    def _pad(self, item: Item, offset: int) -> None:
        gap = len(item.code)
        if item.fill is not None:
            item.code = bytes([item.fill]) * gap
            item.is_data = True
            return
        ragged = gap % self._code_align
        pieces = [bytes(ragged)] if ragged else []
        pieces += self._padding(gap - ragged)
        item.is_data = bool(ragged)
        item.code = b"".join(pieces)
        item.pieces = [len(piece) for piece in pieces]

    def _fix(self, item: Item, fixup: Fixup, code: bytearray) -> None:
        value = self._value(item, fixup.value)
        here = self._base + item.offset
        where = item.source
        if fixup.kind is FixupKind.ABSOLUTE:
            bits = 8 * fixup.size_bytes
            if not -(1 << bits - 1) <= value < 1 << bits:
                raise where.error(f"found the value {value:#x}, expected one of {bits} bits")
            stop = fixup.offset + fixup.size_bytes
            code[fixup.offset : stop] = (value & ((1 << bits) - 1)).to_bytes(fixup.size_bytes, "little")
            return
        if fixup.kind is FixupKind.RELATIVE:
            bits = 8 * fixup.size_bytes
            distance = _distance(value, here + len(code))
            if not -(1 << bits - 1) <= distance < 1 << bits - 1:
                raise where.error(
                    f"found a target {distance:+#x} bytes away ({value & _MASK_64:#x}),"
                    f" expected one within {1 << bits - 1:#x} bytes: {_FAR_HINT if bits == 32 else 'it is short'}"
                )
            stop = fixup.offset + fixup.size_bytes
            code[fixup.offset : stop] = distance.to_bytes(fixup.size_bytes, "little", signed=True)
            return
        word = int.from_bytes(code, "little") | word_field(fixup.kind, value, here, where)
        code[0:4] = word.to_bytes(4, "little")


def _distance(target: int, origin: int) -> int:
    """From `origin` to `target`, the shorter way around the address space."""
    return (target - origin + (1 << 63)) % (1 << 64) - (1 << 63)


_FAR_HINT: Final = "load the address with movabs and jump or call through the register"


def word_field(kind: FixupKind, value: int, here: int, where: SourceLine) -> int:
    """The bits that `value` puts into an aarch64 word at address `here`. Source: Arm ARM section C6.2."""
    if kind is FixupKind.LOW_12:
        return (value & 0xFFF) << 10
    if kind is FixupKind.PAGE:
        distance, unit, bits, name = _distance(value & ~0xFFF, here & ~0xFFF) >> 12, 1, 21, "pages"
    elif kind is FixupKind.BYTE_21:
        distance, unit, bits, name = _distance(value, here), 1, 21, "bytes"
    else:
        distance, unit, name = _distance(value, here), 4, "words"
        bits = {FixupKind.BRANCH_26: 26, FixupKind.BRANCH_19: 19, FixupKind.BRANCH_14: 14}[kind]
    if distance % unit:
        raise where.error(f"found a target {distance:+#x} bytes away, expected a multiple of {unit}")
    count = distance // unit
    if not -(1 << bits - 1) <= count < 1 << bits - 1:
        raise where.error(f"found a target {count} {name} away, expected one within {1 << bits - 1} {name}")
    count &= (1 << bits) - 1
    if kind in (FixupKind.PAGE, FixupKind.BYTE_21):
        return (count & 3) << 29 | (count >> 2) << 5
    return count if bits == 26 else count << 5
