"""The exceptions of trapline and the codes that say why native code stopped.

Every error that bad input, a bad state or a trap can raise is a `TraplineError`: one ``except`` catches them all.
Messages name the function, the pc in hex, what was found and what was expected.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class TraplineError(Exception):
    """Base class of every error that trapline raises on purpose."""


class AssemblyError(TraplineError):
    """Assembly text, an operand or an encoding was refused.

    `line` is the 1-based line of the source text (None where there is no text), `text` that line as it was given.
    """

    def __init__(self, message: str, *, line: int | None = None, text: str | None = None) -> None:
        where = f"line {line}: " if line is not None else ""
        shown = f"\n    {text.strip()}" if text else ""
        super().__init__(f"{where}{message}{shown}")
        self.line = line
        self.text = text


class CodeError(TraplineError):
    """Code memory was asked for something it cannot do: an address outside code, no capacity left, a bad patch."""


class FiberError(TraplineError):
    """A fiber was asked for something its present state does not allow, or an argument does not fit."""


class NativeError(TraplineError):
    """The operating system refused something the native core needs."""


class CallError(TraplineError):
    """A WebAssembly function was called with arguments that do not fit, or a host function returned what does not."""


class MemoryAccessError(TraplineError, IndexError):
    """Python reached beyond the end of a memory or a table, or gave a slice of it another length."""


class TrapCode(enum.Enum):
    """Why the machine trapped; the value is the reason in words."""

    BREAKPOINT_INSTRUCTION = "breakpoint instruction"
    TRAP_INSTRUCTION = "trap instruction"
    SINGLE_STEP = "single step by the trap flag"
    ILLEGAL_INSTRUCTION = "illegal instruction"
    PRIVILEGED_INSTRUCTION = "privileged instruction or general protection fault"
    DIVISION = "integer division by zero or overflow"
    INTEGER_OVERFLOW = "integer overflow"
    BOUND_RANGE = "bound range exceeded"
    FLOATING_POINT = "floating-point exception"
    MEMORY_READ = "memory fault on a read"
    MEMORY_WRITE = "memory fault on a write"
    MEMORY_ACCESS = "memory fault"
    INSTRUCTION_FETCH = "jump to memory that is not executable code"
    ALIGNMENT = "misaligned access"
    BUS = "access to memory with nothing behind it"
    STACK_OVERFLOW = "stack overflow"


class Trap(TraplineError):
    """A native function stopped and was unwound.

    `code` says why (None when it was not a trap: a breakpoint, an interrupt, a check with nobody to answer it),
    `function` where, as label and offset, `pc` the address of the instruction, `address` that of the memory access
    (None where the machine gives none), `registers` what every general register held. The text is made when it is
    asked for, since most traps are caught by programs.
    """

    def __init__(
        self,
        describe: Callable[[], str],
        *,
        code: TrapCode | None,
        function: str,
        pc: int,
        address: int | None,
        registers: Mapping[str, int],
    ) -> None:
        super().__init__()
        self._describe = describe
        self.code = code
        self.function = function
        self.pc = pc
        self.address = address
        self.registers = registers

    def __str__(self) -> str:
        return self._describe()

    def __reduce__(self) -> tuple[Callable[..., Trap], tuple[Callable[[], str]]]:
        """Pickled with its text made: a worker process may hand it to its parent."""
        names = ("code", "function", "pc", "address", "registers")
        make = functools.partial(type(self), **{name: getattr(self, name) for name in names})
        return make, (functools.partial(str, str(self)),)


class WasmTrapCode(enum.Enum):
    """Why a WebAssembly program trapped; the value is the reason in the words of the specification's tests."""

    UNREACHABLE = "unreachable"
    DIVIDE_BY_ZERO = "integer divide by zero"
    INTEGER_OVERFLOW = "integer overflow"
    INVALID_CONVERSION = "invalid conversion to integer"
    MEMORY_BOUNDS = "out of bounds memory access"
    TABLE_BOUNDS = "out of bounds table access"
    UNDEFINED_ELEMENT = "undefined element"
    UNINITIALIZED_ELEMENT = "uninitialized element"
    INDIRECT_CALL_TYPE = "indirect call type mismatch"
    STACK_EXHAUSTED = "call stack exhausted"
    INTERRUPT = "interrupt"


@dataclass(frozen=True, slots=True)
class WasmFrameInfo:
    """One frame of a WebAssembly backtrace.

    `function` is the index of the function in its module (imports counted), `name` its name or None, `pc` the byte of
    the module that the frame is at (of a caller: the call), `code_offset` the same from the start of the body.
    """

    module: str
    function: int
    name: str | None
    pc: int
    code_offset: int

    @property
    def label(self) -> str:
        """The name, or `func[3]`."""
        return self.name if self.name is not None else f"func[{self.function}]"

    def __str__(self) -> str:
        return f"{self.module}!{self.label} +{self.code_offset:#x} (byte {self.pc:#x})"


