"""Host calls of WebAssembly code under signals, interrupts, other threads: none lost, none doubled, nobody starved.

TRAPLINE_STRESS_CALLS is how many calls the first test makes (1,000,000).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trapline import Event, FiberError, StopReason, native
from trapline.native import HOST

if HOST.name != "x86_64":
    pytest.skip("the functions here are x86-64 code", allow_module_level=True)

from tests.unit.wasm_code import Instance

CALLS = int(os.environ.get("TRAPLINE_STRESS_CALLS", "1000000"))
RunPython = Callable[..., Any]


@contextlib.contextmanager
def alarms(seconds: float, handler: Callable[..., None]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def thread(target: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """Runs target(over) beside the block, where over() says that the block has ended."""
    over = threading.Event()
    runner = threading.Thread(target=target, args=(over.is_set,))
    runner.start()
    try:
        yield
    finally:
        over.set()
        runner.join()


@pytest.mark.parametrize("gil", [0, 1], ids=["lazy", "release"])
def test_signals_and_interrupts(gil: int) -> None:
    """A timer's Python handler, interrupts from another thread, another thread's work, through so many host calls."""
    instance = Instance()
    counts = {"calls": 0, "alarms": 0, "interrupts": 0, "asked": 0}

    def host(a: int, b: int) -> int:
        counts["calls"] += 1
        return 1

    def on_alarm(*_: object) -> None:
        counts["alarms"] += 1

    instance.import_host(host)
    calls = CALLS if gil == 0 else CALLS // 10
    fiber = instance.function("repeat", gil=gil).fiber(calls, 0)

    def ask(over: Callable[[], bool]) -> None:
        while not over():
            time.sleep(0.001)
            if counts["asked"] == counts["interrupts"]:
                counts["asked"] += 1
                with contextlib.suppress(FiberError):  # it has finished
                    fiber.interrupt()

    with alarms(0.001, on_alarm), thread(ask):
        for event in fiber:
            assert event.reason is StopReason.INTERRUPT
            counts["interrupts"] += 1
    assert fiber.result == calls
    assert counts["calls"] == calls
    assert counts["alarms"] > 0
    assert 0 <= counts["asked"] - counts["interrupts"] <= 1
    assert counts["interrupts"] > 0


def test_traps_inside_host_calls() -> None:
    """Code whose host function calls code that traps, whose handler lets it go on."""
    instance, other = Instance(), Instance()
    seen: list[int] = []

    def handler(event: Event) -> None:
        assert event.reason is StopReason.TRAP
        seen.append(event.registers.rcx)
        event.skip()

    trap = instance.function("trap", handler=handler)
    other.import_host(lambda a, b: trap(b, a))
    assert other.function("repeat")(500, 0) == 5 * 500
    assert seen == list(range(500, 0, -1))


@pytest.mark.parametrize("callable_", [max, lambda a, b: 1], ids=["c", "python"])
def test_other_threads_run(callable_: Callable[[int, int], int]) -> None:
    """While one thread is in WebAssembly that does nothing but call the host, another gets its share of the GIL."""
    instance = Instance()
    instance.import_host(callable_)
    repeat = instance.function("repeat")
    turns: list[float] = []

    def work(over: Callable[[], bool]) -> None:
        while not over():
            turns.append(time.monotonic())
            for _ in range(1000):
                pass

    with thread(work):
        start = time.monotonic()
        repeat(10_000_000, 0)
        end = time.monotonic()
    assert end - start > 0.2
    assert len([turn for turn in turns if start < turn < end]) > 10


KEYBOARD = """
import os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
from tests.unit.wasm_code import *
from trapline import StopReason

where, with_handler = sys.argv[2], sys.argv[3] == "handler"
instance = Instance()
if where == "python":
    instance.import_host(lambda a, b: time.sleep(60) or 0)
elif where == "c":
    instance.import_host(max)
elif where == "calls":
    instance.import_host(lambda a, b: 1)
seen = []

def handler(event):
    seen.append((event.reason, type(event.fiber.exception)))
    raise event.fiber.exception

label = {"code": "spin", "python": "imported"}.get(where, "repeat")
function = instance.function(label, handler=handler if with_handler else None)
for turn in range(3):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        function(1 << 40, 0) if label != "imported" else function(1, 2)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("it returned")
if with_handler:
    assert seen == [(StopReason.EXCEPTION, KeyboardInterrupt)] * 3, seen
assert instance.function("add")(1, 2) == 3
"""


@pytest.mark.parametrize("handler", ["handler", "none"])
@pytest.mark.parametrize("where", ["code", "python", "c", "calls"])
def test_keyboard_interrupt(where: str, handler: str, run_python: RunPython) -> None:
    """In code, in a host function that sleeps, in calls of a C function, in calls of a Python function."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    run_python(KEYBOARD, root, where, handler)


def test_dropped_keyboard_interrupt() -> None:
    """A handler that drops the exception of a signal's handler lets the code go on where it was."""
    instance = Instance()
    seen: list[object] = []
    calls = 20000

    def on_alarm(*_: object) -> None:
        raise KeyboardInterrupt

    def host(a: int, b: int) -> int:
        return 1

    def handler(event: Event) -> None:
        fiber = event.fiber
        if event.reason is StopReason.EXCEPTION:
            seen.append(fiber.exception)
            if fiber.request is not None:
                fiber.set_words((1).to_bytes(8, "little"))

    instance.import_host(host)
    repeat = instance.function("repeat", handler=handler)
    before = signal.signal(signal.SIGALRM, on_alarm)
    done = 0
    try:
        end = time.monotonic() + 5
        while len(seen) < 5 and time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001)
                done = repeat(calls, 0)
                assert done == calls
            except KeyboardInterrupt:  # before the call, or behind it
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) >= 5
    assert all(isinstance(error, KeyboardInterrupt) for error in seen)


def test_threads() -> None:
    """Four threads call, raise, trap and grow one memory at once."""
    memory = native.Memory(1, 4000, False)
    errors: list[BaseException] = []
    grown: list[int] = []

    def work() -> None:
        try:
            instance = Instance()
            instance.import_host(lambda a, b: 1 if a % 3 else 1 // 0)
            function = instance.function("imported")
            trap = instance.function("trap", handler=lambda event: event.unwind())
            for number in range(2000):
                try:
                    assert function(number, 1) == 1
                except ZeroDivisionError:
                    assert number % 3 == 0
                if number % 10 == 0:
                    assert trap(1, 2) is None
                    grown.append(memory.grow(1))
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert errors == []
    assert sorted(grown) == list(range(1, 801))
    assert memory.pages == 801


def test_fork_in_a_host_call() -> None:
    """The child goes on in the code that called, with memories of its own."""
    instance = Instance()
    memory = native.Memory(1, None, False)
    child: list[int] = []

    def host(a: int, b: int) -> int:
        if a == 5:
            child.append(os.fork())
            memory[0] = 1 if child[0] else 2
        return 1

    instance.import_host(host)
    result = instance.function("repeat")(10, 0)
    if child[0] == 0:
        good = result == 10 and memory[0] == 2 and memory.grow(1) == 1 and instance.function("add")(1, 2) == 3
        os._exit(0 if good else 1)
    assert result == 10
    assert os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1]) == 0
    assert memory[0] == 1
