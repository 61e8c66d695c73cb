"""Interrupts: of loops that never end, from other threads, by Python's signals, and what the GIL does meanwhile."""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trapline import CodeImage, Event, Fiber, FiberError, FiberState, StopReason, assemble, native
from trapline.native import HOST

pytestmark = pytest.mark.skipif(HOST.name != "x86_64", reason="the functions here are x86-64 code")

GILS = ("lazy", "release")
PATHS = ("inject", "direct", "unwind")
RunPython = Callable[..., Any]


def libc(name: str) -> int:
    address = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    assert address is not None
    return address


CODE = CodeImage(
    assemble(
        """
        spin: inc rax
            jmp spin
        tight: jmp tight
        count: inc qword ptr [rdi]
            cmp qword ptr [rsi], 0
            je count
            mov rax, qword ptr [rdi]
            ret
        finish: mov eax, 5
            ret
        naps: push rbx
            push r12
            push r13
            mov rbx, rdi
            mov r12, rsi
        nap: lea rdi, [rip + time]
            xor esi, esi
            movabs rax, NANOSLEEP
            call rax
            lea rdi, [rip + text]
            movabs rax, STRLEN
            call rax
            add qword ptr [rbx], rax
            mov ecx, 300000
        own: dec ecx
            jnz own
            cmp qword ptr [r12], 0
            je nap
            pop r13
            pop r12
            pop rbx
            mov eax, 1
            ret
        .balign 8
        time: .quad 0, 50000
        text: .asciz "twelve bytes"
        """,
        symbols={"NANOSLEEP": libc("nanosleep"), "STRLEN": libc("strlen")},
    ),
    name="loops",
)


class Flags:
    """Two words that native code and the test share: how far it came, and whether it shall stop."""

    def __init__(self) -> None:
        self.words = (ctypes.c_int64 * 2)()
        self.arguments = (ctypes.addressof(self.words), ctypes.addressof(self.words) + 8)

    @property
    def count(self) -> int:
        return self.words[0]

    def stop(self) -> None:
        self.words[1] = 1


def in_thread(function: Callable[[], object]) -> Callable[[], object]:
    """Runs it in another thread; the returned function joins and gives its result or raises its exception."""
    result: list[object] = []
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            result.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()

    def join() -> object:
        thread.join()
        if errors:
            raise errors[0]
        return result[0]

    return join


