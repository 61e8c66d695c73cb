"""Every constant that may be tuned, and the numbers that Python and C agree on.

Sizes end in their unit. "must match" lines are held together by tests/unit/test_constants.py.
"""

from __future__ import annotations

from typing import Final

STACK_BYTES: Final = 256 << 10
"""Stack that a new fiber can use at once."""

MAX_STACK_BYTES: Final = 8 << 20
"""Address space reserved for a fiber's stack; `Fiber.grow_stack` makes more of it usable."""

IMAGE_CAPACITY_BYTES: Final = 1 << 20
"""Address space a new CodeImage reserves beyond the code it starts with."""

BREAKPOINT_SLOTS: Final = 16384
"""How many different instructions of one CodeCopy can have had a breakpoint."""

STEPPING_SLOTS: Final = 65536
"""How many different instructions one stepping copy can have stepped; then another copy is made.

Must match TL_SPARE_SLOTS in native/code.h, the room that is reserved for it."""

PARK_TIMEOUT_US: Final = 100_000
"""How long to wait for every thread to leave native code before going on without those inside C functions."""

SLOT_BYTES: Final = 64
"""Room for one displaced instruction. Must match TL_SLOT_BYTES in native/code.h."""

PATHS: Final = {"inject": 0, "direct": 1, "unwind": 2}
"""How a fault leaves native code. Must match enum tl_path in native/fiber.h."""

GIL_MODES: Final = {"lazy": 0, "release": 1}
"""What happens to the GIL while native code runs. Must match enum gil_mode in native/core_module.c."""

WASM_STACK_BYTES: Final = 1 << 20
"""Stack that a call of a WebAssembly function can use at once."""

WASM_MAX_STACK_BYTES: Final = 16 << 20
"""Address space reserved for it, for a debugger that lets an exhausted stack grow."""

THUNKS_BYTES: Final = 256 << 10
"""Room for thunks in one image."""

CODE_BYTES_PER_BYTE: Final = 24
"""Address space a module's code reserves for each byte of its code section."""

CACHE_BYTES: Final = 1 << 30
"""How large the folder of compiled code may grow."""

WASI_MAX_VECTORS: Final = 1024
"""Buffers of one read or write that are looked at; IOV_MAX of Linux, which refuses more."""

WASI_MAX_PATH_BYTES: Final = 4095
"""Longest path of a guest; PATH_MAX of Linux without the zero byte."""

WASI_MAX_LINKS: Final = 40
"""Symbolic links followed in one path, as on Linux."""

WASI_MAX_FILES: Final = 1024
"""Files that one guest may have open."""

WASI_RANDOM_BYTES: Final = 1 << 20
"""Random bytes are made in pieces of this size."""

WASI_MAX_MEMORY_FILE_BYTES: Final = 1 << 30
"""Largest file of a guest that lives in memory."""
