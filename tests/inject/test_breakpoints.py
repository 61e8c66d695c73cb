"""Breakpoints in copies: requests, places, bytes, and many threads that hit them while they come and go."""

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from trapline import CHECK_ADDRESS, CodeError, CodeImage, Event, Fiber, FiberState, StopReason, Trap, TrapCode, assemble
from trapline.native import HOST

pytestmark = pytest.mark.skipif(HOST.name != "x86_64", reason="the functions here are x86-64 code")

LOOP = """
    start: xor eax, eax
    again: inc rax
        cmp rax, rdi
    branch: jb again
    end: ret
"""


@pytest.fixture
def image() -> CodeImage:
    return CodeImage(assemble(LOOP), name="loop")


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run_threads(*functions: Callable[[], object]) -> None:
    """Runs each in a thread of its own; raises the first exception of any."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_breakpoint(image: CodeImage) -> None:
    copy = image.copy()
    placed = copy.add_breakpoint("again")
    assert (placed.offset, placed.address) == (image.labels["again"], copy.address_of("again"))
    fiber = Fiber(copy["start"], (3,))
    for turn in range(3):
        event = fiber.resume()
        assert event is not None
        assert event.reason is StopReason.BREAKPOINT
        assert (event.trap, event.fault, event.address, event.access) == (None, None, None, None)
        assert event.pc == fiber.pc == placed.address
        assert event.registers.rax == turn
        assert event.code is copy
        assert event.where == "again"
        assert event.instruction is not None
        assert event.instruction.text == "inc rax"
        assert "breakpoint at again" in str(event)
    assert fiber.resume() is None
    assert fiber.result == 3
    assert Fiber(image["start"], (3,)).resume() is None


def test_requests_are_counted(image: CodeImage) -> None:
    copy = image.copy()
    first = copy.add_breakpoint("again")
    assert copy.add_breakpoint(first.offset) is first
    assert copy.add_breakpoint(first.address) is first
    assert first.requests == 3
    assert copy.breakpoints == (first,)
    for left in (2, 1):
        copy.remove_breakpoint("again")
        assert first.requests == left
        assert Fiber(copy["start"], (1,)).resume() is not None
    copy.remove_breakpoint("again")
    assert copy.breakpoints == ()
    assert Fiber(copy["start"], (1,)).resume() is None
    with pytest.raises(CodeError, match="found no breakpoint at again"):
        copy.remove_breakpoint("again")
    again = copy.add_breakpoint("again")
    assert again.requests == 1
    assert Fiber(copy["start"], (1,)).resume() is not None


def test_bytes(image: CodeImage) -> None:
    """Only the copy's byte changes, and comes back; other copies and the image keep theirs."""
    original = image.read(0, image.size_bytes)
    copy, other = image.copy(), image.copy()
    assert copy.private_pages == 0
    for label in ("start", "again", "end"):
        copy.add_breakpoint(label)
        assert copy.read(label, 1) == HOST.trap_code
    assert copy.private_pages == 1
    assert image.read(0, image.size_bytes) == other.read(0, image.size_bytes) == original
    assert other.private_pages == 0
    assert [found.code for found in copy.disassemble()] == [found.code for found in image.disassemble()]
    for label in ("again", "start", "end"):
        copy.remove_breakpoint(label)
    assert copy.read(0, copy.size_bytes) == original


def test_places_that_take_none(image: CodeImage) -> None:
    copy = image.copy()
    for place in (image.labels["again"] + 1, copy.address_of("branch") + 1):
        with pytest.raises(CodeError, match="no instruction begins at"):
            copy.add_breakpoint(place)
    for place in (image.size_bytes, -1, 1 << 40, image.base - 1 if image.base > copy.base else image.base):
        with pytest.raises(CodeError, match="outside code"):
            copy.add_breakpoint(place)
    with pytest.raises(CodeError, match="found no label 'nowhere'"):
        copy.add_breakpoint("nowhere")
    with pytest.raises(CodeError, match="outside code"):
        copy.remove_breakpoint(1 << 40)
    assert copy.breakpoints == ()
    assert not hasattr(image, "add_breakpoint")
    data = CodeImage(assemble("start: ret\ntable: .long 1, 2")).copy()
    with pytest.raises(CodeError, match="no instruction begins at table"):
        data.add_breakpoint("table")


def test_instructions_that_cannot_be_displaced() -> None:
    copy = CodeImage(assemble("start: call rsp\nret")).copy()
    with pytest.raises(CodeError, match=r"no breakpoint at start: .*call"):
        copy.add_breakpoint("start")
    assert copy.breakpoints == ()
    assert copy.read(0, 2) == bytes.fromhex("ffd4")