@pytest.fixture
def short_turns() -> Iterator[None]:
    """Python threads and native code take turns more often than by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    native.set_switch_interval(1e-3)
    yield
    sys.setswitchinterval(before)
    native.set_switch_interval(before)


# ---- by another thread ----


@pytest.mark.parametrize("gil", GILS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("label", ["spin", "tight"])
def test_thousands_of_interrupts(label: str, path: str, gil: str, short_turns: None) -> None:
    """Each interrupt of an endless loop stops it once, wherever the interrupt finds it."""
    rounds = 300 if gil == "lazy" else 1000
    fiber = Fiber(CODE[label], (), path=path, gil=gil)
    asked = threading.Semaphore(0)
    over = threading.Event()

    def ask() -> None:
        while True:
            asked.acquire()
            if over.is_set():
                return
            fiber.interrupt()

    join = in_thread(ask)
    base, end = CODE.address_of(label), CODE.address_of(label) + (3 if label == "spin" else 0)
    try:
        before = 0
        for _ in range(rounds):
            asked.release()
            event = fiber.resume()
            assert event is not None
            assert event.reason is StopReason.INTERRUPT
            assert event.pc in (base, end)
            assert event.trap is None
            assert fiber.state is FiberState.SUSPENDED
            assert not fiber.interrupt_pending
            if label == "spin":
                assert event.registers.rax >= before
                before = event.registers.rax
    finally:
        over.set()
        asked.release()
        join()


def test_interrupt_before_the_start_and_while_suspended() -> None:
    fiber = Fiber(CODE["finish"], ())
    for _ in range(5):
        fiber.interrupt()
        fiber.interrupt()
        assert fiber.interrupt_pending
        event = fiber.resume()
        assert event is not None
        assert (event.reason, event.pc) == (StopReason.INTERRUPT, CODE.address_of("finish"))
        assert not fiber.interrupt_pending
    assert fiber.resume() is None
    assert fiber.result == 5


@pytest.mark.parametrize("args", [(), (1, 2, 3, 4, 5, 6, 7, 8, 1.5, -2.5)])
def test_interrupt_before_the_start_keeps_the_arguments(args: tuple[int | float, ...]) -> None:
    code = CodeImage(assemble("lea rax, [rdi + 2*rsi]\nadd rax, qword ptr [rsp + 16]\naddsd xmm0, xmm1\nret"))
    full = args or (1, 2, 3, 4, 5, 6, 7, 8, 1.5, -2.5)
    results = []
    for interrupted in (False, True):
        fiber = Fiber(code[0], full)
        if interrupted:
            fiber.interrupt()
            assert fiber.resume() is not None
            assert fiber.registers.lanes("xmm1", "f64")[0] == -2.5
        assert fiber.resume() is None
        results.append(fiber.result)
    assert results == [13, 13]


def test_interrupt_of_what_has_ended() -> None:
    fiber = Fiber(CODE["finish"], ())
    fiber.resume()
    with pytest.raises(FiberError, match="finished; nothing is left to interrupt"):
        fiber.interrupt()
    fiber = Fiber(CODE["finish"], ())
    fiber.unwind()
    with pytest.raises(FiberError, match="unwound; nothing is left to interrupt"):
        fiber.interrupt()
    assert not fiber.interrupt_pending


def test_a_trap_does_not_swallow_an_interrupt(short_turns: None) -> None:
    """A fiber that traps while an interrupt is on its way reports both, one after the other."""
    code = CodeImage(assemble("start: int3\njmp start"))
    fiber = Fiber(code[0], (), gil="release")
    stop = threading.Event()
    sent = 0

    def ask() -> None:
        nonlocal sent
        while not stop.is_set():
            fiber.interrupt()
            sent += 1

    join = in_thread(ask)
    seen = {StopReason.TRAP: 0, StopReason.INTERRUPT: 0}
    try:
        while min(seen.values()) < 300:
            event = fiber.resume()
            assert event is not None
            seen[event.reason] += 1
    finally:
        stop.set()
        join()
    assert seen[StopReason.INTERRUPT] <= sent + 1
    for _ in range(2):
        event = fiber.resume()
    assert event is not None
    assert event.reason is StopReason.TRAP


@pytest.mark.parametrize("gil", GILS)
@pytest.mark.parametrize("path", ["inject", "direct"])
def test_interrupt_in_c_functions(path: str, gil: str) -> None:
    """Native code that spends its time in libc stops when it is back in its own code; nothing is lost."""
    flags = Flags()
    fiber = Fiber(CODE["naps"], flags.arguments, path=path, gil=gil)
    asked = threading.Semaphore(0)
    over = threading.Event()

    def ask() -> None:
        while True:
            asked.acquire()
            if over.is_set():
                return
            fiber.interrupt()

    join = in_thread(ask)
    try:
        for _ in range(30):
            asked.release()
            event = fiber.resume()
            assert event is not None
            assert event.reason is StopReason.INTERRUPT
            assert event.code is CODE
            assert CODE.address_of("naps") <= event.pc < CODE.address_of("time")
    finally:
        over.set()
        asked.release()
        join()
    flags.stop()
    assert fiber.resume() is None
    assert fiber.result == 1
    assert flags.count % 12 == 0
    assert flags.count > 0


def test_interrupt_of_a_nested_activation() -> None:
    """Only the fiber that was asked stops; the one beneath it goes on as it was."""
    inner_event: list[Event] = []

    def handler(event: object) -> None:
        inner = Fiber(CODE["spin"], (), gil="release")
        join = in_thread(lambda: [inner.interrupt(), outer.interrupt()])
        stopped = inner.resume()
        assert stopped is not None
        inner_event.append(stopped)
        join()

    code = CodeImage(assemble("int3\nmov eax, 3\nret"))
    outer = Fiber(code[0], ())
    assert outer.resume() is not None
    handler(outer.last_event())
    assert inner_event[0].reason is StopReason.INTERRUPT
    event = outer.resume()
    assert event is not None
    assert event.reason is StopReason.INTERRUPT
    assert outer.resume() is None
    assert outer.result == 3


# ---- the GIL ----


@pytest.mark.parametrize("gil", GILS)
def test_other_threads_go_on_beside_an_endless_loop(gil: str) -> None:
    """A loop on another thread runs while this one computes, waits and in the end stops it."""
    flags = Flags()
    fiber = Fiber(CODE["count"], flags.arguments, gil=gil)
    join = in_thread(fiber.resume)
    seen = [flags.count]
    turns = 0
    while len(seen) < 20:
        turns += 1
        if flags.count > seen[-1]:
            seen.append(flags.count)
    flags.stop()
    assert join() is None
    assert fiber.result >= seen[-1]
    assert turns >= 19


@pytest.mark.parametrize("gil", GILS)
def test_a_thread_goes_on_beside_a_loop_of_the_main_thread(gil: str) -> None:
    """The loop of this thread ends only because another Python thread gets its turns."""
    flags = Flags()
    steps = 0

    def work() -> None:
        nonlocal steps
        for _ in range(20):
            before = flags.count
            while flags.count == before:
                pass
            steps += 1
        flags.stop()

    join = in_thread(work)
    assert CODE.function("count", gil=gil)(*flags.arguments) > 0
    join()
    assert steps == 20


@pytest.mark.parametrize("gil", GILS)
def test_two_endless_loops_at_once(gil: str) -> None:
    flags = [Flags(), Flags()]
    fibers = [Fiber(CODE["count"], each.arguments, gil=gil) for each in flags]
    joins = [in_thread(fiber.resume) for fiber in fibers]
    before = [0, 0]
    for _ in range(10):
        while any(each.count <= old for each, old in zip(flags, before, strict=True)):
            pass
        before = [each.count for each in flags]
    for fiber in fibers:
        fiber.interrupt()
    for join in joins:
        event = join()
        assert isinstance(event, Event)
        assert event.reason is StopReason.INTERRUPT
    for each, fiber in zip(flags, fibers, strict=True):
        each.stop()
        assert fiber.resume() is None


# ---- Python's signals; in processes of their own, whose main thread they reach ----

PREAMBLE = """
import faulthandler, os, signal, sys, threading, ctypes
from trapline import *
faulthandler.dump_traceback_later(50, exit=True)
CODE = CodeImage(assemble('''
    spin: inc qword ptr [rdi]
        cmp qword ptr [rdi + 8], 0
        je spin
        mov eax, 1
        ret
    trap: int3
        jmp trap
'''))
words = (ctypes.c_int64 * 2)()
address = ctypes.addressof(words)
def running(word=0):
    # Returns once native code has counted on after the call.
    before = words[word]
    while words[word] == before:
        pass
