"""Many of everything at once: traps on four threads, deep nesting, fibers that wander, code patched while it runs.

TRAPLINE_STRESS_TRAPS is how many traps the first test makes in all (1,000,000), TRAPLINE_SEED its seed; every script
prints the seed it ran with.
"""

import os
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from trapline import CodeImage, Event, Fiber, StopReason, TrapCode, assemble
from trapline.native import HOST

pytestmark = pytest.mark.skipif(HOST.name != "x86_64", reason="the functions here are x86-64 code")

TRAPS = int(os.environ.get("TRAPLINE_STRESS_TRAPS", "1000000"))
SEED = int(os.environ.get("TRAPLINE_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
PARTS = 2
RunPython = Callable[..., Any]

MIXED = r"""
import ctypes, faulthandler, random, signal, sys, threading
from trapline import *

faulthandler.dump_traceback_later(110, exit=True)
seed, total = int(sys.argv[1]), int(sys.argv[2])
CODE = CodeImage(assemble('''
    int3:  int3
        ret
    hlt:  hlt
        ret
    ud2: ud2
        ret
    div: mov eax, edi
        cdq
        idiv esi
        ret
    load: mov rax, qword ptr [rdi]
        ret
    store: mov qword ptr [rdi], rsi
        mov rax, rsi
        ret
    ask: mov r11, CHECK
        push rdi
        call r11
        pop rdi
        mov rax, rdi
        ret
    bad: jmp rdi
    done: ret
    many: int3
        hlt
        mov rcx, qword ptr [rdi]
        inc rax
        cmp rax, rsi
        jb many
        ret
    count: inc rax
        cmp rax, rdi
        jb count
        ret
''', symbols={"CHECK": CHECK_ADDRESS}))
COPY = CODE.copy()
COPY.add_breakpoint("count")
words = (ctypes.c_uint64 * 8)()
base = ctypes.addressof(words)
made = [0] * 4

def one(me, rng, kind, options):
    a = rng.getrandbits(31)
    run = lambda name, *args: Fiber(CODE[name], args, **options)
    if kind == "int3":
        fiber = run("int3", a); event = fiber.resume()
        assert event.trap is TrapCode.BREAKPOINT_INSTRUCTION and event.registers.rdi == a, event
        event.registers.rax = a
        assert fiber.resume() is None and fiber.result == a
    elif kind in ("hlt", "ud2"):
        fiber = run(kind, a); event = fiber.resume()
        wanted = TrapCode.TRAP_INSTRUCTION if kind == "hlt" else TrapCode.ILLEGAL_INSTRUCTION
        assert event.trap is wanted and event.registers.rdi == a, event
        event.registers.rax = a
        assert fiber.skip() is None and fiber.result == a
    elif kind == "div":
        fiber = run("div", a, 0); event = fiber.resume()
        assert event.trap is TrapCode.DIVISION, event
        event.registers.esi = 3
        assert fiber.resume() is None and fiber.result == a // 3
    elif kind in ("load", "store"):
        address = a * 8 & 0xffff
        fiber = run(kind, address, a); event = fiber.resume()
        assert event.address == address, event
        assert event.access == ("read" if kind == "load" else "write"), event
        words[me + 4 * (kind == "load")] = a * (kind == "load")
        event.registers.rdi = base + 8 * (me + 4 * (kind == "load"))
        assert fiber.resume() is None and fiber.result == a
        assert words[me + 4 * (kind == "load")] == a
    elif kind == "ask":
        fiber = run("ask", a); event = fiber.resume()
        assert event.reason is StopReason.CHECK and event.registers.rdi == a, event
        assert fiber.resume() is None and fiber.result == a
    elif kind == "bad":
        address = (a & 0xfff0) + 1
        fiber = run("bad", address); event = fiber.resume()
        assert event.trap is TrapCode.INSTRUCTION_FETCH and event.pc == address, event
        event.registers.rax = 5
        assert fiber.resume_at(CODE.address_of("done")) is None and fiber.result == 5
    elif kind == "many":
        turns, seen = rng.randrange(1, 40), [0, 0, 0]
        fiber = run("many", 0x40, turns)
        while (event := fiber.resume()) is not None:
            assert event.kind == StopReason.TRAP and event.registers.rax == seen[2], event
            place = event.registers.rip - CODE.base - CODE.labels["many"]
            assert event.fiber.fault[0] == (signal.SIGTRAP if seen[0] == seen[2] else signal.SIGSEGV), event
            if seen[0] == seen[2]:
                seen[0] += 1
                assert place == 1, event
            elif seen[1] == seen[2]:
                seen[1] += 1
                assert place == 1 and event.trap is TrapCode.TRAP_INSTRUCTION, event
                event.skip()
            else:
                seen[2] += 1
                assert place == 2 and event.address == 0x40, event
                event.skip()
        assert fiber.result == turns and seen == [turns] * 3, (seen, turns)
        return 3 * turns
    else:
        turns, hits = rng.randrange(1, 40), 0
        for event in Fiber(COPY["count"], (turns,), **options):
            assert event.kind == StopReason.BREAKPOINT and event.registers.rax == hits, event
            hits += 1
        assert hits == turns
        return turns
    return 1

KINDS = ["int3", "hlt", "div", "load", "store", "ask", "bad", *["many", "count"] * 4]

def worker(me):
    rng = random.Random(seed * 4 + me)
    while made[me] < total // 4:
        kind = "ud2" if rng.random() < 0.01 else rng.choice(KINDS)
        options = {"path": rng.choice(["inject", "direct"]), "gil": rng.choice(["lazy", "lazy", "lazy", "release"])}
        made[me] += one(me, rng, kind, options)

ticks = 0
def on_alarm(number, frame):
    global ticks
    ticks += 1

errors = []
def on_error(given):
    errors.append(given)
    sys.__excepthook__(given.exc_type, given.exc_value, given.exc_traceback)

threading.excepthook = on_error
signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
threads = [threading.Thread(target=worker, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
flips = 0
for thread in threads:
    while thread.is_alive():
        thread.join(0.02)
        (faulthandler.disable if flips % 2 else faulthandler.enable)()
        flips += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(f"seed {seed}: {sum(made)} traps, {ticks} signals, {flips} flips, {len(errors)} errors")
sys.exit(bool(errors) or sum(made) < total // 4 * 4 or not ticks)
"""


@pytest.mark.parametrize("part", range(PARTS))
def test_mixed_traps_on_four_threads(part: int, run_python: RunPython) -> None:
    """None lost, none mixed up, while faulthandler comes and goes and timer signals arrive."""
    run = run_python(MIXED, str(SEED + part), str(TRAPS // PARTS), timeout=max(120, TRAPS // 4000))
    assert run.returncode == 0, run
    print(run.stdout)


# ---- nesting ----


@pytest.mark.parametrize("path", ["inject", "direct"])
@pytest.mark.parametrize("depth", [200])
def test_nested_activations(path: str, depth: int) -> None:
    """Python in native code in Python, 200 deep: each level has its own registers, stack and trap."""
    lines = "start: mov rbx, rdi", "push rdi", "int3", "pop rcx", "xor rcx, rbx", "add rax, rbx", "add rax, rcx", "ret"
    code = CodeImage(assemble("\n".join(lines)))
    stacks = set()

    def handler(event: object) -> None:
        assert isinstance(event, Event)
        assert event.trap is TrapCode.BREAKPOINT_INSTRUCTION
        level = event.registers.rbx
        stacks.add(event.fiber.stack_bounds)
        before = bytes(event.fiber.read_state(0, 160))
        below = call(level - 1) if level else 0
        assert event.valid
        assert bytes(event.fiber.read_state(0, 160)) == before
        event.registers.rax = below

    call = code.function("start", path=path, handler=handler)
    for _ in range(3):
        stacks.clear()
        assert call(depth) == depth * (depth + 1) // 2
        assert len(stacks) == depth + 1


def test_an_exception_through_nested_activations() -> None:
    """An exception in the innermost handler unwinds every level; nothing of them is left running."""
    code = CodeImage(assemble("start: mov rbx, rdi\nint3\nret"))
    fibers: list[Fiber] = []

    class Bottom(Exception):
        pass

    def handler(event: object) -> None:
        assert isinstance(event, Event)
        fibers.append(event.fiber)
        if event.registers.rbx == 0:
            raise Bottom
        call(event.registers.rbx - 1)

    call = code.function("start", handler=handler)
    with pytest.raises(Bottom):
        call(100)
    assert len(fibers) == 101
    assert {fiber.state.name for fiber in fibers} == {"UNWOUND"}


# ---- fibers that wander ----


@pytest.mark.parametrize("gil", ["lazy", "release"])
def test_fibers_wander_between_threads(gil: str) -> None:
    """64 suspended fibers, resumed in random order by four threads: each finds its registers and stack again."""
    threads, rounds, count = 4, 60, 64
    code = CodeImage(
        assemble(
            """
            start: mov rbx, rdi
                cvtsi2sd xmm9, rdi
                fld1
                xor r12d, r12d
            again: push rbx
                int3
                pop rcx
                cmp rcx, rbx
                jne wrong
                add r12, rbx
                dec rsi
                jnz again
                cvttsd2si rax, xmm9
                fistp qword ptr [rsp - 16]
                imul rax, r12
                imul rax, qword ptr [rsp - 16]
                ret
            wrong: hlt
            """
        )
    )
    pool = [
        Fiber(code["start"], (number + 1, rounds), path=("inject", "direct")[number % 2], gil=gil)
        for number in range(count)
    ]
    waiting = [(fiber, -1) for fiber in pool]
    """Fibers that nobody runs, each with the number of the thread that ran it last."""
    changed = threading.Condition()
    live = count
    stops = 0
    errors: list[BaseException] = []

    def take(number: int, rng: random.Random) -> Fiber | None:
        """A fiber that another thread ran last, when there is one; None when all have returned."""
        with changed:
            while True:
                others = [place for place, (_, last) in enumerate(waiting) if last != number]
                if others:
                    return waiting.pop(rng.choice(others))[0]
                if not live or errors:
                    return None
                changed.wait()

    def run(number: int) -> None:
        nonlocal stops, live
        rng = random.Random(f"{SEED} {number}")
        try:
            while (fiber := take(number, rng)) is not None:
                event = fiber.resume()
                with changed:
                    if event is None:
                        live -= 1
                    else:
                        assert event.trap is TrapCode.BREAKPOINT_INSTRUCTION, event
                        stops += 1
                        waiting.append((fiber, number))
                    changed.notify_all()
        except BaseException as error:
            errors.append(error)
            with changed:
                changed.notify_all()

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors, f"seed {SEED}: {errors}"
    assert stops == rounds * count
    assert [fiber.result for fiber in pool] == [(number + 1) ** 2 * rounds for number in range(count)]


# ---- code that is patched while it runs ----


def test_patches_beside_a_running_thread() -> None:
    """100,000 patches of a copy that another thread executes: it sees one byte or the other, and never a fault."""
    patches = 100_000
    pages = 4
    functions = "\n".join(f"part{page}: mov al, 1\nadd rbx, rax\nret\n.zero 4090" for page in range(pages))
    calls = "\n".join(f"call part{page}" for page in range(pages))
    start = "start: push rbx\nxor ebx, ebx\nxor eax, eax"
    image = CodeImage(assemble(f"{start}\nagain: {calls}\ndec rdi\njnz again\nmov rax, rbx\npop rbx\nret\n{functions}"))
    original = image.read(0, image.size_bytes)
    copy = image.copy()
    places = [image.labels[f"part{page}"] + 1 for page in range(pages)]
    stop, begun = threading.Event(), threading.Event()
    results: list[int] = []
    errors: list[BaseException] = []

    def run() -> None:
        start = copy.function("start", gil="release")
        try:
            while not stop.is_set():
                results.append(start(1000))
                begun.set()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert begun.wait(60)
        for turn in range(patches):
            copy.patch(places[turn % pages], b"\x02" if turn // pages % 2 == 0 else b"\x01")
            if turn % 10_000 == 0:
                assert image.read(0, image.size_bytes) == original
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert results
    assert all(1000 * pages <= result <= 2000 * pages for result in results)
    assert image.read(0, image.size_bytes) == original
    assert copy.function("start")(1) == sum(copy.read(place, 1)[0] for place in places)


def test_breakpoints_toggled_beside_running_threads() -> None:
    """100,000 breakpoints set and taken away again over pages that a thread runs through; it computes the same."""
    toggles, length = 100_000, 4000
    image = CodeImage(assemble("\n".join(["start: xor eax, eax", *["inc rax"] * length, "ret"])))
    first = image.size_bytes - 1 - 3 * length
    copy = image.copy()
    stop, hit = threading.Event(), threading.Event()
    hits = 0
    errors: list[BaseException] = []
    rng = random.Random(SEED)

    def on_event(event: object) -> None:
        nonlocal hits
        assert isinstance(event, Event)
        assert event.reason is StopReason.BREAKPOINT, event
        hits += 1
        hit.set()

    def run() -> None:
        start = copy.function("start", gil="release", handler=on_event)
        try:
            while not stop.is_set():
                assert start() == length
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(toggles // 2):
            place = first + 3 * rng.randrange(length)
            copy.add_breakpoint(place)
            if not hits:
                assert hit.wait(60)
            copy.remove_breakpoint(place)
    finally:
        stop.set()
        thread.join()
    assert not errors, f"seed {SEED}: {errors}"
    assert hits > 0
    assert copy.breakpoints == ()
    assert copy.read(0, copy.size_bytes) == image.read(0, image.size_bytes)
