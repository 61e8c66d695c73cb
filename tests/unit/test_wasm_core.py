"""The native side of WebAssembly calls: values, stops, exceptions, requests of code, frames, lifetimes.

The code is written by hand (wasm_code.py), so nothing here depends on the compiler.
"""

from __future__ import annotations

import functools
import gc
import math
import struct
import sys
import weakref
from typing import Any

import pytest

from trapline import Event, FiberError, FiberState, StopReason, Trap, native, tuning
from trapline.errors import CallError
from trapline.native import HOST

if HOST.name != "x86_64":
    pytest.skip("the functions here are x86-64 code", allow_module_level=True)

from tests.unit.wasm_code import CODE, Convert, Instance, host_function, wasm_function


@pytest.fixture
def instance() -> Instance:
    return Instance()


def echo(codes: bytes, **options: Any) -> native.WasmFunction:
    """A function that returns its arguments."""
    return wasm_function(None, 0, thunk="echo", params=codes, results=codes, convert=Convert(), name="echo", **options)


def double(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


# ---- values ----


@pytest.mark.parametrize(
    ("code", "value", "result"),
    [
        (b"i", 0, 0),
        (b"i", -(2**31), -(2**31)),
        (b"i", 2**31, -(2**31)),
        (b"i", 2**32 - 1, -1),
        (b"i", True, 1),
        (b"l", -(2**63), -(2**63)),
        (b"l", 2**64 - 1, -1),
        (b"l", 2**63, -(2**63)),
        (b"f", 1.5, 1.5),
        (b"f", 0.1, struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        (b"f", 3, 3.0),
        (b"f", 1e300, math.inf),
        (b"f", -math.inf, -math.inf),
        (b"d", 0.1, 0.1),
        (b"d", 2**53 + 1, float(2**53)),
        (b"d", True, 1.0),
        (b"r", None, None),
        (b"r", "object", "object"),
        (b"R", None, None),
    ],
)
def test_values(code: bytes, value: object, result: object) -> None:
    found = echo(code)(value)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("code", [b"f", b"d"])
def test_zeros_keep_their_sign(code: bytes, zero: float) -> None:
    assert math.copysign(1, echo(code)(zero)) == math.copysign(1, zero)


@pytest.mark.parametrize("nan", [0x7FF8 << 48, 0xFFF8 << 48, 0x7FF0_0000_2000_0000, 0xFFF7_FFFF_E000_0000])
def test_nans_keep_their_payload(nan: int) -> None:
    """Signalling ones too; a payload that an f32 has no room for keeps its upper bits."""
    assert bits(echo(b"d")(double(nan))) == nan
    assert bits(echo(b"f")(double(nan))) == nan
    assert math.isnan(echo(b"f")(double(0x7FF0_0000_0000_0001)))


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        (b"i", 2**32, "an integer of -2**31 .. 2**32-1 (i32)"),
        (b"i", -(2**31) - 1, "(i32)"),
        pytest.param(b"i", 10**5000, "(i32)", id="huge-i32"),
        (b"i", 1.0, "(i32)"),
        (b"i", "1", "(i32)"),
        (b"i", None, "(i32)"),
        (b"l", 2**64, "an integer of -2**63 .. 2**64-1 (i64)"),
        (b"l", -(2**63) - 1, "(i64)"),
        (b"l", 0.5, "(i64)"),
        (b"f", "x", "a number (f32)"),
        pytest.param(b"f", 10**400, "a number (f32)", id="huge-f32"),
        (b"d", None, "a number (f64)"),
        (b"d", 1j, "a number (f64)"),
    ],
)
def test_bad_values(code: bytes, value: object, expected: str) -> None:
    with pytest.raises(CallError, match=r"echo: argument 1: found .*, expected ") as caught:
        echo(b"i" + code)(1, value)
    assert expected in str(caught.value)


def test_a_repr_that_fails() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(CallError, match="found an object of type Bad, expected"):
        echo(b"i")(Bad())


def test_counts_and_keywords() -> None:
    with pytest.raises(CallError, match="echo: found 1 arguments, expected 2"):
        echo(b"ii")(1)
    with pytest.raises(CallError, match="found 3 arguments"):
        echo(b"ii")(1, 2, 3)
    with pytest.raises(CallError, match="keyword"):
        echo(b"i")(a=1)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 1000])
def test_many_values(count: int) -> None:
    found = echo(b"l" * count)(*range(count))
    assert found == (None if count == 0 else 0 if count == 1 else tuple(range(count)))


