"""WebAssembly frames in Python tracebacks.

CPython shows a traceback entry by the file name, line and name of its frame's code object; an entry is made here from
the frame of a generator of just these names, which never runs: a frame that has run would keep its callers, and with
them the exception, in a cycle. The file name carries the byte offset, as ``<wasm app.wasm at byte 0x1a3>``, which is no
file, so that no source line is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import FunctionType, GetSetDescriptorType, TracebackType
from typing import Final

from trapline.errors import WasmFrameInfo

__all__ = ["with_frames"]

_TRACEBACK: Final[GetSetDescriptorType] = vars(BaseException)["__traceback__"]


def _frame() -> Iterator[None]:
    yield


def _entry(info: WasmFrameInfo, following: TracebackType | None) -> TracebackType:
    name = info.label
    code = _frame.__code__.replace(
        co_filename=f"<wasm {info.module} at byte {info.pc:#x}>", co_name=name, co_qualname=name, co_firstlineno=1
    )
    return TracebackType(following, FunctionType(code, {})().gi_frame, 0, 1)


def with_frames(error: BaseException, frames: Sequence[WasmFrameInfo], most: int = 200) -> BaseException:
    """The exception with WebAssembly frames (innermost first) in front of its traceback.

    By the base class's own means: an exception's class may define `__traceback__` and `with_traceback` otherwise.
    """
    traceback = _TRACEBACK.__get__(error)
    for info in frames[:most]:
        traceback = _entry(info, traceback)
    _TRACEBACK.__set__(error, traceback)
    return error
