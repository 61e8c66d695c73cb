"""The typed face of the native core: cdata in, Python objects out. The only importer of `_native` and `_core`.

`_native` is the cffi module; `_core`, the C-API types, is a second module of the same shared object, so that both
share one core (two copies of the core would steal each other's traps).
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from trapline import arch
from trapline.errors import CodeError, FiberError, NativeError

if TYPE_CHECKING:
    from trapline._core import (
        Block,
        Event,
        Fiber,
        Function,
        HostFunction,
        Memory,
        Registers,
        Table,
        WasmFunction,
        configure,
        hold_code,
        wasm_frames,
    )
else:

    def _load_core() -> Any:
        """The module `_core` out of the shared object of `_native`."""
        path = importlib.util.find_spec("trapline._native").origin
        loader = importlib.machinery.ExtensionFileLoader("trapline._core", path)
        spec = importlib.util.spec_from_file_location("trapline._core", path, loader=loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules["trapline._core"] = module
        loader.exec_module(module)
        return module

    _core = _load_core()
    _core.check_interpreter()
    Event, Fiber, Function, Registers = _core.Event, _core.Fiber, _core.Function, _core.Registers
    WasmFunction, HostFunction = _core.WasmFunction, _core.HostFunction
    Memory, Table, Block = _core.Memory, _core.Table, _core.Block
    configure, hold_code, wasm_frames = _core.configure, _core.hold_code, _core.wasm_frames

# After `_core`, which refuses subinterpreters: cffi in a second interpreter may end the process.
from trapline._native import ffi, lib

__all__ = [
    "CHECK_ADDRESS",
    "HELPERS_ADDRESS",
    "HOST",
    "HOST_STUB_ADDRESS",
    "PAGE_BYTES",
    "Block",
    "Code",
    "Event",
    "Fiber",
    "Function",
    "HostFunction",
    "Memory",
    "Registers",
    "SlotPlace",
    "Table",
    "WasmFunction",
    "buffer_address",
    "configure",
    "direct_allowed",
    "install_handlers",
    "read_memory",
    "read_word",
    "run_with_handlers_aside",
    "set_switch_interval",
    "trim_pool",
    "wasm_frames",
    "write_memory",
    "write_word",
]


Result = TypeVar("Result")


def _realize() -> None:
    """Have cffi make every type and function now: it is not prepared for a signal handler or a finaliser of Python's
    that needs one while it makes another."""
    for name in dir(lib):
        getattr(lib, name)
    for text in ("int *", "size_t *", "uint32_t *", "uint8_t[]", "uint32_t[]", "struct tl_slot_place[]", "uintptr_t"):
        ffi.typeof(text)


_realize()


def _components() -> tuple[tuple[int, int, int], ...]:
    offset, size_bytes = ffi.new("uint32_t *"), ffi.new("uint32_t *")
    found = [
        (number, offset[0], size_bytes[0])
        for number in range(2, 32)
        if lib.tl_arch_state_component(number, offset, size_bytes)
    ]
    return tuple(found)


HOST = arch.host(_components())
CHECK_ADDRESS = int(ffi.cast("uintptr_t", ffi.addressof(lib, "tl_stub_check")))
HOST_STUB_ADDRESS = int(ffi.cast("uintptr_t", ffi.addressof(lib, "tl_stub_host")))
"""What an instance block has at offset 16: the stub that thunks call the host through."""
HELPERS_ADDRESS = int(ffi.cast("uintptr_t", ffi.addressof(lib, "tl_helpers")))
"""What an instance block has at offset 24: the table of C functions that compiled code calls."""
PAGE_BYTES = int(lib.tl_page_bytes)

_ERRORS = {
    lib.TL_ERR_CAPACITY: "the bytes do not fit into what is left of the image's capacity",
    lib.TL_ERR_RANGE: "the offset lies outside the published code",
    lib.TL_ERR_KIND: "an image is never patched and a copy is never appended to; take a copy of the image",
    lib.TL_ERR_BROKEN: "this forked process could not get memory of its own for the copy",
    lib.TL_ERR_CLOSED: "the file descriptor behind the code memory was closed by somebody else",
}


def _fail(error: int, doing: str) -> CodeError | NativeError:
    if error in _ERRORS:
        return CodeError(f"{doing}: {_ERRORS[error]}")
    return NativeError(f"{doing}: the system refused: {os.strerror(-error)}")


class SlotPlace(NamedTuple):
    """What a pc at or above `start` in a slot means; see struct tl_slot_place in native/code.h."""

    start: int
    pc: int
    sp_adjust: int = 0
    pc_register: int = -1


class Code:
    """One executable mapping of the core: an image, a private copy or a stepping copy.

    It is unmapped when the last reference goes; `_keep` holds what it depends on until then.
    """

    __slots__ = ("_code", "_hold", "_keep", "base", "capacity_bytes")

    def __init__(self, code: Any, keep: tuple[Code, ...]) -> None:
        self._code = code
        self._hold = hold_code(int(ffi.cast("uintptr_t", code)))
        self._keep = keep
        self.base = int(lib.tl_code_base(code))
        self.capacity_bytes = int(lib.tl_code_capacity(code))

    @classmethod
    def image(cls, capacity_bytes: int) -> Code:
        """A new image with room for so many bytes. Raises NativeError."""
        error = ffi.new("int *")
        code = lib.tl_code_image(capacity_bytes, error)
        if not code:
            raise _fail(error[0], f"code image of {capacity_bytes} bytes")
        return cls(code, ())

    def copy(self, slots: int, home: Code | None = None) -> Code:
        """A private copy of this image, or with `home` a stepping copy of that. Raises NativeError, CodeError."""
        error = ffi.new("int *")
        code = lib.tl_code_copy(self._code, slots, home._code if home else ffi.NULL, error)
        if not code:
            raise _fail(error[0], "copy of a code image")
        return Code(code, (self, home) if home else (self,))

    @property
    def used_bytes(self) -> int:
        return int(lib.tl_code_used(self._code))

    @property
    def slots(self) -> int:
        return int(lib.tl_code_slots(self._code))

    @property
    def own_pages(self) -> int:
        """How many pages are not the image's."""
        return int(lib.tl_code_own_pages(self._code))

    def slot_address(self, slot: int) -> int:
        return int(lib.tl_code_slot_address(self._code, slot))

    def publish(self, code: bytes, align_bytes: int) -> int:
        """Appends; returns the offset. Raises CodeError, NativeError."""
        offset = ffi.new("size_t *")
        error = lib.tl_code_publish(self._code, code, len(code), align_bytes, offset)
        if error:
            raise _fail(error, f"publishing {len(code)} bytes of code")
        return int(offset[0])

    def patch(self, offset: int, code: bytes) -> None:
        error = lib.tl_code_patch(self._code, offset, code, len(code))
        if error:
            raise _fail(error, f"patching {len(code)} bytes at offset {offset:#x}")

    def patch_each(self, offsets: Sequence[int], code: bytes) -> None:
        error = lib.tl_code_patch_each(self._code, ffi.new("uint32_t[]", offsets), len(offsets), code, len(code))
        if error:
            raise _fail(error, f"patching {len(offsets)} places")

    def read(self, offset: int, size_bytes: int) -> bytes:
        out = ffi.new("uint8_t[]", size_bytes)
        error = lib.tl_code_read(self._code, offset, out, size_bytes)
        if error:
            raise _fail(error, f"reading {size_bytes} bytes at offset {offset:#x}")
        return bytes(ffi.buffer(out, size_bytes))

    def write_slot(self, slot: int, code: bytes, places: Sequence[SlotPlace]) -> None:
        rows = ffi.new("struct tl_slot_place[]", len(places))
        for row, place in zip(rows, places, strict=True):
            row.start, row.pc = place.start, place.pc
            row.sp_adjust, row.pc_register = place.sp_adjust, place.pc_register
        error = lib.tl_code_slot_write(self._code, slot, code, len(code), rows, len(places))
        if error:
            raise _fail(error, f"writing slot {slot}")

    def set_breakpoint(self, offset: int, slot: int | None) -> None:
        """Switches the breakpoint at an offset on, with its slot, or off."""
        error = lib.tl_code_breakpoint(self._code, offset, -1 if slot is None else slot)
        if error:
            raise _fail(error, f"breakpoint at offset {offset:#x}")