def test_bad_signatures() -> None:
    with pytest.raises(ValueError, match="expected at most 1000"):
        echo(b"i" * 1001)
    with pytest.raises(ValueError, match="unknown type code"):
        echo(b"q")
    with pytest.raises(ValueError, match="stack sizes"):
        echo(b"i" * 1000, stack_bytes=8192)
    with pytest.raises(ValueError, match="type code"):
        host_function(print, params=b"v")
    with pytest.raises(TypeError, match="callable"):
        host_function(3)


def test_references_that_convert_refuses() -> None:
    class Refuse(Convert):
        def to_word(self, value: object, code: str) -> int:
            raise CallError(f"no {code}")

    with pytest.raises(CallError, match="no R"):
        wasm_function(None, 0, thunk="echo", params=b"R", results=b"", convert=Refuse())(1)


# ---- calls ----


def test_call(instance: Instance) -> None:
    add = instance.function("add", name="add")
    assert add(2, 3) == 5
    assert add(2**31 - 1, 1) == -(2**31)
    assert (add.name, add.owner, add.params, add.results) == ("add", instance, b"ii", b"i")
    assert add.record == instance.records.address


def test_subclass_in_python(instance: Instance) -> None:
    class Func(native.WasmFunction):
        def twice(self) -> int:
            return int(self(1, 1)) * 2

    func = instance.function("add", kind=Func)
    assert isinstance(func, Func)
    assert (func(4, 5), func.twice(), list(map(func, [1, 2], [3, 4]))) == (9, 4, [4, 6])

    class Own(native.WasmFunction):
        def __call__(self, *args: Any) -> Any:
            return "own"

    assert instance.function("add", kind=Own)(1) == "own"


def test_stack_sizes(instance: Instance) -> None:
    """Functions with stacks of other sizes share a thread's spare fiber only where it fits."""
    small = instance.function("trap", stack_bytes=65536, max_stack_bytes=131072)
    large = instance.function("trap", stack_bytes=1 << 20, max_stack_bytes=2 << 20)
    for _ in range(3):
        for function, sizes in ((small, (65536, 131072)), (large, (1 << 20, 2 << 20))):
            _, reserved, low, high = function.fiber(1, 2).stack_bounds
            assert (high - low, high - reserved) == sizes
            with pytest.raises(Trap):
                function(1, 2)


def test_trap_without_a_handler(instance: Instance) -> None:
    with pytest.raises(Trap, match="f: "):
        instance.function("trap")(1, 2)
    assert instance.function("add")(1, 2) == 3


def test_handler_resumes(instance: Instance) -> None:
    seen: list[StopReason] = []

    def handler(event: Event) -> None:
        seen.append(event.reason)
        event.skip()

    assert instance.function("trap", handler=handler)(1, 2) == 5
    assert seen == [StopReason.TRAP]


def test_handler_raises(instance: Instance) -> None:
    kept: list[Any] = []

    def handler(event: Event) -> None:
        kept.append(event.fiber)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        instance.function("trap", handler=handler)(1, 2)
    assert kept[0].state is FiberState.UNWOUND


def test_handler_answers(instance: Instance) -> None:
    with pytest.raises(FiberError, match="the handler returned 3"):
        instance.function("trap", handler=lambda event: 3)(1, 2)
    assert instance.function("trap", handler=lambda event: event.unwind())(1, 2) is None


def test_fiber(instance: Instance) -> None:
    fiber = instance.function("add").fiber(20, 22)
    assert fiber.state is FiberState.READY
    assert list(fiber) == []
    assert fiber.result == 42
    fiber = instance.function("trap").fiber(1, 2)
    for event in fiber:
        assert event.reason is StopReason.TRAP
        event.skip()
    assert (fiber.result, fiber.exception) == (5, None)
    with pytest.raises(CallError, match="argument 0"):
        instance.function("add").fiber("x", 1)
    with pytest.raises(CallError, match="found 0 arguments"):
        instance.function("add").fiber()


def test_fiber_outlives_its_function(instance: Instance) -> None:
    fiber = instance.function("add").fiber(1, 2)
    gc.collect()
    assert fiber.resume() is None
    assert fiber.result == 3


def test_never_initialised() -> None:
    function = native.WasmFunction.__new__(native.WasmFunction)
    for call in (function, function.fiber):
        with pytest.raises(FiberError, match="never initialised"):
            call()
    for kind, name in ((native.Memory, "pages"), (native.Table, "count"), (native.HostFunction, "record")):
        with pytest.raises(FiberError, match="never initialised"):
            getattr(kind.__new__(kind), name)
    with pytest.raises(FiberError, match="never initialised"):
        memoryview(native.Memory.__new__(native.Memory))
    with pytest.raises(FiberError, match="never initialised"):
        native.Memory.__new__(native.Memory)[0]


