"""The exceptions of trapline and the codes that say why native code stopped.

Every error that bad input, a bad state or a trap can raise is a `TraplineError`: one ``except`` catches them all.
Messages name the function, the pc in hex, what was found and what was expected.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping


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