_READ_BYTES = 1 << 20


def read_memory(address: int, size_bytes: int) -> bytes:
    """Up to `size_bytes` bytes of this process from an absolute address: fewer where readable memory ends."""
    if not isinstance(address, int) or not isinstance(size_bytes, int) or not 0 <= address < 1 << 64 or size_bytes < 0:
        raise FiberError(f"found {size_bytes!r} bytes at {address!r}, expected a 64-bit address and a size")
    found = []
    stop = min(address + size_bytes, 1 << 64)
    while address < stop:  # in pieces: a size may be far more than there is to read
        piece_bytes = min(stop - address, _READ_BYTES)
        out = ffi.new("uint8_t[]", piece_bytes)
        count = lib.tl_memory_read(address, out, piece_bytes)
        if count < 0 and count != -14:  # EFAULT: nothing there
            raise NativeError(f"reading memory at {address:#x}: the system refused: {os.strerror(-count)}")
        found.append(bytes(ffi.buffer(out, max(count, 0))))
        if count < piece_bytes:
            break
        address += piece_bytes
    return b"".join(found)


def write_memory(address: int, data: bytes) -> None:
    """Writes bytes of this process at an absolute address. Raises FiberError where they cannot all be written."""
    if not isinstance(address, int) or not isinstance(data, bytes | bytearray | memoryview):
        raise FiberError(f"found {type(data).__name__} for {address!r}, expected bytes for a 64-bit address")
    data = bytes(data)
    count = lib.tl_memory_write(address, data, len(data)) if 0 <= address < 1 << 64 else -14
    if count < 0 and count != -14:
        raise NativeError(f"writing memory at {address:#x}: the system refused: {os.strerror(-count)}")
    if count != len(data):
        raise FiberError(f"{max(count, 0)} of {len(data)} bytes at {address:#x} could be written: no writable memory")