# ---- host functions ----


def test_host_call(instance: Instance) -> None:
    seen: list[tuple[int, int]] = []

    def host(a: int, b: int) -> int:
        seen.append((a, b))
        return a * b

    instance.import_host(host)
    assert instance.function("imported")(6, 7) == 42
    assert instance.function("imported")(2**32 - 1, 2) == -2
    assert seen == [(6, 7), (-1, 2)]


def test_host_function_called_by_an_entry_thunk(instance: Instance) -> None:
    """An exported import: no compiled frame lies between the thunks."""
    callers: list[object] = []
    host = host_function(lambda caller, a, b: a - b, caller=lambda owner: callers.append(owner))
    assert wasm_function(instance, host.record)(9, 4) == 5
    assert callers == [None]


def test_host_function_called_directly_repeats(instance: Instance) -> None:
    host = host_function(max)
    function = wasm_function(instance, host.record)
    assert [function(a, 3) for a in range(6)] == [3, 3, 3, 3, 4, 5]


def test_caller(instance: Instance) -> None:
    instance.import_host(lambda caller, a, b: caller[0] is instance, caller=lambda owner: (owner,), name="who")
    assert instance.function("imported")(1, 2) == 1


def test_caller_raises(instance: Instance) -> None:
    def caller(owner: object) -> object:
        raise LookupError("no caller")

    instance.import_host(print, caller=caller)
    with pytest.raises(LookupError, match="no caller"):
        instance.function("imported")(1, 2)


def test_host_function_attributes() -> None:
    host = native.HostFunction(CODE.base, b"il", b"f", 77, "name", max, Convert(), None)
    assert (host.name, host.callable, host.params, host.results, host.type_number) == ("name", max, b"il", b"f", 77)
    words = struct.unpack("<4Q", native.read_memory(host.record, 32))
    assert (words[0], words[2], words[3]) == (CODE.base, 77, 0)
    block = struct.unpack("<8Q", native.read_memory(words[1], 64))
    assert block == (0, 0, native.HOST_STUB_ADDRESS, native.HELPERS_ADDRESS, id(host), 0, 0, 0)
    with pytest.raises(FiberError, match="once"):
        host.__init__(CODE.base, b"", b"", 0, "again", max, None, None)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("codes", "answer", "message"),
    [
        (b"i", "x", "host: result of the host function: found 'x', expected an integer of .* \\(i32\\)"),
        (b"i", 2**32, "\\(i32\\)"),
        (b"i", None, "found None, expected an integer"),
        (b"f", "x", "a number \\(f32\\)"),
        (b"", 1, "returned an object of type int, expected None"),
        (b"ii", 1, "returned an object of type int, expected a tuple of 2 results"),
        (b"ii", (1,), "returned 1 results, expected 2"),
        (b"ii", [1, 2, 3], "returned 3 results, expected 2"),
        (b"ii", (1, "x"), "result of the host function 1: found 'x'"),
    ],
)
def test_bad_host_results(instance: Instance, codes: bytes, answer: object, message: str) -> None:
    instance.import_host(lambda *args: answer, results=codes)
    with pytest.raises(CallError, match=message):
        instance.function("imported")(1, 2)


@pytest.mark.parametrize("answer", [(3, 4), [3, 4]])
def test_several_host_results(instance: Instance, answer: object) -> None:
    instance.import_host(lambda a, b: answer, results=b"ii")
    assert instance.function("imported")(1, 2) == 3


def test_many_host_arguments(instance: Instance) -> None:
    """More than fit on the C stack; the words beyond what the thunk wrote are whatever lies above them."""
    instance.import_host(lambda caller, *args: len(args), params=b"i" * 20, caller=lambda owner: owner)
    assert instance.function("imported")(1, 2) == 20


def test_host_raises(instance: Instance) -> None:
    def host(a: int, b: int) -> int:
        raise ValueError(f"{a} and {b}")

    instance.import_host(host)
    function = instance.function("imported")
    for _ in range(3):
        with pytest.raises(ValueError, match="1 and 2") as caught:
            function(1, 2)
        assert caught.traceback[-1].name == "host"
    assert instance.function("add")(1, 2) == 3


