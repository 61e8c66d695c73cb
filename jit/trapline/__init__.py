"""Run native machine code from Python, stop it anywhere, look inside, mend it and go on.

>>> import trapline
>>> code = trapline.CodeImage(trapline.assemble("add: lea rax, [rdi + rsi]; ret"))
>>> code["add"](40, 2)
42
"""

# First, because it refuses subinterpreters: capstone imported in one spoils ctypes for the main interpreter.
import trapline.native  # noqa: F401

# isort: split
from trapline.asm.assembly import Assembly, assemble
from trapline.errors import AssemblyError, CodeError, FiberError, NativeError, Trap, TrapCode, TraplineError
from trapline.native import CHECK_ADDRESS, Function, install_handlers, trim_pool
from trapline.runtime.code import Breakpoint, CodeCopy, CodeImage, find_code
from trapline.runtime.fiber import Fiber, FiberState
from trapline.runtime.handlers import wrap_faulthandler
from trapline.runtime.registers import Registers
from trapline.runtime.trap import Event, StopReason

__all__ = [
    "CHECK_ADDRESS",
    "Assembly",
    "AssemblyError",
    "Breakpoint",
    "CodeCopy",
    "CodeError",
    "CodeImage",
    "Event",
    "Fiber",
    "FiberError",
    "FiberState",
    "Function",
    "NativeError",
    "Registers",
    "StopReason",
    "Trap",
    "TrapCode",
    "TraplineError",
    "assemble",
    "find_code",
    "install_handlers",
    "trim_pool",
]
__version__ = "0.1.0"

wrap_faulthandler()