def test_no_slots_left(image: CodeImage) -> None:
    few = image.copy(breakpoints=1)
    slots = few._code.slots
    long = CodeImage(assemble("\n".join(["inc rax"] * (slots + 1) + ["ret"])))
    copy = long.copy(breakpoints=1)
    for index in range(slots):
        copy.add_breakpoint(3 * index)
    with pytest.raises(CodeError, match=f"found {slots} breakpoint slots in use"):
        copy.add_breakpoint(3 * slots)
    copy.remove_breakpoint(0)
    copy.add_breakpoint(0)
    assert len(copy.breakpoints) == slots


def test_in_appended_code(image: CodeImage) -> None:
    """Code appended after the copy was made is there, and takes breakpoints, on a shared page and on a private one."""
    copy = image.copy()
    copy.add_breakpoint("again")
    image.append(assemble("more: mov eax, 7\nlater: inc eax\nret"))
    image.append(assemble("\n".join(["far: nop", *["nop"] * 5000, "last: mov eax, 9", "ret"])))
    for label, result in (("later", 8), ("last", 9)):
        copy.add_breakpoint(label)
        fiber = Fiber(copy["more" if label == "later" else "far"], ())
        event = fiber.resume()
        assert event is not None
        assert (event.reason, event.where) == (StopReason.BREAKPOINT, label)
        assert fiber.resume() is None
        assert fiber.result == result
        assert Fiber(image[label], ()).resume() is None
    assert {found.offset for found in copy.breakpoints} == {image.labels[label] for label in ("again", "later", "last")}


def test_five_thousand() -> None:
    count = 5000
    image = CodeImage(assemble("\n".join(["start: xor eax, eax", *["inc rax"] * count, "ret"])))
    original = image.read(0, image.size_bytes)
    first = len(original) - 1 - 3 * count
    copy = image.copy()
    for index in range(count):
        copy.add_breakpoint(first + 3 * index)
    fiber = Fiber(copy["start"], ())
    for index, event in enumerate(fiber):
        assert (event.pc, event.registers.rax) == (copy.base + first + 3 * index, index)
    assert fiber.result == count
    for index in range(0, count, 2):
        copy.remove_breakpoint(first + 3 * index)
    fiber = Fiber(copy["start"], ())
    assert [event.registers.rax for event in fiber] == list(range(1, count, 2))
    assert len(copy.breakpoints) == count // 2
    for index in range(1, count, 2):
        copy.remove_breakpoint(first + 3 * index)
    assert copy.read(0, copy.size_bytes) == image.read(0, image.size_bytes) == original
    assert Fiber(copy["start"], ()).resume() is None


# ---- going on from one ----


def test_skip_and_jump_at_a_breakpoint(image: CodeImage) -> None:
    copy = image.copy()
    copy.add_breakpoint("again")
    fiber = Fiber(copy["start"], (2,))
    event = fiber.resume()
    assert event is not None
    event.registers.rax = 9
    assert fiber.skip() is None
    assert fiber.result == 9
    fiber = Fiber(copy["start"], (2,))
    fiber.resume()
    assert fiber.resume_at("end") is None
    assert fiber.result == 0


def test_removed_while_a_fiber_stands_on_it(image: CodeImage) -> None:
    copy = image.copy()
    for again in (False, True):
        copy.add_breakpoint("again")
        fiber = Fiber(copy["start"], (2,))
        assert fiber.resume() is not None
        copy.remove_breakpoint("again")
        if again:
            copy.add_breakpoint("again")
            event = fiber.resume()
            assert event is not None
            assert event.registers.rax == 1
            copy.remove_breakpoint("again")
        assert fiber.resume() is None
        assert fiber.result == 2


def test_added_where_a_fiber_stands(image: CodeImage) -> None:
    """A fiber that stopped there for another reason meets a breakpoint that is added there now."""
    copy = image.copy()
    fiber = Fiber(copy["start"], (2,))
    fiber.step()
    copy.add_breakpoint("again")
    hits = [event.registers.rax for event in fiber]
    assert hits == [0, 1]


def test_interrupt_on_a_breakpoint(image: CodeImage) -> None:
    """An interrupt before the resume stops at the same pc; the breakpoint is not reported a second time."""
    copy = image.copy()
    copy.add_breakpoint("again")
    for resume in (Fiber.resume, Fiber.step):
        fiber = Fiber(copy["start"], (3,))
        for turn in range(3):
            event = fiber.resume()
            assert event is not None
            assert (event.reason, event.registers.rax) == (StopReason.BREAKPOINT, turn)
            for _ in range(3):
                fiber.interrupt()
                event = resume(fiber)
                assert event is not None
                assert (event.reason, event.where) == (StopReason.INTERRUPT, "again")
        assert fiber.resume() is None
        assert fiber.result == 3


