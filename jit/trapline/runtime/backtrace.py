"""Which WebAssembly frames are on a fiber's stack, from the chain of frame pointers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trapline import native
from trapline.compile.x86_64.emit import TrapRow
from trapline.compile.x86_64.unwind import return_address_at
from trapline.errors import WasmFrameInfo
from trapline.runtime.code import find_code
from trapline.runtime.module_code import Place, place_of

if TYPE_CHECKING:
    from trapline.runtime.fiber import Fiber

__all__ = ["NativeFrame", "activations", "frames_of", "infos"]


class NativeFrame:
    """One native frame: `pc` is where it stopped, or where it `waits` for its callee to return to; `fp` its frame
    pointer. What the pc means is looked up when it is first asked for."""

    __slots__ = ("_looked_up", "_place", "_row", "fp", "pc", "waits")

    def __init__(self, pc: int, fp: int, waits: bool) -> None:
        self.pc = pc
        self.fp = fp
        self.waits = waits
        self._looked_up = False
        self._place: Place | None = None
        self._row: TrapRow | None = None

    def _look_up(self) -> None:
        self._looked_up = True
        self._place = place = place_of(find_code(self.pc), self.pc)
        if place is not None:
            self._row = place.module_code.row(place, self.waits)

    @property
    def place(self) -> Place | None:
        """The function of a module that it is in; None for other code, such as thunks."""
        if not self._looked_up:
            self._look_up()
        return self._place

    @property
    def row(self) -> TrapRow | None:
        """The trap row at its pc."""
        if not self._looked_up:
            self._look_up()
        return self._row

    @property
    def opcode(self) -> int:
        """The index of the opcode that it stopped before or waits in; -1 outside of modules."""
        row, place = self.row, self.place
        if row is not None:
            return row.pos
        return -1 if place is None else place.module_code.opcode_before(place)


def frames_of(fiber: Fiber, most: int = 0) -> list[NativeFrame]:
    """The frames of a suspended fiber, innermost first: `most` of them or one more, or with 0 all.

    A function that has not made its frame yet, or has left it, stands on its caller's frame pointer, so that the walk
    alone would lose the caller: its return address lies by the stack pointer then.
    """
    found: list[NativeFrame] = []
    for activation in native.wasm_frames(fiber, most):
        for pc, fp, _ in activation:
            found.append(NativeFrame(pc, fp, bool(found)))
    place = found[0].place if found else None
    if place is not None:
        above_sp = return_address_at(place.module_code.machine_code(place.function), place.offset)
        if above_sp is not None:
            found.insert(1, NativeFrame(native.read_word(fiber.sp + above_sp), found[0].fp, True))
    return found


def activations() -> list[NativeFrame]:
    """The frames of all calls that this thread is in, innermost first."""
    return [NativeFrame(pc, fp, True) for activation in native.wasm_frames() for pc, fp, _ in activation]


def infos(frames: Iterable[NativeFrame]) -> list[WasmFrameInfo]:
    """The WebAssembly frames among native ones."""
    known: dict[tuple[int, bool], WasmFrameInfo | None] = {}  # deep recursion has few places
    found = []
    for frame in frames:
        key = frame.pc, frame.waits
        if key not in known:
            place = frame.place
            known[key] = None if place is None else place.module_code.frame_info(place.function, frame.opcode)
        info = known[key]
        if info is not None:
            found.append(info)
    return found
