"""The time and the random bytes that a guest is given: those of the host, or made up and the same in every run."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Final, Protocol

from trapline.wasi.abi import ClockId

__all__ = ["Clocks", "HostClocks", "RandomBytes", "SteppedClocks", "host_random", "seeded_random"]

RandomBytes = Callable[[int], bytes]
"""So many random bytes."""


class Clocks(Protocol):
    """What knows the time."""

    def now(self, clock: int) -> int:
        """Nanoseconds of a clock by its $clockid. Raises LookupError where there is none."""

    def resolution(self, clock: int) -> int:
        """Its resolution in nanoseconds. Raises LookupError."""

    def sleep(self, duration_ns: int) -> None:
        """Let time pass."""

    @property
    def real(self) -> bool:
        """Whether other things happen while time passes."""


class HostClocks:
    """The clocks of the host; those of CPU time start with the guest."""

    real = True

    def __init__(self) -> None:
        self._process_ns = time.process_time_ns()
        self._thread_ns = time.thread_time_ns()

    def now(self, clock: int) -> int:
        """Nanoseconds of a clock by its $clockid. Raises LookupError where there is none."""
        if clock == ClockId.MONOTONIC:
            return time.monotonic_ns()
        if clock == ClockId.REALTIME:
            return time.time_ns()
        if clock == ClockId.PROCESS_CPUTIME:
            return max(time.process_time_ns() - self._process_ns, 0)
        if clock == ClockId.THREAD_CPUTIME:
            return max(time.thread_time_ns() - self._thread_ns, 0)
        raise LookupError(clock)

    def resolution(self, clock: int) -> int:
        """Its resolution in nanoseconds. Raises LookupError."""
        return max(int(time.clock_getres(_CLOCKS[clock]) * 1e9), 1)

    def sleep(self, duration_ns: int) -> None:
        """Let time pass; Ctrl-C ends it."""
        # What is too long for the host's timer can wait in several parts.
        while duration_ns > 0:
            part_ns = min(duration_ns, 10**17)
            time.sleep(part_ns / 1e9)
            duration_ns -= part_ns


_CLOCKS: Final = {
    ClockId.REALTIME: time.CLOCK_REALTIME,
    ClockId.MONOTONIC: time.CLOCK_MONOTONIC,
    ClockId.PROCESS_CPUTIME: time.CLOCK_PROCESS_CPUTIME_ID,
    ClockId.THREAD_CPUTIME: time.CLOCK_THREAD_CPUTIME_ID,
}


class SteppedClocks:
    """Clocks that go on by a step each time they are looked at; sleeping takes no time.

    start_ns: the real time at the start, in nanoseconds since 1970; the other clocks start at 0.
    """

    real = False

    def __init__(self, start_ns: int, step_ns: int) -> None:
        self._start_ns = start_ns
        self._step_ns = step_ns
        self._passed_ns = 0

    def now(self, clock: int) -> int:
        """Nanoseconds of a clock by its $clockid. Raises LookupError where there is none."""
        if clock not in _CLOCKS:
            raise LookupError(clock)
        self._passed_ns += self._step_ns
        return self._passed_ns + (self._start_ns if clock == ClockId.REALTIME else 0)

    def resolution(self, clock: int) -> int:
        """Its resolution in nanoseconds. Raises LookupError."""
        if clock not in _CLOCKS:
            raise LookupError(clock)
        return max(self._step_ns, 1)

    def sleep(self, duration_ns: int) -> None:
        """Let time pass, at once."""
        self._passed_ns += max(duration_ns, 0)


def host_random(size_bytes: int) -> bytes:
    """Random bytes of the host, good for keys."""
    return os.urandom(size_bytes)


def seeded_random(seed: int) -> RandomBytes:
    """The same bytes for the same seed; not for keys."""
    return random.Random(seed).randbytes