def read_word(address: int) -> int:
    """8 bytes of this process as a number. Raises FiberError where they cannot all be read."""
    data = read_memory(address, 8)
    if len(data) < 8:
        raise FiberError(f"8 bytes at {address:#x} cannot be read: no readable memory")
    return int.from_bytes(data, "little")


def write_word(address: int, word: int) -> None:
    """Writes a number as 8 bytes of this process. Raises FiberError where they cannot all be written."""
    write_memory(address, word.to_bytes(8, "little"))


def buffer_address(data: bytes) -> int:
    """Where the bytes of an object lie, as long as that object lives."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(data)))


def install_handlers() -> None:
    """Puts trapline's fault handlers back on top if another library has installed its own since; idempotent.

    Each thread also checks its alternate stack and signal mask before it next runs native code. The core does all that
    by itself about every switch interval. Call it after loading a library that installs fault handlers when native code
    runs right afterwards. Raises NativeError.
    """
    lib.tl_threads_recheck()
    error = lib.tl_signals_install()
    if error:
        raise _fail(error, "installing fault handlers")


def run_with_handlers_aside(function: Callable[[], Result], timeout_us: int) -> Result:
    """Calls a function that changes fault handlers while no thread runs native code and ours are off.

    Not a context manager: an exception from a signal handler (Ctrl-C) may come behind any call, and one at the end of
    `__enter__` would leave every thread parked. tl_unpark does nothing when tl_park was not reached.
    """
    try:
        lib.tl_park(timeout_us)
        lib.tl_signals_remove()
        return function()
    finally:
        try:
            lib.tl_signals_install()
        finally:
            lib.tl_unpark()


def set_switch_interval(seconds: float) -> None:
    """How long native code keeps the GIL before other Python threads get their turn."""
    lib.tl_ticker_set_interval(max(100, min(int(seconds * 1e6), 1_000_000_000)))


def trim_pool() -> None:
    """Gives pooled fiber stacks and the address space of freed memories back to the system."""
    lib.tl_pool_trim()
    lib.tl_memory_trim()


def direct_allowed() -> bool:
    """Whether the trap path `direct` works on this machine."""
    return bool(lib.tl_arch_direct_allowed())