def test_exception_event(instance: Instance) -> None:
    """The handler gets the exception, answers in the host function's place, and the code goes on."""
    error = ValueError("host")

    def host(a: int, b: int) -> int:
        raise error

    seen: list[object] = []

    def handler(event: Event) -> None:
        fiber = event.fiber
        seen.append((event.reason, fiber.exception is error))
        assert fiber.request is not None
        assert fiber.request[0] == 1
        fiber.set_words(struct.pack("<Q", 99))
        assert fiber.request is None
        with pytest.raises(FiberError, match="no request"):
            fiber.set_words(bytes(8))

    host_object = instance.import_host(host)
    assert instance.function("imported", handler=handler)(1, 2) == 99
    assert seen == [(StopReason.EXCEPTION, True)]
    assert host_object.name == "host"


def test_exception_event_that_raises(instance: Instance) -> None:
    instance.import_host(lambda a, b: 1 // 0)

    def handler(event: Event) -> None:
        assert event.fiber.exception is not None
        raise event.fiber.exception

    with pytest.raises(ZeroDivisionError):
        instance.function("imported", handler=handler)(1, 2)


def test_exception_of_an_iterated_fiber(instance: Instance) -> None:
    instance.import_host(lambda a, b: 1 // 0)
    fiber = instance.function("imported").fiber(3, 4)
    reasons = []
    for event in fiber:
        reasons.append(event.reason)
        assert isinstance(fiber.exception, ZeroDivisionError)
        fiber.set_words(struct.pack("<Q", 8))
    assert (reasons, fiber.result, fiber.exception) == ([StopReason.EXCEPTION], 8, None)
    fiber.exception = error = KeyError()
    assert fiber.exception is error


def test_registers_of_a_host_stop_do_no_harm(instance: Instance) -> None:
    """Read and written back, every one: then the fiber goes on by the full resume."""
    instance.import_host(lambda a, b: 1 // 0)
    fiber = instance.function("imported").fiber(3, 4)
    event = fiber.resume()
    fiber.set_words(struct.pack("<Q", 21))
    for name in HOST.registers:
        event.registers[name] = event.registers[name]
    assert event.report()
    assert fiber.resume() is None
    assert fiber.result == 21


def test_set_words_stays_in_the_stack(instance: Instance) -> None:
    instance.import_host(lambda a, b: 1 // 0)
    fiber = instance.function("imported").fiber(3, 4)
    assert fiber.resume() is not None
    with pytest.raises(FiberError, match="at most what the request has room for"):
        fiber.set_words(bytes(tuning.MAX_STACK_BYTES))
    fiber.unwind()
    assert fiber.request is None


def test_plain_fiber_raises(instance: Instance) -> None:
    """For native code that is called as C code nothing is an event: the exception comes out."""
    host = instance.import_host(lambda a, b: 1 // 0)
    assert host is not None
    from trapline import Fiber

    words = native.Block(16)
    fiber = Fiber(CODE["enter"], (words.address, instance.record("imported")))
    with pytest.raises(ZeroDivisionError):
        fiber.resume()
    assert fiber.state is FiberState.SUSPENDED


def test_nested(instance: Instance) -> None:
    """200 activations of one thread at once, each with its own frames, and traps at the bottom."""
    deepest: list[int] = []

    def host(a: int, b: int) -> int:
        if a:
            return int(function(a - 1, b)) + 1
        deepest.append(len(native.wasm_frames()))
        with pytest.raises(Trap):
            trap(1, 2)
        return b

    instance.import_host(host)
    function, trap = instance.function("imported"), instance.function("trap")
    assert function(200, 5) == 205
    assert deepest == [201]
    assert native.wasm_frames() == []


@pytest.mark.parametrize("only_c", [False, True])
def test_endless_recursion(only_c: bool, instance: Instance) -> None:
    """Code that calls itself through WebAssembly ends in RecursionError, also where no Python function takes part."""
    again = functools.partial(min)
    host = host_function(again if only_c else lambda a, b: again(a, b))
    endless = wasm_function(instance, host.record)
    again.__setstate__((endless, (), {}, None))  # type: ignore[attr-defined]
    with pytest.raises(RecursionError):
        endless(1, 2)
    assert instance.function("add")(1, 2) == 3


# ---- functions compiled late ----


def test_compile(instance: Instance) -> None:
    instance.block.set(72, CODE.address_of("lazy"))
    late = instance.function("late")
    assert [late(1, 2), late(3, 4)] == [3, 7]
    assert instance.compiled == [7]


def test_compile_fails(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on after a function could not be compiled tries again."""
    good = instance.compile_function
    bad: list[Exception] = [ValueError("first"), LookupError("second")]

    def compile_function(index: int) -> int:
        if bad:
            raise bad.pop(0)
        return good(index)

    monkeypatch.setattr(instance, "compile_function", compile_function)
    instance.block.set(72, CODE.address_of("lazy"))
    fiber = instance.function("late").fiber(1, 2)
    found = [(event.reason, str(fiber.exception)) for event in fiber]
    assert found == [(StopReason.EXCEPTION, "first"), (StopReason.EXCEPTION, "second")]
    assert fiber.result == 3
    bad.append(KeyError("third"))
    instance.block.set(72, CODE.address_of("lazy"))
    with pytest.raises(KeyError, match="third"):
        instance.function("late")(1, 2)


def test_compile_returns_nonsense(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "compile_function", lambda index: "x")
    instance.block.set(72, CODE.address_of("lazy"))
    with pytest.raises(TypeError):
        instance.function("late")(1, 2)


def test_request_without_an_object(instance: Instance) -> None:
    instance.block.set(72, CODE.address_of("lazy"))
    instance.block.set(32, 0)
    with pytest.raises(FiberError, match="nobody"):
        instance.function("late")(1, 2)


# ---- frames ----


def labels(frames: list[tuple[int, int, int]]) -> list[str]:
    return [CODE.describe(pc).split("+")[0] for pc, _, _ in frames]


def test_frames_in_a_host_call(instance: Instance) -> None:
    found: list[Any] = []

    def host(a: int, b: int) -> int:
        found.append(native.wasm_frames())
        return inner(a, b) if a else 0

    instance.import_host(host)
    outer = instance.function("imported")
    other = Instance()
    other.import_host(lambda a, b: found.append(native.wasm_frames()) or 0)
    inner = other.function("imported")
    outer(1, 2)
    assert [labels(frames) for frames in found[0]] == [["host", "imported", "enter"]]
    assert [labels(frames) for frames in found[1]] == [["host", "imported", "enter"]] * 2
    assert found[1][1] == found[0][0], "the innermost first"
    innermost = found[0][0]
    assert innermost[0][2]
    assert not any(sp for _, _, sp in innermost[1:])
    rbps = [rbp for _, rbp, _ in innermost]
    assert rbps == sorted(rbps)
    assert len(set(rbps)) == 3


def test_frames_of_a_fiber(instance: Instance) -> None:
    fiber = instance.function("trap").fiber(1, 2)
    assert len(native.wasm_frames(fiber)[0]) == 1
    event = fiber.resume()
    (frames,) = native.wasm_frames(fiber)
    assert labels(frames) == ["trap", "enter"]
    assert frames[0][0] == event.pc
    with pytest.raises(TypeError, match="wasm_frames"):
        native.wasm_frames(3)  # type: ignore[arg-type]
    event.skip()
    fiber.resume()
    with pytest.raises(FiberError, match="finished"):
        native.wasm_frames(fiber)


def test_frames_with_a_bad_chain(instance: Instance) -> None:
    """A frame pointer that leads in a circle, below the stack pointer, or out of the stack ends the walk."""
    fiber = instance.function("trap").fiber(1, 2)
    event = fiber.resume()
    _, _, _, high = fiber.stack_bounds
    rbp = event.registers.rbp
    assert len(native.wasm_frames(fiber)[0]) == 2
    native.write_memory(rbp, struct.pack("<Q", rbp))
    assert len(native.wasm_frames(fiber)[0]) == 2
    for wild in (0, 1, fiber.sp - 8, high - 8, high, 1 << 40, (1 << 64) - 8, rbp + 1):
        event.registers.rbp = wild
        assert len(native.wasm_frames(fiber)[0]) == 1, hex(wild)


# ---- lifetimes ----


def test_cycles_are_collected() -> None:
    """An instance whose functions know it, and a host function whose callable knows the instance."""
    def make() -> weakref.ref[Instance]:
        instance = Instance()
        instance.import_host(lambda a, b: instance.used)
        instance.keep.append(instance.function("imported"))
        return weakref.ref(instance)

    gone = make()
    gc.collect()
    assert gone() is None


def test_references_balance(instance: Instance) -> None:
    marks: list[object] = [object()]
    instance.import_host(lambda caller, a, b: (marks[0], 2), results=b"ri", caller=lambda owner: marks[0])
    function = instance.function("imported", params=b"ii", results=b"i")
    function(1, 2)
    before = sys.getrefcount(marks[0])
    for _ in range(100):
        function(1, 2)
    after = sys.getrefcount(marks[0])
    assert after == before
    fail = instance.function("trap", handler=lambda event: event.unwind())
    counts = [sys.getrefcount(instance), sys.getrefcount(fail)]
    for _ in range(100):
        fail(1, 2)
    assert [sys.getrefcount(instance), sys.getrefcount(fail)] == counts
