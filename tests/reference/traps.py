"""The ways in which execution of WebAssembly ends other than by returning."""

from __future__ import annotations

import enum

__all__ = ["LinkError", "StepLimit", "Trap", "TrapKind"]


class TrapKind(enum.StrEnum):
    """Why code trapped, in the words of the official test scripts."""

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


class Trap(Exception):
    """Execution trapped. `reported` is set once the interpreter's `on_trap` has seen it."""

    def __init__(self, kind: TrapKind) -> None:
        super().__init__(str(kind))
        self.kind = kind
        self.reported = False


class LinkError(Exception):
    """An import is missing or has another type, in the words of the official test scripts."""


class StepLimit(Exception):
    """The interpreter's limit on executed opcodes is used up; the specification knows no such limit."""
