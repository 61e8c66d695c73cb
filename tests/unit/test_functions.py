"""Functions and fibers used at the wrong moment, by handlers that misbehave, deep, re-entrant, in cycles, and often."""

from __future__ import annotations

import gc
import platform
import re
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import trapline
from tests.conftest import RunPython
from trapline import CodeImage, Fiber, FiberError, FiberState, StopReason, Trap, tuning

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the machine code here is x86-64")

TRAP = bytes.fromhex("ccb807000000c3")  # int3; mov eax, 7; ret
LOOP = bytes.fromhex("ebfe")


@pytest.fixture
def code() -> CodeImage:
    return CodeImage(TRAP, name="code")


def running() -> tuple[Fiber, threading.Thread]:
    """A fiber in an endless loop on another thread."""
    loop = CodeImage(LOOP, name="loop")
    fiber = Fiber(loop.base)
    thread = threading.Thread(target=fiber.resume)
    thread.start()
    while fiber.state is not FiberState.RUNNING:
        pass
    return fiber, thread


USES: dict[str, Callable[[Fiber], object]] = {
    "resume": lambda fiber: fiber.resume(),
    "resume_at": lambda fiber: fiber.resume_at(fiber.owner.base),
    "step": lambda fiber: fiber.step(),
    "skip": lambda fiber: fiber.skip(),
    "run": lambda fiber: fiber.run(lambda event: None),
    "unwind": lambda fiber: fiber.unwind(),
    "interrupt": lambda fiber: fiber.interrupt(),
    "result": lambda fiber: fiber.result,
    "pc": lambda fiber: fiber.pc,
    "set pc": lambda fiber: setattr(fiber, "pc", fiber.owner.base),
    "sp": lambda fiber: fiber.sp,
    "read": lambda fiber: fiber.registers.rax,
    "read part": lambda fiber: fiber.registers.xmm0,
    "write": lambda fiber: setattr(fiber.registers, "rax", 1),
    "write part": lambda fiber: setattr(fiber.registers, "xmm0", 1),
    "fault": lambda fiber: fiber.fault,
    "last_event": lambda fiber: fiber.last_event(),
}
# What a fiber may still be asked for in each state.
ALLOWED = {
    FiberState.FINISHED: {"result"},
    FiberState.UNWOUND: {"pc", "sp", "read", "read part", "fault", "last_event"},
    FiberState.RUNNING: {"interrupt"},
}


@pytest.mark.parametrize("state", ALLOWED, ids=lambda state: state.name)
@pytest.mark.parametrize("use", USES)
def test_states(code: CodeImage, state: FiberState, use: str) -> None:
    """Everything else is a FiberError with the fiber's name and its state in words."""
    thread = None
    if state is FiberState.RUNNING:
        fiber, thread = running()
    else:
        fiber = Fiber(code.base)
        fiber.resume()
        if state is FiberState.FINISHED:
            assert fiber.resume() is None
        else:
            fiber.unwind()
    assert fiber.state is state
    try:
        if use in ALLOWED[state]:
            USES[use](fiber)
        else:
            with pytest.raises(FiberError, match=rf"fiber {re.escape(fiber.name)}.*: it is {state.name.lower()}"):
                USES[use](fiber)
    finally:
        if thread:
            fiber.interrupt()
            thread.join()
    if state is FiberState.RUNNING:
        assert fiber.state is FiberState.SUSPENDED
    elif state is FiberState.FINISHED:
        assert fiber.result == 7
    assert list(fiber) == [] if state is not FiberState.RUNNING else True


def test_many_threads_resume_one_fiber() -> None:
    """One gets it at a time; the others get a FiberError, and none of the stops is lost or seen twice."""
    count = 400
    code = CodeImage(b"\xcc" * count + b"\xc3")
    fiber = Fiber(code.base)
    seen: list[int] = []
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        while fiber.state is not FiberState.FINISHED:
            try:
                event = fiber.resume()
            except FiberError:
                continue
            except BaseException as error:
                errors.append(error)
                return
            if event is not None:
                seen.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not errors
    assert len(seen) == count
    assert fiber.stops == count + 1


EVENT_USES = "fault trap pc address access registers code where instruction".split()


@pytest.mark.parametrize("after", ["resume", "unwind", "finish"])
def test_events_are_over(code: CodeImage, after: str) -> None:
    """An event after its stop: not valid, and every property and method says so; printing it still works."""
    two = CodeImage(b"\xcc\xcc\xc3")
    fiber = Fiber(two.base)
    event = fiber.resume()
    assert event is not None
    assert event.valid
    if after == "unwind":
        fiber.unwind()
    else:
        fiber.resume()
        if after == "finish":
            fiber.resume()
    assert not event.valid
    for name in EVENT_USES:
        with pytest.raises(FiberError, match=r"this event is over"):
            getattr(event, name)
    for use in (event.skip, event.unwind, event.stack, event.report, event.disassembly, lambda: event.jump(fiber.pc)):
        with pytest.raises(FiberError):
            use()
    assert event.fiber is fiber
    assert event.reason is StopReason.TRAP
    assert "gone on" in str(event)
    assert "gone on" in repr(event)


