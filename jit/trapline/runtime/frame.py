"""Frames of stopped WebAssembly code: where each is, and the values of its locals and operands.

Source of the layout of a native frame: compile/x86_64/layout.py.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from trapline import native
from trapline.compile.places import (
    Entry,
    Incoming,
    Outgoing,
    Place,
    Register,
    Slot,
    State,
    Unreadable,
    evaluate,
)
from trapline.compile.x86_64.layout import NAN_RULE
from trapline.compile.x86_64.unwind import is_frame_made
from trapline.errors import FiberError, WasmFrameInfo
from trapline.runtime import module_code
from trapline.runtime.backtrace import NativeFrame
from trapline.runtime.values import from_bits, to_bits
from trapline.wasm.body import Body
from trapline.wasm.module import Module
from trapline.wasm.types import ValueType, value_type_name

if TYPE_CHECKING:
    from trapline.runtime.instance import Instance
    from trapline.runtime.wasm_trap import TrapEvent

__all__ = ["OPTIMIZED_OUT", "Frame", "Values"]

_GENERAL: Final = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
_LOW: Final = 0xFFFF_FFFF_FFFF_FFFF


class _OptimizedOut(enum.Enum):
    OPTIMIZED_OUT = "<optimized out>"

    def __repr__(self) -> str:
        return self.value


OPTIMIZED_OUT: Final = _OptimizedOut.OPTIMIZED_OUT
"""Stands for a value that nothing needs any more in code of the level `live`; never in `full`."""


class Values(Sequence[Any]):
    """The locals or the operands (bottom to top) of a frame, as Python values; assignable where `Frame` says so."""

    __slots__ = ("_entries", "_first", "_frame")

    def __init__(self, frame: Frame, entries: Sequence[Entry], first: int) -> None:
        self._frame = frame
        self._entries = entries
        self._first = first

    @property
    def types(self) -> tuple[ValueType, ...]:
        """Their value types."""
        return tuple([entry.type for entry in self._entries])

    def bits(self, index: int) -> int | None:
        """The bits of a value, None for one that is gone: references as words, floats with their very NaN."""
        return self._frame.entry_bits(self._entries[index])

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self._frame.entry_value(self._entries[index])

    def __iter__(self) -> Iterator[Any]:
        return (self._frame.entry_value(entry) for entry in self._entries)

    def __setitem__(self, index: int, value: Any) -> None:
        self._frame.write(self._first + range(len(self))[index], value)

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, Sequence) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


class Frame:
    """One frame of stopped code.

    `info` says where it is: the opcode that trapped, or the call that a caller waits for. `locals` and `operands` are
    its values; they can be assigned where the value has a place of its own. Valid until the code goes on.
    """

    __slots__ = ("_event", "_level", "_native", "_place", "_state")

    def __init__(self, event: TrapEvent, level: int, frame: NativeFrame, place: module_code.Place) -> None:
        self._event = event
        self._level = level
        self._native = frame
        self._place = place
        self._state: State | None = None

    # ---- where ----

    @property
    def info(self) -> WasmFrameInfo:
        """Module, function and byte offset."""
        return self._place.module_code.frame_info(self._place.function, self._native.opcode)

    @property
    def opcode(self) -> int:
        """The index of its opcode in the function's body."""
        return self._native.opcode

    @property
    def module(self) -> Module:
        """The decoded module of its function."""
        return self._place.module_code.module

    @property
    def body(self) -> Body:
        """The opcodes of its function."""
        return self._place.module_code.body(self._place.function - self.module.imported_functions)

    def is_at(self, other: Frame) -> bool:
        """Whether another frame is at the same opcode of the same function."""
        return self._native.pc == other._native.pc

    @property
    def is_entry(self) -> bool:
        """Whether the function has not even made its frame: its stack is exhausted."""
        row = self._native.row
        return row is not None and row.kind == "stack"

    @property
    def instance(self) -> Instance | None:
        """The instance whose code it is."""
        self._check()
        code = self._place.module_code.machine_code(self._place.function)
        if self._native.waits or is_frame_made(code, self._place.offset):
            block = native.read_word(self._native.fp - 8)
        else:
            block = self._event.event.registers.r15
        return self._event.store.instance_at(block)

    # ---- values ----

    def _check(self) -> None:
        if not self._event.event.valid:
            raise FiberError("this frame is gone, the code has gone on since")

    @property
    def state(self) -> State:
        """Where its locals and operands are. Raises FiberError when the code has gone on."""
        self._check()
        if self._state is None:
            code = self._place.module_code
            table = code.table(self._place.function)
            self._state = table.state(self._place.offset, waits=self._native.waits)
        return self._state

    @property
    def locals(self) -> Values:
        """Parameters, then declared locals."""
        return Values(self, self.state.locals, 0)

    @property
    def operands(self) -> Values:
        """The operand stack, bottom to top. A caller's is the one before its call, the arguments included."""
        state = self.state
        return Values(self, state.operands, len(state.locals))

    def entry_bits(self, entry: Entry) -> int | None:
        """The bits of an entry of the state, or None."""
        self._check()
        instance = self.instance
        reference: Callable[[int], int] | None = None if instance is None else instance.record
        try:
            return evaluate(entry, self.read_place, NAN_RULE, reference)
        except Unreadable:
            return None

    def entry_value(self, entry: Entry) -> Any:
        """The Python value of an entry of the state."""
        bits = self.entry_bits(entry)
        return OPTIMIZED_OUT if bits is None else from_bits(self._event.store, entry.type, bits)

    def write(self, position: int, value: Any) -> None:
        """Write the `position`-th entry of the state (locals, then operands) in its place.

        Raises CallError for a value of another type, FiberError where something else depends on the same place.
        """
        state = self.state
        entry = state.entries[position]
        bits = to_bits(self._event.store, entry.type, value, value_type_name(entry.type))
        code = self._place.module_code
        sharing = code.table(self._place.function).sharing(state, position)
        if not sharing.is_sound:
            what = f"local {position}" if position < len(state.locals) else f"operand {position - len(state.locals)}"
            raise FiberError(f"{self.info}: {what} cannot be written in place: {sharing.reason}")
        for place in sharing.places:
            self.write_place(place, bits)

    # ---- places ----

    def _address(self, place: Place) -> int:
        if isinstance(place, Slot):
            return self._native.fp - 8 * (place.index + 2)
        if isinstance(place, Incoming):
            return (self._event.fiber.sp + 8 if self.is_entry else self._native.fp + 16) + 8 * place.index
        assert isinstance(place, Outgoing)
        assert not self._level, "words of a call under way belong to its callee"
        return self._event.fiber.sp + 8 * place.index

    def read_place(self, place: Place) -> int:
        """The 64 bits of a place."""
        if not isinstance(place, Register):
            return native.read_word(self._address(place))
        assert not self._level, "no register of a caller holds anything"
        if place.number < 16:
            return self._event.event.registers[_GENERAL[place.number]]
        return self._event.event.registers[f"xmm{place.number - 16}"] & _LOW

    def write_place(self, place: Place, bits: int) -> None:
        """Write the 64 bits of a place."""
        if not isinstance(place, Register):
            native.write_word(self._address(place), bits)
        elif place.number < 16:
            self._event.event.registers[_GENERAL[place.number]] = bits
        else:
            self._event.event.registers[f"xmm{place.number - 16}"] = bits

    def __repr__(self) -> str:
        return f"<Frame {self.info}>"
