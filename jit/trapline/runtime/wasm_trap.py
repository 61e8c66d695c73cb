"""Traps of WebAssembly code: what happened, where, with what values, and how to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trapline import dump
from trapline.compile.frame_table import Row, Skip
from trapline.compile.x86_64.emit import TrapRow
from trapline.dump import Stage
from trapline.errors import CallError, FiberError, WasmTrap, WasmTrapCode
from trapline.runtime.backtrace import NativeFrame, frames_of, infos
from trapline.runtime.frame import Frame
from trapline.runtime.module_code import Place
from trapline.runtime.traceback import with_frames
from trapline.runtime.trap import Event, StopReason
from trapline.runtime.values import to_bits

if TYPE_CHECKING:
    from trapline.runtime.fiber import Fiber
    from trapline.runtime.store import Store

__all__ = ["TrapEvent"]

_GENERAL: Final = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
_WIDE_DIVISIONS: Final = range(0x7F, 0x83)
_KINDS: Final = {
    "stack": WasmTrapCode.STACK_EXHAUSTED,
    "memory": WasmTrapCode.MEMORY_BOUNDS,
    "memory bounds": WasmTrapCode.MEMORY_BOUNDS,
    "table bounds": WasmTrapCode.TABLE_BOUNDS,
    **{code.value: code for code in WasmTrapCode},
}


class TrapEvent:
    """A trap, while the code that ran into it is suspended.

    `reason` says why; `frames` are the frames of the call, innermost first, with their locals and operands; `address`
    is that of a memory access, counted from the start of the memory, None where there is none or it is not known.
    Memories, tables, globals, and locals through `frames[0]`, may be written; then

    retry()       executes the trapping opcode again, after its memory, the stack or an operand has been mended
    skip(*values) goes on behind it, with the values as its results
    raise_(error) unwinds the code and raises an exception in the place of `WasmTrap`

    where none of them is called the trap is raised. Valid until the code goes on.
    """

    def __init__(self, store: Store, event: Event) -> None:
        self.store = store
        self.event = event
        self._decision: str | None = None
        self._error: BaseException | None = None
        self._skip: tuple[Skip, list[int]] | None = None
        self._top = frames_of(event.fiber, 1)[0]
        self._all: list[NativeFrame] | None = None
        self.place: Place | None = self._top.place
        self.row: TrapRow | None = self._top.row
        self.address: int | None = None
        self.detail = ""
        self._frames: list[Frame] | None = None
        self.reason = self._classify()
        if self.place is not None:
            watch = dump.watch(self.place.function, self.place.module_code.module)
            if watch:
                watch(Stage.TRAP, self._dumped)

    def _dumped(self) -> str:
        """What TRAPLINE_DUMP=trap prints: no addresses of this process."""
        assert self.place is not None
        row = "" if self.row is None else f", {self.row.kind} of opcode {self.row.pos}"
        address = "" if self.address is None else f", address {self.address:#x}"
        return f"{self.reason.value} at {self.place.offset:#x} of its code{row}{address}"

    @property
    def fiber(self) -> Fiber:
        """The fiber that the code runs on."""
        return self.event.fiber

    # ---- what happened ----

    def _classify(self) -> WasmTrapCode:
        event, row = self.event, self.row
        if event.kind == StopReason.INTERRUPT:
            return WasmTrapCode.INTERRUPT
        if row is None:
            self.detail = str(event)
            return WasmTrapCode.UNREACHABLE
        if row.kind == "memory":
            self._find_address()
        if row.kind == "division":
            return self._division(row)
        if row.kind.startswith("truncation"):
            lane = "f64" if row.kind.endswith("64") else "f32"
            value = event.registers.lanes(f"xmm{row.place - 16}", lane)[0]
            return WasmTrapCode.INVALID_CONVERSION if value != value else WasmTrapCode.INTEGER_OVERFLOW
        return _KINDS[row.kind]

    def _division(self, row: TrapRow) -> WasmTrapCode:
        assert self.place is not None
        code = self.place.module_code
        opcode = code.body(self.place.function - code.module.imported_functions).opcodes[row.pos]
        divisor = self.event.registers[_GENERAL[row.place]]
        if opcode not in _WIDE_DIVISIONS:
            divisor &= 0xFFFF_FFFF
        return WasmTrapCode.INTEGER_OVERFLOW if divisor else WasmTrapCode.DIVIDE_BY_ZERO

    def _find_address(self) -> None:
        fault = self.event.fault
        instance = None if self.place is None else Frame(self, 0, self._top, self.place).instance
        if fault is None or not fault.address or instance is None:
            return
        for number, memory in enumerate(instance.memories):
            offset = fault.address - memory.address
            if 0 <= offset < 1 << 33:
                self.address = offset
                access = self.event.access or "access"
                self.detail = f"{access} at {offset:#x}, memory {number} has {len(memory):#x} bytes"

    @property
    def _native(self) -> list[NativeFrame]:
        """All frames, which there may be millions of: looked for when somebody asks, while the code stands."""
        if self._all is None:
            self._all = frames_of(self.fiber) if self.event.valid else [self._top]
        return self._all

    @property
    def frames(self) -> list[Frame]:
        """The WebAssembly frames of this call, innermost first."""
        if self._frames is None:
            self._frames = []
            for frame in self._native:
                if frame.place is not None:
                    self._frames.append(Frame(self, len(self._frames), frame, frame.place))
        return self._frames

    def trap(self) -> WasmTrap:
        """The exception that this trap becomes."""
        frames = infos(self._native)
        error = WasmTrap(self.reason, frames, address=self.address, detail=self.detail)
        with_frames(error, frames)
        return error

    def __str__(self) -> str:
        where = f" in {infos([self._top])[0]}" if self.place is not None else ""
        return f"{self.reason.value}{': ' if self.detail else ''}{self.detail}{where}"

    def __repr__(self) -> str:
        return f"<TrapEvent {self}>"

    # ---- going on ----

    def _decide(self, decision: str) -> None:
        if not self.event.valid:
            raise FiberError("this trap is over, the code has gone on since")
        self._decision = decision

    def grow_stack(self, more_bytes: int) -> int:
        """Give the code more stack, for a retry when it was exhausted; returns the bytes it has. Raises FiberError."""
        if not isinstance(more_bytes, int) or not 0 < more_bytes < 1 << 40:
            raise FiberError(f"found {more_bytes!r} bytes for a stack to grow by, expected a positive number of them")
        return self.fiber.grow_stack(more_bytes)

    def retry(self) -> None:
        """Execute the trapping opcode again."""
        self._decide("retry")

    def skip(self, *values: Any) -> None:
        """Go on behind the trapping opcode, with values as its results.

        Raises FiberError where nothing is behind it (unreachable), CallError for values that are not its results.
        """
        place, row = self._table_row("skip")
        found = place.module_code.table(place.function).skip(row)
        if found is None:
            raise FiberError(f"{self}: there is nothing behind it to go on with")
        if len(values) != len(found.results):
            raise CallError(f"{self}: found {len(values)} values to skip with, expected {len(found.results)}")
        words = [
            to_bits(self.store, type_, value, f"result {number}")
            for number, ((type_, _), value) in enumerate(zip(found.results, values, strict=True))
        ]
        self._decide("skip")
        self._skip = found, words

    def raise_(self, error: BaseException) -> None:
        """Unwind the code and raise this exception."""
        if not isinstance(error, BaseException):
            raise FiberError(f"raise_: found {error!r}, expected an exception")
        self._decide("raise")
        self._error = error

    def _table_row(self, what: str) -> tuple[Place, Row]:
        place = self.place
        row = None if place is None else place.module_code.table(place.function).row_at(place.offset)
        if place is None or row is None:
            raise FiberError(f"{self}: no trap of WebAssembly code, which alone can be asked to {what}")
        return place, row

    def finish(self) -> None:
        """Carry out what was decided; the fiber is resumed by whoever runs it. Raises the trap if nothing was."""
        if self._decision is None:
            raise self.trap()
        if self._decision == "raise":
            assert self._error is not None
            raise self._error
        if self.event.kind == StopReason.INTERRUPT and self._decision == "retry":
            return
        place, row = self._table_row(self._decision)
        frame = Frame(self, 0, self._top, place)
        if self._decision == "skip":
            assert self._skip is not None
            skip, words = self._skip
            for (_, places), word in zip(skip.results, words, strict=True):
                for place_of_result in places:
                    frame.write_place(place_of_result, word)
            offset = skip.offset
        else:
            retry = place.module_code.table(place.function).retry(row)
            found = [(target, frame.entry_bits(entry)) for target, entry in retry.operands]
            for target, bits in found:
                assert bits is not None, "an operand of a trap that can be retried is gone"
                frame.write_place(target, bits)
            offset = retry.offset
        self.event.jump(self.event.pc - place.offset + offset)
