"""How the demo mends the program's three bugs. The bodies of these functions are printed as they are run."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import TypeAlias

from trapline.cli.demo.program import Run
from trapline.runtime.wasm_trap import TrapEvent

__all__ = ["Mend", "empty_box", "no_room", "statements", "wild_pointer"]

Mend: TypeAlias = Callable[[TrapEvent, Run], None]


def no_room(event: TrapEvent, run: Run) -> None:
    """decode() writes behind the end of the memory: there has to be more of it."""
    image, memory = run.image, run.memory
    missing = image.pixels + 4 * image.width * image.height - len(memory)
    memory.grow(missing // 65536 + 1)
    event.retry()


def wild_pointer(event: TrapEvent, run: Run) -> None:
    """convert() calls what lies behind the end of a table of two functions: the first is meant."""
    from_srgb = run.memory.read_u32(run.exports.converters.value)
    event.frames[0].operands[-1] = from_srgb
    event.retry()


def empty_box(event: TrapEvent, run: Run) -> None:
    """The mean of no pixels: black will do."""
    event.skip(0)


def statements(mend: Mend) -> list[str]:
    """The body of a function, without its docstring."""
    source = textwrap.dedent(inspect.getsource(mend))
    body = source[source.index('"""\n') + 4 :]
    return textwrap.dedent(body).rstrip().splitlines()
