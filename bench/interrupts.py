"""How long from interrupt() in one thread to the event of an endless loop in another?

The loop carries no check: the same loop is timed with nothing attached and with fibers, ticker and handlers in place.
"""

from __future__ import annotations

import os
import threading
import time

import trapline
from bench.floors import floors
from bench.measure import Case
from bench.programs import image

TITLE = "Interrupting an endless loop in another thread"
CORES = sorted(os.sched_getaffinity(0))
"""The loop runs on the first, the one who interrupts it on the last."""
SIGNAL = "C: pthread_kill to a handler in a spinning thread"


class _Loop:
    """A thread that resumes an endless loop when told to, and notes when the interrupt reached Python."""

    def __init__(self, code: trapline.CodeImage) -> None:
        self.fiber = trapline.Fiber(code["spin"], gil="release")
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.at_ns = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        os.sched_setaffinity(0, {CORES[0]})
        while self.go.acquire():
            next(self.fiber)
            self.at_ns = time.perf_counter_ns()
            self.stopped.release()

    def latency_ns(self, n: int) -> float:
        """The mean of n interrupts, each half a millisecond into the loop."""
        total = 0
        os.sched_setaffinity(0, {CORES[-1]})
        for _ in range(n):
            self.go.release()
            time.sleep(0.0005)
            start = time.perf_counter_ns()
            self.fiber.interrupt()
            self.stopped.acquire()
            total += self.at_ns - start
        os.sched_setaffinity(0, CORES)
        return total / n


def cases() -> list[Case]:
    loop = _Loop(image())
    return [
        Case(SIGNAL, floors().signal_latency, reports_ns=True),
        Case("interrupt() to the event in Python", loop.latency_ns, SIGNAL, reports_ns=True),
    ]


PIN = False
