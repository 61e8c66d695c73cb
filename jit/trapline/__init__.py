"""Run WebAssembly and native code from Python, stop it anywhere, look inside, mend it and go on.

>>> import trapline
>>> code = trapline.CodeImage(trapline.assemble("add: lea rax, [rdi + rsi]; ret"))
>>> code["add"](40, 2)
42
"""

# First, because it refuses subinterpreters: capstone imported in one spoils ctypes for the main interpreter.
import trapline.native  # noqa: F401

# isort: split
from typing import TYPE_CHECKING, Any

from trapline.asm.assembly import Assembly, assemble
from trapline.errors import (
    AssemblyError,
    CallError,
    CodeError,
    DecodeError,
    ExitTrap,
    FiberError,
    LinkError,
    MemoryAccessError,
    ModuleError,
    NativeError,
    Trap,
    TrapCode,
    TraplineError,
    UnsupportedError,
    ValidationError,
    WasiError,
    WasmFrameInfo,
    WasmTrap,
    WasmTrapCode,
)
from trapline.native import CHECK_ADDRESS, Function, install_handlers, trim_pool
from trapline.runtime.caller import Caller
from trapline.runtime.code import Breakpoint, CodeCopy, CodeImage, find_code
from trapline.runtime.engine import Config, Engine
from trapline.runtime.fiber import Fiber, FiberState
from trapline.runtime.frame import OPTIMIZED_OUT, Frame
from trapline.runtime.func import Call, Func
from trapline.runtime.handlers import wrap_faulthandler
from trapline.runtime.instance import Exports, Instance
from trapline.runtime.linker import Linker
from trapline.runtime.memory import Memory
from trapline.runtime.module import ExportType, ImportType, Module
from trapline.runtime.registers import Registers
from trapline.runtime.store import Store
from trapline.runtime.table import Table
from trapline.runtime.trap import Event, StopReason
from trapline.runtime.variable import Global
from trapline.runtime.wasm_trap import TrapEvent
from trapline.wasm.limits import ImplementationLimits
from trapline.wasm.text import parse_text
from trapline.wasm.types import (
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
    externref,
    f32,
    f64,
    funcref,
    i32,
    i64,
)

if TYPE_CHECKING:
    from trapline.wasi import Wasi, WasiConfig

__all__ = [
    "CHECK_ADDRESS",
    "OPTIMIZED_OUT",
    "Assembly",
    "AssemblyError",
    "Breakpoint",
    "Call",
    "CallError",
    "Caller",
    "CodeCopy",
    "CodeError",
    "CodeImage",
    "Config",
    "DecodeError",
    "Engine",
    "Event",
    "ExitTrap",
    "ExportType",
    "Exports",
    "Fiber",
    "FiberError",
    "FiberState",
    "Frame",
    "Func",
    "FuncType",
    "Function",
    "Global",
    "GlobalType",
    "ImplementationLimits",
    "ImportType",
    "Instance",
    "Limits",
    "LinkError",
    "Linker",
    "Memory",
    "MemoryAccessError",
    "MemoryType",
    "Module",
    "ModuleError",
    "NativeError",
    "Registers",
    "StopReason",
    "Store",
    "Table",
    "TableType",
    "Trap",
    "TrapCode",
    "TrapEvent",
    "TraplineError",
    "UnsupportedError",
    "ValidationError",
    "Wasi",
    "WasiConfig",
    "WasiError",
    "WasmFrameInfo",
    "WasmTrap",
    "WasmTrapCode",
    "assemble",
    "externref",
    "f32",
    "f64",
    "find_code",
    "funcref",
    "i32",
    "i64",
    "install_handlers",
    "parse_text",
    "trim_pool",
]
_LATE = ("Wasi", "WasiConfig")
"""Names whose import takes long (sockets, time, files) and which many programs do not need. PEP 562."""


def __getattr__(name: str) -> Any:
    if name in _LATE:
        from trapline import wasi

        found = globals()[name] = getattr(wasi, name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})


__version__ = "0.1.0"

wrap_faulthandler()
