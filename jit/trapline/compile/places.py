"""Where a state keeps its values, and how to read them back as bits. The same on every machine.

A place is a register, a slot of the frame, a word of arguments, a constant, an expression over places, or nothing: the
value is gone. Expressions share their parts: what is named twice is evaluated once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from trapline.compile.ir import Op
from trapline.compile.recompute import NanRule, recompute
from trapline.wasm.opcodes import OPCODES
from trapline.wasm.types import F32, I32

__all__ = [
    "Constant",
    "Entry",
    "Expression",
    "Incoming",
    "Outgoing",
    "Place",
    "Register",
    "Sharing",
    "Slot",
    "State",
    "Unavailable",
    "Unreadable",
    "evaluate",
]


@dataclass(frozen=True, slots=True)
class Register:
    """0-15 general registers, 16-31 floating-point registers, in the machine's numbering. i32 and f32 lie in the low
    half; the high half is undefined."""

    number: int


@dataclass(frozen=True, slots=True)
class Slot:
    """The `index`-th slot of the frame, 8 bytes."""

    index: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """The `index`-th word of arguments above the return address of this frame."""

    index: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The `index`-th word at the stack pointer, where the arguments of a call go."""

    index: int


@dataclass(frozen=True, slots=True)
class Constant:
    """The same bits always: no place to write to."""

    bits: int


@dataclass(frozen=True, slots=True)
class Expression:
    """A pure operation over places that has not been carried out: opcode (or Op.REF_FUNC), immediate, operands.

    Operands are in the order in which the machine takes them, which tells which of two NaNs comes out.
    """

    op: int
    imm: object
    args: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing needs the value any more, and nothing keeps it. Never in code that keeps its states."""


Place = Register | Slot | Incoming | Outgoing | Constant | Expression | Unavailable


@dataclass(frozen=True, slots=True)
class Entry:
    """One local or operand of a state: its value's number in the table, its type, where it is."""

    value: int
    type: int
    place: Place


@dataclass(frozen=True, slots=True)
class State:
    """Locals and operands (bottom to top) before an opcode.

    `offset` is where in the code it holds; `reached`, how far the code of the function's blocks has been carried out
    by then, is the same but for trap instructions out of line and for return addresses.
    """

    offset: int
    reached: int
    opcode: int
    locals: tuple[Entry, ...]
    operands: tuple[Entry, ...]
    registers: dict[int, int] = field(compare=False, repr=False)
    """Register -> the number of the value it holds."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Locals, then operands."""
        return self.locals + self.operands


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a write to one entry of a state would touch.

    `places`: every register and slot that holds the value, all of which a write in place sets. `others`: positions in
    `State.entries` whose value is the same or is recomputed from it. `reason`: why a write in place would change more
    than the entry, and the frame must be re-entered instead; None where it is sound.
    """

    places: tuple[Register | Slot, ...]
    others: tuple[int, ...]
    reason: str | None

    @property
    def is_sound(self) -> bool:
        return self.reason is None


class Unreadable(LookupError):
    """A value that is gone."""


_LOW: Final = 0xFFFF_FFFF
_NARROW: Final[dict[int, tuple[int, ...]]] = {
    code: tuple([position for position, type_ in enumerate(row.operands) if type_ in (I32, F32)])
    for code, row in OPCODES.items()
} | {0x1B: (2,)}
"""Opcode -> which of its operands are 32 bits wide; select takes those of any type."""


def evaluate(
    entry: Entry,
    read: Callable[[Place], int],
    rule: NanRule,
    reference: Callable[[int], int] | None = None,
) -> int:
    """The bits of an entry.

    `read` gives the 64 bits of a Register, Slot, Incoming or Outgoing; `reference` the word of a reference to a
    function by its index. Raises Unreadable for a value that is gone.

    >>> evaluate(Entry(0, 0x7F, Expression(0x6A, None, (Register(0), Constant(2)))), lambda place: 40, NanRule(1, 0))
    42
    """
    known: dict[int, int] = {}

    def bits(place: Place) -> int:
        if isinstance(place, Constant):
            return place.bits
        if isinstance(place, Unavailable):
            raise Unreadable("the value is not live here")
        if not isinstance(place, Expression):
            return read(place)
        found = known.get(id(place))
        if found is None:
            found = known[id(place)] = _expression(place)
        return found

    def _expression(place: Expression) -> int:
        if place.op == Op.REF_FUNC:
            assert isinstance(place.imm, int)
            if reference is None:
                raise Unreadable("a reference to a function, read without its instance")
            return reference(place.imm)
        args = [bits(part) for part in place.args]
        for position in _NARROW[place.op]:
            args[position] &= _LOW
        return recompute(place.op, tuple(args), rule)

    found = bits(entry.place)
    return found & _LOW if entry.type in (I32, F32) else found
