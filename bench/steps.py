"""How long does a single step take, and a breakpoint that is hit and stepped past?"""

from __future__ import annotations

import trapline
from bench.floors import floors
from bench.measure import Case
from bench.programs import image

TITLE = "Single steps and breakpoints, per event in Python"
SIGNAL = "C: int3, empty handler, sigreturn"


def cases() -> list[Case]:
    c = floors()
    code = image()
    copy = code.copy()
    copy.add_breakpoint("count")

    def steps(n: int) -> None:
        fiber = trapline.Fiber(code["count"], (1 << 62,))
        step = fiber.step
        for _ in range(n):
            step()

    def breakpoints(n: int) -> None:
        for _ in trapline.Fiber(copy["count"], (n,)):
            pass

    def direct_breakpoints(n: int) -> None:
        for _ in trapline.Fiber(copy["count"], (n,), path="direct"):
            pass

    return [
        Case(SIGNAL, c.traps_breakpoint),
        Case("C: trap flag, empty handler", c.steps_trap_flag),
        Case("C: PTRACE_SINGLESTEP of a child and wait", c.steps_ptrace, reports_ns=True),
        Case("step by the stepping copy", steps, SIGNAL),
        Case("breakpoint hit and stepped past, inject", breakpoints, SIGNAL),
        Case("breakpoint hit and stepped past, direct", direct_breakpoints, SIGNAL),
    ]