ARGUMENTS: list[dict[str, Any]] = [
    {"args": 5},
    {"args": None},
    {"args": ("x",)},
    {"args": (2**64,)},
    {"args": range(65)},
    {"args": (1, 2), "signature": "i64(i64)"},
    {"path": "x"},
    {"path": None},
    {"path": []},
    {"path": 0},
    {"gil": "x"},
    {"gil": ("lazy",)},
    {"stack_bytes": 0},
    {"stack_bytes": -1},
    {"stack_bytes": "x"},
    {"stack_bytes": 1e6},
    {"stack_bytes": None},
    {"stack_bytes": 1 << 30},
    {"max_stack_bytes": 1 << 64},
    {"max_stack_bytes": 4096},
    {"max_stack_bytes": 8e6},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=repr)
def test_arguments_of_fibers(code: CodeImage, arguments: dict[str, Any]) -> None:
    with pytest.raises(FiberError, match=r"found"):
        Fiber(code.base, **arguments)


@pytest.mark.parametrize("entry", [0, 1, -1, 2**63, 2**64, 2**200, True, 2**64 - 1])
def test_entries_outside_code(entry: int) -> None:
    with pytest.raises(trapline.CodeError, match=r"entry .* is outside code; expected an address"):
        Fiber(entry)


@pytest.mark.parametrize("entry", [None, 1.5, "a", b"a", [], len, CodeImage], ids=repr)
def test_entries_of_no_kind(entry: Any) -> None:
    with pytest.raises(FiberError, match=r"entry: found .*, expected a native function or the address of code"):
        Fiber(entry)


def test_large_reserve(code: CodeImage) -> None:
    """A reserve of 1 TiB costs address space only, guards its whole length, and grows."""
    overflow = CodeImage(bytes.fromhex("50ebfd"))  # push rax; jmp back to it
    fiber = Fiber(overflow.base, max_stack_bytes=1 << 40)
    for _ in range(3):
        event = fiber.resume()
        assert event is not None
        assert event.trap is trapline.TrapCode.STACK_OVERFLOW
        fiber.grow_stack(1 << 20)
    _, _, low, high = fiber.stack_bounds
    assert high - low == tuning.STACK_BYTES + (3 << 20)
    with pytest.raises(FiberError, match=r"no more room"):
        fiber.grow_stack(1 << 40)
    with pytest.raises(FiberError, match=r"expected 0 or more"):
        fiber.grow_stack(-1)


def test_smallest_stack(code: CodeImage) -> None:
    """One page takes 64 arguments and a trap."""
    fiber = Fiber(code.base, range(64), stack_bytes=4096, max_stack_bytes=4096)
    assert fiber.resume() is not None
    assert fiber.resume() is None


WRITES: list[tuple[str, Any]] = [
    ("rax", 2**64),
    ("rax", -(2**63) - 1),
    ("rax", 1.5),
    ("rax", None),
    ("rax", "1"),
    ("rip", 2**64),
    ("eax", 2**32),
    ("al", 256),
    ("zf", 2),
    ("xmm0", 2**128),
    ("mxcsr", 2**32),
    ("rbx2", 1),
    ("", 1),
    ("_x", 1),
    ("__len__", 1),
]


@pytest.mark.parametrize(("name", "value"), WRITES, ids=repr)
def test_writes_that_do_not_fit(code: CodeImage, name: str, value: Any) -> None:
    """They name the register and change nothing."""
    fiber = Fiber(code.base)
    fiber.resume()
    before = {register: fiber.registers[register] for register in fiber.registers}
    with pytest.raises(FiberError, match=r"found"):
        fiber.registers[name] = value
    with pytest.raises(FiberError, match=r"found"):
        setattr(fiber.registers, name, value)
    assert {register: fiber.registers[register] for register in fiber.registers} == before
    assert fiber.resume() is None
    assert fiber.result == 7


@pytest.mark.parametrize("place", [0, -1, 2**64, 2**200, None, 1.5, b"a"], ids=repr)
def test_targets(code: CodeImage, place: Any) -> None:
    fiber = Fiber(code.base)
    event = fiber.resume()
    assert event is not None
    for use in (fiber.resume_at, event.jump):
        with pytest.raises(FiberError, match=r"outside code|expected a label or an address"):
            use(place)
    with pytest.raises(trapline.CodeError, match=r"no label 'nowhere'"):
        fiber.resume_at("nowhere")
    assert event.valid
    assert fiber.resume() is None