class WasmTrap(Trap):
    """A WebAssembly program trapped and was unwound.

    `reason` says why; `frames` is the backtrace, innermost first; `function` is the label of the innermost function
    and `pc` the byte of the module that trapped; `address` that of a memory access, counted from the start of the
    memory, None where there is none.
    """

    code: None

    def __init__(
        self, reason: WasmTrapCode, frames: Sequence[WasmFrameInfo], *, address: int | None = None, detail: str = ""
    ) -> None:
        function, pc = (frames[0].label, frames[0].pc) if frames else ("host", 0)
        describe = functools.partial(_trap_text, reason, frames, detail)
        super().__init__(describe, code=None, function=function, pc=pc, address=address, registers={})
        self.reason = reason
        self.frames = tuple(frames)
        self.detail = detail

    def __reduce__(self) -> tuple[Callable[..., Trap], tuple[Any, ...]]:
        make = functools.partial(type(self), address=self.address, detail=self.detail)
        return make, (self.reason, self.frames)


_SHOWN_FRAMES = 24


def _trap_text(reason: WasmTrapCode, frames: Sequence[WasmFrameInfo], detail: str) -> str:
    lines = [f"{reason.value}{': ' if detail else ''}{detail}"]
    shown = frames if len(frames) <= _SHOWN_FRAMES else (*frames[: _SHOWN_FRAMES - 4], *frames[-4:])
    for number, frame in enumerate(shown):
        if len(shown) < len(frames) and number == _SHOWN_FRAMES - 4:
            lines.append(f"  ... {len(frames) - len(shown)} more frames ...")
        lines.append(f"  at {frame}")
    return "\n".join(lines)


class LinkError(TraplineError):
    """Instantiation found an import missing or of another type than the module declares.

    `module` and `name` are those of the import; `found` and `expected` are words.
    """

    def __init__(self, reason: str, *, module: str, name: str, found: str, expected: str) -> None:
        super().__init__(f"{reason}: {module}.{name}: found {found}, expected {expected}")
        self.reason = reason
        self.module = module
        self.name = name
        self.found = found
        self.expected = expected

    def __reduce__(self) -> tuple[Callable[..., LinkError], tuple[str], dict[str, Any]]:
        names = ("module", "name", "found", "expected")
        make = functools.partial(type(self), **{name: getattr(self, name) for name in names})
        return make, (self.reason,), vars(self)


class WasiError(TraplineError):
    """A guest's system was asked for something that the host does not have, or that its config does not provide."""


class ExitTrap(TraplineError):
    """A program ended itself by WASI's proc_exit; `code` is its exit code, 0 for success."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the program ended with exit code {code}")
        self.code = code

    def __reduce__(self) -> tuple[type[ExitTrap], tuple[int]]:
        return type(self), (self.code,)


class ModuleError(TraplineError):
    """A WebAssembly module was refused.

    `reason` starts with the words of the specification's tests where they have any. `offset` is the byte of the module
    where the fault was seen, `section` the name of the section around it; `function` is the index of the function
    (imports counted) and `function_name` its name, `opcode` that of the instruction; `found` and `expected` are words.
    Whatever is not known is None. The text is made when it is asked for, so that callers can add what they know.
    """

    kind = "refused"

    def __init__(
        self,
        reason: str,
        *,
        offset: int | None = None,
        section: str | None = None,
        function: int | None = None,
        function_name: str | None = None,
        opcode: str | None = None,
        found: str | None = None,
        expected: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset
        self.section = section
        self.function = function
        self.function_name = function_name
        self.opcode = opcode
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        text = self.reason
        if self.expected is not None:
            text += f", expected {self.expected}"
        if self.found is not None:
            text += f", found {self.found}"
        places = []
        if self.offset is not None:
            places.append(f"at byte {self.offset:#x}")
        if self.section is not None:
            places.append(f"in the {self.section} section")
        if self.function is not None:
            name = f" ({self.function_name})" if self.function_name is not None else ""
            places.append(f"function {self.function}{name}")
        if self.opcode is not None:
            places.append(f"opcode {self.opcode}")
        return f"{text} ({self.kind} module, {', '.join(places)})" if places else f"{text} ({self.kind} module)"


class DecodeError(ModuleError):
    """The bytes are not a module of the binary format: malformed."""

    kind = "malformed"


class ValidationError(ModuleError):
    """The module has the binary format and breaks a rule of validation: invalid."""

    kind = "invalid"


class UnsupportedError(ModuleError):
    """The module needs a proposal that is not supported, or is larger than an implementation limit."""

    kind = "unsupported"


class TextError(ModuleError):
    """The text is not a module of the text format, or nothing here can read it.

    `line` and `column` count from 1 and are None where they are not known; `text` is that line.
    """

    kind = "malformed"

    def __init__(
        self, reason: str, *, line: int | None = None, column: int | None = None, text: str | None = None
    ) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column
        self.text = text

    def __str__(self) -> str:
        if self.line is None:
            return self.reason
        shown = f"\n    {self.text.strip()}" if self.text and self.text.strip() else ""
        return f"line {self.line}, column {self.column}: {self.reason}{shown}"
