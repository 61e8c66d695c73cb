"""Looking inside: what each stage made, for whom it is printed, and which functions are optimised and checked.

Three variables of the environment, each read once:

    TRAPLINE_DUMP   stage[@function],...    prints on stderr what a stage made of a function; `all` is every stage
    TRAPLINE_ONLY   first..stop             optimises only functions whose index lies in [first, stop)
    TRAPLINE_CHECK  1                       proves allocation and states of every function that is compiled

A stage hands its `Watch`, if there is one, a function that makes the text; without one nothing is made. Texts hold no
absolute addresses, so that two runs print the same.
"""

from __future__ import annotations

import enum
import functools
import os
import sys
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol, TextIO

from trapline.errors import TraplineError

__all__ = ["CHECKING", "Request", "Stage", "Watch", "legend", "optimised", "parse_range", "parse_requests", "watch"]


class Stage(enum.Enum):
    """The stages in the order of the line: the legend, what TRAPLINE_DUMP is parsed by, and the help, in one place."""

    legend: str

    def __new__(cls, word: str, legend: str = "") -> Stage:
        stage = object.__new__(cls)
        stage._value_ = word
        stage.legend = legend
        return stage

    DECODE = "decode", "the opcodes of a body, with their Wasm pcs"
    VALIDATE = "validate", "the same, with operand heights and what cannot be reached"
    LOWER = "lower", "SSA form, as it comes from the opcodes"
    PARAMETERS = "parameters", "SSA form, without loop parameters that carry one value"
    DEAD = "dead", "SSA form, without values that nobody needs"
    FUSE = "fuse", "SSA form, with comparisons in their branches"
    ALLOCATE = "allocate", "what is done in which registers and slots"
    EMIT = "emit", "machine code, with its stop points and trap sites"
    TABLE = "table", "the value of every local and operand at every opcode, and where it is"
    PLACE = "place", "where in its image the code of a function went"
    TRAP = "trap", "each event that stopped native code"
    SWITCH = "switch", "each time native code is entered, left and resumed"
    PACKET = "packet", "each packet of a debugger's protocol"


ALL: Final = "all"


def legend() -> str:
    """Every stage with what it prints, a line each."""
    width = max(len(stage.value) for stage in Stage)
    return "\n".join(f"{stage.value:<{width}}  {stage.legend}" for stage in Stage)


class Request(NamedTuple):
    """One item of TRAPLINE_DUMP. `function` is a name or an index in decimal, None every function."""

    stage: Stage
    function: str | None

    def concerns(self, index: int | None, name: str | None) -> bool:
        """Whether the function is asked for; what belongs to no function is only printed when all are."""
        return self.function is None or self.function in (name, None if index is None else str(index))


def parse_requests(text: str) -> tuple[Request, ...]:
    """The items of TRAPLINE_DUMP. Raises TraplineError with the legend for a stage that is none.

    >>> parse_requests("lower,emit@fib")
    (Request(stage=<Stage.LOWER: 'lower'>, function=None), Request(stage=<Stage.EMIT: 'emit'>, function='fib'))
    """
    out: list[Request] = []
    stages = {stage.value: stage for stage in Stage}
    for item in text.split(","):
        word, at, function = (part.strip() for part in item.partition("@"))
        if at and not function:
            raise TraplineError(f"TRAPLINE_DUMP: found {item.strip()!r}, expected a function's name or index behind @")
        if word == ALL:
            out += [Request(stage, function or None) for stage in Stage]
        elif word in stages:
            out.append(Request(stages[word], function or None))
        elif word:
            raise TraplineError(f"TRAPLINE_DUMP: found {word!r}, expected {ALL} or stages from this list:\n{legend()}")
    return tuple(out)


def parse_range(text: str) -> range:
    """The functions of TRAPLINE_ONLY: `first..stop`, where either may be left out. Raises TraplineError.

    >>> parse_range("3..7"), parse_range("..7").start
    (range(3, 7), 0)
    """
    first, dots, stop = (part.strip() for part in text.partition(".."))
    if not dots or not all(part.isdecimal() for part in (first, stop) if part):
        raise TraplineError(f"TRAPLINE_ONLY: found {text!r}, expected function indices as first..stop, like 10..20")
    return range(int(first or 0), int(stop) if stop else sys.maxsize)


class Watch:
    """What is asked for of one function, or of what belongs to none: call it with a stage and what makes its text."""

    __slots__ = ("_heading", "_stages", "_stream")

    def __init__(self, stages: Iterable[Stage], heading: str, stream: TextIO | None = None) -> None:
        self._stages = frozenset(stages)
        self._heading = heading
        self._stream = stream

    def __call__(self, stage: Stage, make: Callable[[], str]) -> None:
        if stage in self._stages:
            text = make()
            print(f"== {stage.value}: {self._heading}\n{text}", file=self._stream or sys.stderr, flush=True)


def named(index: int, name: str | None) -> str:
    """A function in a heading."""
    return f"function {index}" if name is None else f"function {index} ({name})"


_DUMP: Final = os.environ.get("TRAPLINE_DUMP", "")
_ONLY: Final = os.environ.get("TRAPLINE_ONLY", "")
CHECKING: Final = os.environ.get("TRAPLINE_CHECK", "") not in ("", "0")
"""Whether every function that is compiled is checked."""


@functools.cache
def _requests() -> tuple[Request, ...]:
    return parse_requests(_DUMP)


@functools.cache
def _optimised_range() -> range:
    return parse_range(_ONLY)


class Named(Protocol):
    """Whoever knows the names of functions: trapline.wasm.module.Module."""

    def function_name(self, index: int) -> str | None: ...


def watch(index: int, names: Named) -> Watch | None:
    """The watch that TRAPLINE_DUMP sets on a function, if any. Raises TraplineError if it cannot be read."""
    if not _DUMP:
        return None
    name = names.function_name(index)
    stages = [request.stage for request in _requests() if request.concerns(index, name)]
    return Watch(stages, named(index, name)) if stages else None


def optimised(index: int) -> bool:
    """Whether TRAPLINE_ONLY lets this function be optimised. Raises TraplineError if it cannot be read."""
    return not _ONLY or index in _optimised_range()