def test_saved_state_by_offset(code: CodeImage) -> None:
    """The words below the registers' names: ranges outside are refused, what no code changes stays."""
    fiber = Fiber(code.base)
    fiber.resume()
    for offset in (-1, -8, 161, 168, 504, 1 << 20, 1 << 62):
        with pytest.raises(FiberError, match=r"expected a range of the saved state"):
            fiber.read_word(offset)
        with pytest.raises(FiberError, match=r"expected a range of the saved state"):
            fiber.write_word(offset, 0)
    for offset, size in ((0, -1), (-1, 2), (0, 169), (160, 512), (512, 1 << 40), (1 << 62, 1 << 62)):
        with pytest.raises(FiberError, match=r"expected a range of the saved state"):
            fiber.read_state(offset, size)
    segments = fiber.read_word(8), fiber.read_word(32)
    for offset in (8, 32):
        fiber.write_word(offset, 0x23)
        fiber.write_state(offset, bytes(8))
    assert (fiber.read_word(8), fiber.read_word(32)) == segments
    assert fiber.resume() is None
    assert fiber.result == 7


@pytest.mark.parametrize("answer", [0, False, "", 7, [], StopReason.TRAP], ids=repr)
def test_handler_answers(code: CodeImage, answer: Any) -> None:
    """Only None resumes: anything else is named, and the call is over."""
    fibers: list[Fiber] = []

    def handler(event: trapline.Event) -> Any:
        fibers.append(event.fiber)
        return answer

    with pytest.raises(FiberError, match=r"code\+0x0: the handler returned .*expected None, which resumes"):
        code.function(0, handler=handler)()
    assert fibers[0].state is FiberState.UNWOUND
    fiber = Fiber(code.base)
    with pytest.raises(FiberError, match=r"the handler returned"):
        fiber.run(handler)
    assert fiber.state is FiberState.SUSPENDED
    assert fiber.resume() is None


def test_handlers_that_are_none(code: CodeImage) -> None:
    for handler in (5, "x", object(), lambda: None, lambda event, more: None):
        with pytest.raises(TypeError):
            code.function(0, handler=handler)()  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Fiber(code.base).run(handler)  # type: ignore[arg-type]


def test_handler_raises(code: CodeImage) -> None:
    """The exception comes out as it is, with its traceback; the call is unwound, a fiber can go on."""
    events: list[trapline.Event] = []

    def handler(event: trapline.Event) -> None:
        events.append(event)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match=r"mine"):
        code.function(0, handler=handler)()
    assert not events[0].valid
    fiber = Fiber(code.base)
    with pytest.raises(ZeroDivisionError, match=r"mine"):
        fiber.run(handler)
    assert events[1].valid
    assert fiber.resume() is None
    assert fiber.result == 7


def test_handler_runs_the_fiber_itself(code: CodeImage) -> None:
    """A handler that resumes to the end, unwinds, steps or jumps: the call takes it from there."""
    two = CodeImage(b"\xcc" + TRAP)

    def call(handler: Callable[[trapline.Event], object]) -> object:
        return two.function(0, handler=lambda event: handler(event) and None)()

    assert call(lambda event: event.fiber.resume()) == 7
    assert call(lambda event: list(event.fiber)) == 7
    assert call(lambda event: event.unwind()) is None
    assert call(lambda event: event.fiber.step()) == 7
    assert call(lambda event: event.jump(two.base + 2)) == 7
    assert call(lambda event: event.fiber.run(lambda inner: None)) == 7
    assert call(lambda event: event.skip()) == 7


def test_handler_gives_the_fiber_to_another_thread() -> None:
    """The call fails, and the other thread's run is not touched."""
    code = CodeImage(b"\xcc" + LOOP, name="shared")
    kept: list[tuple[Fiber, threading.Thread]] = []

    def handler(event: trapline.Event) -> None:
        fiber = event.fiber
        thread = threading.Thread(target=fiber.resume)
        thread.start()
        while fiber.state is not FiberState.RUNNING:
            pass
        kept.append((fiber, thread))

    with pytest.raises(FiberError, match=r"it is running"):
        code.function(0, handler=handler)()
    ((fiber, thread),) = kept
    assert fiber.state is FiberState.RUNNING
    fiber.interrupt()
    thread.join()
    assert fiber.state is FiberState.SUSPENDED


def test_functions_are_reentrant(code: CodeImage) -> None:
    """One function calls itself from its handler, 150 deep, each call on a stack of its own."""
    stacks: set[int] = set()
    depth = 0

    def handler(event: trapline.Event) -> None:
        nonlocal depth
        stacks.add(event.registers.rsp)
        depth += 1
        if depth < 150:
            assert function() == 7
        event.registers.rdi = depth

    function = code.function(0, handler=handler)
    assert function() == 7
    assert len(stacks) == 150