SEND = {
    "kill": lambda number: os.kill(os.getpid(), number),
    "raise": signal.raise_signal,
    "thread": lambda number: signal.pthread_kill(threading.main_thread().ident, number),
}
"""

WAYS = {
    "resume": "Fiber(CODE['spin'], (address,), gil=GIL).resume()",
    "iterate": "list(Fiber(CODE['spin'], (address,), gil=GIL))",
    "run": "Fiber(CODE['spin'], (address,), gil=GIL).run(lambda event: None)",
    "call": "CODE.function('spin', gil=GIL)(address)",
    "step": "[fiber.step() for fiber in [Fiber(CODE['spin'], (address,), gil=GIL)] for _ in iter(int, 1)]",
}


@pytest.mark.parametrize("gil", GILS)
@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c(way: str, gil: str, run_python: RunPython) -> None:
    """SIGINT ends an endless loop as KeyboardInterrupt, however it was started and sent; and again, and again."""
    run = run_python(
        f"""{PREAMBLE}
GIL = {gil!r}
caught = 0
for turn in range(30):
    send = list(SEND.values())[turn % 3]
    def interrupt():
        running()
        send(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        {WAYS[way]}
    except KeyboardInterrupt:
        caught += 1
    thread.join()
print(caught)
"""
    )
    assert (run.returncode, run.stdout) == (0, "30\n"), run


@pytest.mark.parametrize("gil", GILS)
def test_a_fiber_goes_on_after_ctrl_c(gil: str, run_python: RunPython) -> None:
    run = run_python(
        f"""{PREAMBLE}
fiber = Fiber(CODE["spin"], (address,), gil={gil!r})
for turn in range(20):
    thread = threading.Thread(target=lambda: (running(), os.kill(os.getpid(), signal.SIGINT)))
    try:
        thread.start()
        fiber.resume()
    except KeyboardInterrupt:
        assert fiber.state is FiberState.SUSPENDED
        assert fiber.last_event().reason is StopReason.INTERRUPT
    thread.join()
words[1] = 1
assert fiber.resume() is None and fiber.result == 1
print("done")
"""
    )
    assert (run.returncode, run.stdout) == (0, "done\n"), run


def test_handlers_that_return_let_the_loop_go_on(run_python: RunPython) -> None:
    """Thousands of timer signals in a loop that never ends: each Python handler runs, the last one stops the loop."""
    run = run_python(
        f"""{PREAMBLE}
ticks = 0
def on_alarm(number, frame):
    global ticks
    ticks += 1
    if ticks == 2000:
        words[1] = 1
signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
CODE["spin"](address)
signal.setitimer(signal.ITIMER_REAL, 0)
assert ticks >= 2000
print("done")
"""
    )
    assert (run.returncode, run.stdout) == (0, "done\n"), run


def test_no_signal_is_lost(run_python: RunPython) -> None:
    """Each signal is sent only when the handler of the one before has run: one lost signal would be the last."""
    run = run_python(
        f"""{PREAMBLE}
handled = threading.Semaphore(0)
def handler(number, frame):
    handled.release()
def send():
    running()
    for turn in range(5000):
        list(SEND.values())[turn % 3](signal.SIGUSR1)
        handled.acquire()
    words[1] = 1
signal.signal(signal.SIGUSR1, handler)
thread = threading.Thread(target=send)
thread.start()
CODE["spin"](address)
thread.join()
print("done")
"""
    )
    assert (run.returncode, run.stdout) == (0, "done\n"), run


def test_a_handler_that_installs_the_next(run_python: RunPython) -> None:
    """Handlers set while native code runs, by a handler of a signal that interrupted it, are obeyed too."""
    run = run_python(
        f"""{PREAMBLE}
handled = threading.Semaphore(0)
left = 1000
def handler(number, frame):
    global left
    left -= 1
    signal.signal(number, lambda *given: handler(*given))
    handled.release()
def send():
    running()
    while left:
        os.kill(os.getpid(), signal.SIGUSR1)
        handled.acquire()
    words[1] = 1
signal.signal(signal.SIGUSR1, handler)
thread = threading.Thread(target=send)
thread.start()
CODE["spin"](address)
thread.join()
print("done")
"""
    )
    assert (run.returncode, run.stdout) == (0, "done\n"), run


def test_a_signal_on_a_foreign_thread(run_python: RunPython) -> None:
    """A signal that the system gives to another thread reaches the loop of the main thread."""
    run = run_python(
        f"""{PREAMBLE}
handled = threading.Semaphore(0)
signal.signal(signal.SIGUSR1, lambda *given: handled.release())
def send():
    running()
    for turn in range(1000):
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        handled.acquire()
    words[1] = 1
thread = threading.Thread(target=send)
thread.start()
CODE["spin"](address)
thread.join()
print("done")
"""
    )
    assert (run.returncode, run.stdout) == (0, "done\n"), run


def test_signals_while_the_loop_is_on_another_thread(run_python: RunPython) -> None:
    """The main thread handles its signals although another one is in native code; Ctrl-C does not reach that one."""
    run = run_python(
        f"""{PREAMBLE}
fiber = Fiber(CODE["spin"], (address,))
thread = threading.Thread(target=fiber.resume)
thread.start()
caught = 0
for turn in range(20):
    try:
        running()
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass
    except KeyboardInterrupt:
        caught += 1
assert fiber.state is FiberState.RUNNING
words[1] = 1
thread.join()
assert fiber.result == 1
print(caught)
"""
    )
    assert (run.returncode, run.stdout) == (0, "20\n"), run


def test_an_exception_of_a_handler(run_python: RunPython) -> None:
    """Any exception of a Python signal handler comes out of the call, with its traceback; later calls work."""
    run = run_python(
        f"""{PREAMBLE}
class Stop(Exception): pass
def handler(number, frame):
    raise Stop(number)
signal.signal(signal.SIGTERM, handler)
for turn in range(20):
    thread = threading.Thread(target=lambda: (running(), os.kill(os.getpid(), signal.SIGTERM)))
    thread.start()
    try:
        CODE["spin"](address)
    except Stop as stop:
        assert stop.args == (signal.SIGTERM,)
    else:
        raise AssertionError
    thread.join()
words[1] = 1
assert CODE["spin"](address) == 1
print("done")
"""
    )
    assert (run.returncode, run.stdout) == (0, "done\n"), run


def test_signals_between_traps(run_python: RunPython) -> None:
    """Timer signals among traps that Python answers: every event is the trap, every handler runs."""
    run = run_python(
        f"""{PREAMBLE}
ticks = 0
def on_alarm(number, frame):
    global ticks
    ticks += 1
signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
for path in ("inject", "direct"):
    fiber = Fiber(CODE["trap"], (), path=path)
    start, traps = ticks, 0
    while ticks < start + 1000:
        event = fiber.resume()
        assert event.reason is StopReason.TRAP, event
        traps += 1
    assert traps
signal.setitimer(signal.ITIMER_REAL, 0)
print("done")
"""
    )
    assert (run.returncode, run.stdout) == (0, "done\n"), run


def test_asyncio_signal_handler(run_python: RunPython) -> None:
    """A loop of asyncio gets its signals although a coroutine sits in native code; the wakeup fd is written."""
    run = run_python(
        f"""{PREAMBLE}
import asyncio
async def main():
    loop = asyncio.get_running_loop()
    got = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, got.set)
    def send():
        running()
        os.kill(os.getpid(), signal.SIGUSR1)
        running()
        words[1] = 1
    for turn in range(10):
        words[1] = 0
        thread = threading.Thread(target=send)
        thread.start()
        assert CODE["spin"](address) == 1
        assert not got.is_set()
        await got.wait()
        got.clear()
        thread.join()
        words[1] = 0
        task = loop.run_in_executor(None, CODE["spin"], address)
        os.kill(os.getpid(), signal.SIGUSR1)
        await got.wait()
        got.clear()
        words[1] = 1
        assert await task == 1
