"""Which WebAssembly frames are on a fiber's stack, from the chain of frame pointers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from trapline import native
from trapline.compile.x86_64.emit import TrapRow
from trapline.errors import WasmFrameInfo
from trapline.runtime.code import find_code
from trapline.runtime.module_code import Place, place_of

if TYPE_CHECKING:
    from trapline.runtime.fiber import Fiber

__all__ = ["NativeFrame", "activations", "frames_of", "infos", "opcode_of"]


class NativeFrame(NamedTuple):
    """One native frame: `pc` is where it stopped, or where it `waits` for its callee to return to; `fp` its frame
    pointer."""

    pc: int
    fp: int
    waits: bool


def frames_of(fiber: Fiber) -> list[NativeFrame]:
    """The frames of a suspended fiber, innermost first.

    A function that has not made its frame yet stands on its caller's frame pointer, so that the walk alone would lose
    the caller: its return address lies at the stack pointer then.
    """
    found = [
        NativeFrame(pc, fp, level > 0)
        for activation in native.wasm_frames(fiber)
        for level, (pc, fp, _) in enumerate(activation)
    ]
    row = _row(found[0]) if found else None
    if row is not None and row[1].kind == "stack":
        found.insert(1, NativeFrame(native.read_word(fiber.sp), found[0].fp, True))
    return found


def _row(frame: NativeFrame) -> tuple[Place, TrapRow] | None:
    place = place_of(find_code(frame.pc), frame.pc)
    row = None if place is None else place.module_code.row(place, frame.waits)
    return None if place is None or row is None else (place, row)


def activations() -> list[NativeFrame]:
    """The frames of all calls that this thread is in, innermost first."""
    return [NativeFrame(pc, fp, True) for activation in native.wasm_frames() for pc, fp, _ in activation]


def opcode_of(frame: NativeFrame) -> tuple[Place, int] | None:
    """Where a frame is: the function, and the index of the opcode it stopped before or waits in; None where it is not
    of a module."""
    found = _row(frame)
    if found is not None:
        return found[0], found[1].pos
    place = place_of(find_code(frame.pc), frame.pc)
    return None if place is None else (place, place.module_code.opcode_before(place))


def infos(frames: Iterable[NativeFrame]) -> list[WasmFrameInfo]:
    """The WebAssembly frames among native ones."""
    out = []
    for frame in frames:
        found = opcode_of(frame)
        if found is not None:
            out.append(found[0].module_code.frame_info(found[0].function, found[1]))
    return out