def test_recursion_without_end(code: CodeImage) -> None:
    """RecursionError, as for Python functions, and everything works afterwards."""

    def handler(event: trapline.Event) -> None:
        function()

    function = code.function(0, handler=handler)
    for _ in range(3):
        with pytest.raises(RecursionError):
            function()
    assert code.function(0, handler=lambda event: None)() == 7


def test_cycles_are_collected(code: CodeImage) -> None:
    """event <-> fiber <-> function <-> handler <-> image, in every way they can hold each other."""

    class Marked(Fiber):
        pass

    def make() -> list[weakref.ref[Any]]:
        image = CodeImage(TRAP)
        copy = image.copy(breakpoints=4)
        held: dict[str, Any] = {"image": image, "copy": copy}
        function = image.function(0, handler=lambda event: held.update(event=event))
        held["function"] = function
        function()
        fiber = Marked(copy.base)
        fiber.held = held  # type: ignore[attr-defined]
        held["fiber"], held["stopped"] = fiber, fiber.resume()
        image.held = held  # type: ignore[attr-defined]
        return [weakref.ref(image), weakref.ref(copy), weakref.ref(fiber)]

    gc.collect()
    references = [reference for _ in range(20) for reference in make()]
    gc.collect()
    gc.collect()
    assert [reference() for reference in references] == [None] * 60
    assert not gc.garbage


def test_made_without_init() -> None:
    """Objects that skipped __init__ raise; they do not crash."""
    for kind in (trapline.Fiber, trapline.Function, trapline.Registers):
        made: Any = kind.__new__(kind)
        for name in dir(kind):
            if name.startswith("__") and name not in ("__iter__", "__next__", "__call__", "__len__"):
                continue
            try:
                value = getattr(made, name)
                if callable(value):
                    value()
            except (trapline.TraplineError, AttributeError, TypeError, StopIteration):
                continue
    with pytest.raises(TypeError):
        trapline.Event()


def test_initialised_once(code: CodeImage) -> None:
    """A second __init__ would take the code away under a running call."""
    fiber, function = Fiber(code.base), code[1]
    with pytest.raises(FiberError, match=r"initialised once"):
        fiber.__init__(code.base)  # type: ignore[misc]
    with pytest.raises(FiberError, match=r"initialised once"):
        function.__init__(code.base, None, "l", "x", code, 0, 0, None)  # type: ignore[misc]
    assert function() == 7


def rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def test_no_growth(code: CodeImage) -> None:
    """200,000 fibers, each trapping and dropped, and calls that raise: neither Python's memory nor ours grows."""
    counted = code.function(0, handler=lambda event: None)
    bad = code.function(1, "i64(i64)")

    def work(count: int) -> None:
        for _ in range(count):
            fiber = Fiber(code.base)
            fiber.resume()
        for _ in range(count // 10):
            counted()
            fiber = Fiber(code.base)
            fiber.resume()
            fiber.resume()
            try:
                bad("x")
            except FiberError:
                pass
        for _ in range(count // 100):
            try:
                code[0]()
            except Trap:
                pass

    work(2_000)
    gc.collect()
    tracemalloc.start()
    try:
        work(1_000)
        gc.collect()
        python_before = tracemalloc.get_traced_memory()[0]
        work(2_000)
        gc.collect()
        python_after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    before = rss_bytes()
    work(200_000)
    gc.collect()
    assert rss_bytes() - before < 4 << 20
    assert python_after - python_before < 20_000


def test_exceptions_in_threads_keep_the_pool_whole(run_python: RunPython) -> None:
    """Traps, errors and endings of threads in every order: stacks are neither lost nor shared."""
    script = """
        import threading, trapline
        code = trapline.CodeImage(bytes.fromhex("cc b807000000 c3 57 cc 58 c3".replace(" ", "")))
        failed = []
        def work(seed):
            try:
                for number in range(300):
                    fibers = [trapline.Fiber(code.base + 7, (seed * 1000 + number + index,)) for index in range(5)]
                    for fiber in fibers: fiber.resume()
                    if number % 3 == 0: code.function(0, handler=lambda event: None)()
                    if number % 5 == 0:
                        try: code[0]()
                        except trapline.Trap: pass
                    if number % 7 == 0: trapline.trim_pool()
                    if number % 2: fibers[0].unwind()
                    for index, fiber in enumerate(fibers):
                        if fiber.state is trapline.FiberState.SUSPENDED:
                            assert fiber.resume() is None
                            assert fiber.result == seed * 1000 + number + index
            except BaseException as error:
                failed.append(error)
        for _ in range(3):
            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
        assert not failed, failed
        print("fine")
    """
    run = run_python(script)
    assert (run.returncode, run.stdout) == (0, "fine\n"), run