asyncio.run(main())
print("done")
"""
    )
    assert (run.returncode, run.stdout) == (0, "done\n"), run


@pytest.mark.parametrize("gil", ["lazy", "release"])
def test_interrupt_of_code_that_lives_in_c_functions(gil: str, run_python) -> None:
    """The loop has three instructions of its own between calls that take a fifth of a millisecond each."""
    ending = run_python(
        f"""
        import ctypes, signal, threading
        from trapline import *

        nanosleep = ctypes.cast(ctypes.CDLL(None).nanosleep, ctypes.c_void_p).value
        text = '''
        start: push rbx
        nap: lea rdi, [rip + time]
            xor esi, esi
            movabs rax, NANOSLEEP
            call rax
            jmp nap
        .balign 8
        time: .quad 0, 200000
        '''
        code = CodeImage(assemble(text, symbols={{"NANOSLEEP": nanosleep}}))
        fiber = Fiber(code["start"], gil={gil!r})
        for _ in range(20):
            threading.Timer(0.02, fiber.interrupt).start()
            event = fiber.resume()
            assert event.reason is StopReason.INTERRUPT, event
            assert event.where.startswith("nap"), event

        def stop(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            fiber.resume()
        except KeyboardInterrupt:
            print("stopped", fiber.state.name)
        """
    )
    assert ending.returncode == 0, ending
    assert ending.stdout.strip() == "stopped SUSPENDED", ending