@pytest.mark.parametrize("source", ["start: loop start\nret", "start: dec rcx\njnz start\nret"], ids=["one", "two"])
@pytest.mark.parametrize("gil", ["lazy", "release"])
def test_no_hit_is_lost_to_an_interrupt(source: str, gil: str, many_switches: None) -> None:
    """Interrupts at any pc: each turn of the loop is reported once, no more and no less."""
    turns = 20_000
    copy = CodeImage(assemble(source)).copy()
    copy.add_breakpoint("start")
    fiber = Fiber(copy["start"], (), gil=gil)
    fiber.registers.rcx = turns
    over = threading.Event()
    interrupted = 0

    def interrupt() -> None:
        while not over.is_set() and fiber.state is not FiberState.FINISHED:
            try:
                fiber.interrupt()
            except Exception:
                assert fiber.state is FiberState.FINISHED

    def run() -> None:
        nonlocal interrupted
        expected = turns
        try:
            for event in fiber:
                if event.reason is StopReason.INTERRUPT:
                    interrupted += 1
                    continue
                assert event.reason is StopReason.BREAKPOINT
                assert event.registers.rcx == expected
                expected -= 1
            assert expected == 0
        finally:
            over.set()

    run_threads(interrupt, run)
    assert interrupted > 0


# ---- traps of the program's own ----


@pytest.mark.parametrize("path", ["inject", "direct"])
def test_over_an_int3_of_the_program(path: str) -> None:
    """The breakpoint is reported first, then the trap of the program under it."""
    copy = CodeImage(assemble("start: mov eax, 1\nown: int3\nnext: inc eax\nret")).copy()
    for label in ("own", "next"):
        copy.add_breakpoint(label)
    fiber = Fiber(copy["start"], (), path=path)
    seen = []
    for event in fiber:
        seen.append((event.reason.name, event.where))
        assert event.trap in (None, TrapCode.BREAKPOINT_INSTRUCTION)
    assert seen == [("BREAKPOINT", "own"), ("TRAP", "own"), ("BREAKPOINT", "next")]
    assert fiber.result == 2
    copy.remove_breakpoint("own")
    fiber = Fiber(copy["start"], (), path=path)
    seen = [(event.reason.name, event.where) for event in fiber]
    assert seen == [("TRAP", "own"), ("BREAKPOINT", "next")]
    assert copy.read("own", 1) == HOST.trap_code


@pytest.mark.parametrize("path", ["inject", "direct"])
@pytest.mark.parametrize("instruction", ["hlt", "ud2", "div ecx", "mov rax, qword ptr [rcx]", "call rcx", "jmp rcx"])
def test_a_fault_under_a_breakpoint(instruction: str, path: str) -> None:
    """A fault of the displaced instruction is reported as if it had run in place, and can be repeated."""
    copy = CodeImage(assemble(f"start: xor ecx, ecx\nplace: {instruction}\nnext: mov eax, 6\nret")).copy()
    copy.add_breakpoint("place")
    fiber = Fiber(copy["start"], (), path=path)
    event = fiber.resume()
    assert event is not None
    assert (event.reason, event.where) == (StopReason.BREAKPOINT, "place")
    sp = fiber.sp
    event = fiber.resume()
    assert event is not None
    assert event.reason is StopReason.TRAP
    if instruction in ("call rcx", "jmp rcx"):
        assert event.trap is TrapCode.INSTRUCTION_FETCH
        assert event.pc == 0
        assert fiber.sp == sp - 8 * (instruction == "call rcx")
        if instruction == "call rcx":
            assert fiber.read_memory(fiber.sp, 8) == copy.address_of("next").to_bytes(8, "little")
    else:
        assert event.where == "place"
        assert fiber.sp == sp
        event = fiber.resume()
        assert event is not None
        assert (event.reason, event.where) == (StopReason.BREAKPOINT, "place")
    fiber.registers.sp = sp
    assert fiber.resume_at("next") is None
    assert fiber.result == 6


def test_check_under_a_breakpoint() -> None:
    copy = CodeImage(
        assemble("start: push rax\nplace: call qword ptr [rip + check]\nnext: pop rax\nmov eax, 6\nret\n.balign 8\n"
                 "check: .quad CHECK", symbols={"CHECK": CHECK_ADDRESS})
    ).copy()  # fmt: skip
    for label in ("place", "next"):
        copy.add_breakpoint(label)
    fiber = Fiber(copy["start"], ())
    seen = [(event.reason.name, event.where) for event in fiber]
    assert seen == [("BREAKPOINT", "place"), ("CHECK", "next"), ("BREAKPOINT", "next")]
    assert fiber.result == 6


