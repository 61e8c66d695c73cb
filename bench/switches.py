"""What do fibers cost: a switch, a start, a new one?"""

from __future__ import annotations

import trapline
from bench.floors import floors
from bench.measure import Case
from bench.programs import image

TITLE = "Fibers: switch, start, make"
SWITCH = "C: two bare stack switches"


def cases() -> list[Case]:
    code = image()
    entry = code.function("nothing", "void()")
    checked = trapline.Fiber(code["checks"])

    def checks(n: int) -> None:
        for _ in range(n):
            next(checked)

    def starts(n: int) -> None:
        for _ in range(n):
            entry()

    def makes(n: int) -> None:
        for _ in range(n):
            trapline.Fiber(entry)

    def makes_and_runs(n: int) -> None:
        for _ in range(n):
            trapline.Fiber(entry).resume()

    def makes_large(n: int) -> None:
        for _ in range(n):
            trapline.trim_pool()
            trapline.Fiber(entry)

    return [
        Case(SWITCH, floors().switches),
        Case("out by a check, into Python, in by resume", checks, SWITCH),
        Case("start on a pooled stack, run to the end", starts, SWITCH),
        Case("Fiber object on a pooled stack", makes),
        Case("Fiber object on a pooled stack, run to the end", makes_and_runs),
        Case("Fiber object on a new stack (mmap)", makes_large),
    ]