# ---- patches beside them ----


def test_patched_code(image: CodeImage) -> None:
    """A breakpoint on patched code runs what was patched in; a patch under a breakpoint is refused."""
    copy = image.copy()
    copy.patch("again", assemble("dec rdi").code)
    copy.patch("branch", assemble("nop\nnop").code)
    copy.add_breakpoint("again")
    fiber = Fiber(copy["start"], (3,))
    assert fiber.resume() is not None
    assert fiber.resume() is None
    assert fiber.result == 0
    for place in ("again", copy.address_of("again") + 1):
        with pytest.raises(CodeError, match="a breakpoint stands at again"):
            copy.patch(place, b"\x90")
    copy.remove_breakpoint("again")
    assert copy.read("again", 3) == assemble("dec rdi").code
    copy.patch("again", image.read("again", 3))
    copy.add_breakpoint("again")
    fiber = Fiber(copy["start"], (3,))
    assert fiber.resume() is not None
    assert fiber.resume() is None
    assert fiber.result == 1


# ---- many threads ----


@pytest.mark.parametrize("path", ["inject", "direct"])
def test_every_hit_of_four_threads_is_counted(path: str) -> None:
    """While some threads step over the breakpoint out of line, none of the others passes it unseen."""
    threads, turns = 4, 50_000
    copy = CodeImage(assemble(LOOP)).copy()
    copy.add_breakpoint("again")
    address = copy.address_of("again")
    counts = [0] * threads

    def run(number: int) -> None:
        gil = "release" if number % 2 else "lazy"

        def on_event(event: object) -> None:
            assert isinstance(event, Event)
            if event.kind != StopReason.BREAKPOINT or event.pc != address:
                raise AssertionError(f"stray event {event}")
            counts[number] += 1

        assert Fiber(copy["start"], (turns,), path=path, gil=gil).run(on_event) == turns

    run_threads(*(lambda number=number: run(number) for number in range(threads)))
    assert counts == [turns] * threads


def test_removed_while_threads_are_hitting_it(many_switches: None) -> None:
    """A breakpoint that comes and goes loses nothing of what the threads compute and leaves no stray trap."""
    turns, rounds = 20_000, 400
    image = CodeImage(assemble(LOOP))
    copy = image.copy()
    addresses = {copy.address_of(label) for label in ("again", "branch")}
    stop, hit = threading.Event(), threading.Event()
    hits = [0, 0, 0]
    calls = [0, 0, 0]

    def run(number: int) -> None:
        def on_event(event: object) -> None:
            assert isinstance(event, Event)
            if event.kind != StopReason.BREAKPOINT or event.pc not in addresses:
                raise AssertionError(f"stray event {event}")
            hits[number] += 1
            hit.set()

        path = "direct" if number == 1 else "inject"
        start = copy.function("start", path=path, gil="release", handler=on_event)
        while not stop.is_set():
            assert start(turns) == turns
            calls[number] += 1

    def toggle() -> None:
        try:
            for turn in range(rounds):
                copy.add_breakpoint("again")
                copy.add_breakpoint("branch")
                if turn == 0:
                    assert hit.wait(60)
                copy.remove_breakpoint("again")
                copy.remove_breakpoint("branch")
        finally:
            stop.set()

    run_threads(toggle, *(lambda number=number: run(number) for number in range(3)))
    assert sum(hits) > 0
    assert copy.breakpoints == ()
    assert copy.read(0, copy.size_bytes) == image.read(0, image.size_bytes)
    assert Fiber(copy["start"], (turns,)).resume() is None


def test_removed_while_fibers_that_unwind_hit_it(many_switches: None) -> None:
    """On path `unwind` a call either stops at a breakpoint or returns the right result."""
    rounds = 400
    copy = CodeImage(assemble(LOOP)).copy()
    stop, stopped = threading.Event(), threading.Event()
    ends = {"result": 0, "stopped": 0}

    def run() -> None:
        start = copy.function("start", path="unwind", gil="release")
        while not stop.is_set():
            trap = None
            try:
                assert start(2000) == 2000
            except Trap as error:
                trap = error
            ends["stopped" if trap else "result"] += 1
            if trap:
                assert (trap.code, trap.pc) == (None, copy.address_of("again"))
                stopped.set()

    def toggle() -> None:
        try:
            for turn in range(rounds):
                copy.add_breakpoint("again")
                if turn == 0:
                    assert stopped.wait(60)
                copy.remove_breakpoint("again")
        finally:
            stop.set()

    run_threads(toggle, run, run)
    assert ends["stopped"] > 0
    assert Fiber(copy["start"], (5,)).resume() is None
