"""What a careless or hostile embedder does: every case ends in a value or an error that says what was wrong."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.support import every_level, instance
from trapline import (
    CallError,
    Config,
    DecodeError,
    Engine,
    FiberError,
    Func,
    FuncType,
    Global,
    GlobalType,
    Instance,
    Linker,
    LinkError,
    Memory,
    MemoryAccessError,
    ModuleError,
    Store,
    TableType,
    TrapEvent,
    WasmTrap,
    WasmTrapCode,
    f64,
    i32,
    parse_text,
)
from trapline import Module as WasmModule

HALF = '(module (func $half (export "half") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0))))'
TEXT: Any = HALF
NONE: Any = None
CALLS = '(module (import "m" "f" (func $f)) (func $inner (call $f)) (func (export "g") (call $inner)))'


# ---- host functions ----


class Short(list[int]):
    """Counts three and iterates over none."""

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[int]:
        return iter(())


def test_results_that_count_other_than_they_iterate() -> None:
    text = '(module (import "m" "f" (func $f (result i32 i64 f64))) (func (export "g") (result i32 i64 f64) (call $f)))'
    with pytest.raises(CallError, match="returned 0 results, expected 3"):
        instance(text, [Short]).exports.g()


@every_level
def test_going_on_behind_a_host_function_that_raised_calls_it_again(config: Config) -> None:
    text = """(module (import "m" "f" (func $f (param i32) (result funcref)))
        (func (export "g") (param i32) (result funcref) (call $f (local.get 0))))"""
    seen = []

    def host(number: int) -> Any:
        seen.append(number)
        if len(seen) < 3:
            raise ValueError(len(seen))

    made = instance(text, [host], config)
    fiber = made.exports.g.fiber(12345)
    for number in (1, 2):
        assert fiber.resume() is not None
        assert fiber.exception.args == (number,)
    assert fiber.resume() is None
    assert fiber.result is None
    assert seen == [12345] * 3


@every_level
def test_a_call_that_raised_is_over(config: Config) -> None:
    call = instance(HALF, config=config).exports.half.start(0)
    assert next(call).reason is WasmTrapCode.DIVIDE_BY_ZERO
    with pytest.raises(WasmTrap):
        next(call)
    assert list(call) == []
    with pytest.raises(FiberError, match="unwound"):
        call.result  # noqa: B018

    def fail() -> None:
        raise KeyError(1)

    call = instance(CALLS, [fail], config).exports.g.start()
    with pytest.raises(KeyError):
        next(call)
    assert list(call) == []


def test_stop_iteration_of_a_host_function_does_not_pass_for_the_end() -> None:
    def stop() -> None:
        raise StopIteration

    exports = instance(CALLS, [stop]).exports
    with pytest.raises(StopIteration):
        exports.g()
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        list(exports.g.start())


class Stubborn(Exception):
    """Has no use for tracebacks."""

    @property
    def __traceback__(self) -> Any:
        return "none"

    @__traceback__.setter
    def __traceback__(self, value: object) -> None:
        raise RuntimeError

    def with_traceback(self, traceback: object) -> Any:
        return None


class Slotted(Exception):
    __slots__ = ("x",)


@pytest.mark.parametrize(
    "error",
    [Stubborn(1), Slotted(2), SystemExit(3), GeneratorExit(), ExceptionGroup("g", [OSError()]), RecursionError()],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_of_every_kind_come_through(error: BaseException) -> None:
    def fail() -> None:
        raise error

    made = instance(CALLS, [fail])
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            made.exports.g()
        assert caught.value is error


def test_annotations_that_are_words() -> None:
    def host(x: "the number, doubled") -> "two of it":  # type: ignore[valid-type] # noqa: F722
        return 2 * x

    text = """(module (import "m" "f" (func $f (param i32) (result i32)))
        (func (export "g") (result i32) (call $f (i32.const 4))))"""
    assert instance(text, [host]).exports.g() == 8


class Unequal:
    """A callable that can neither be hashed nor compared."""

    def __eq__(self, other: object) -> bool:
        raise ValueError

    def __hash__(self) -> int:
        raise ValueError

    def __call__(self) -> None:
        pass


def test_callables_that_cannot_be_looked_up() -> None:
    assert instance(CALLS, [Unequal()]).exports.g() is None


def test_unknown_imports_trap_with_frames() -> None:
    linker = Linker()
    linker.define_unknown_imports_as_traps()
    made = linker.instantiate(Store(linker.engine), WasmModule(linker.engine, parse_text(CALLS)))
    with pytest.raises(WasmTrap, match=r"m\.f was called and is not defined") as caught:
        made.exports.g()
    assert [frame.label for frame in caught.value.frames] == ["inner", "g"]


# ---- traps ----


@every_level
def test_frames_that_are_over_say_so(config: Config) -> None:
    made = instance(HALF, config=config)
    kept: list[TrapEvent] = []

    def skip(event: TrapEvent) -> None:
        kept.append(event)
        event.skip(5)

    made.store.set_trap_handler(skip)
    assert made.exports.half(0) == 5
    (event,) = kept
    (frame,) = event.frames
    for use in (lambda: frame.locals, lambda: frame.operands, lambda: frame.instance, event.retry):
        with pytest.raises(FiberError, match="has gone on since"):
            use()


def test_values_of_a_frame_that_is_over() -> None:
    made = instance(HALF)
    for event in made.exports.half.start(0):
        values = event.frames[0].locals
        assert list(values) == [0]
        event.skip(1)
    for use in (lambda: values[0], lambda: list(values), lambda: repr(values), lambda: values.bits(0)):
        with pytest.raises(FiberError, match="has gone on since"):
            use()


@pytest.mark.parametrize("error", [None, 5, ValueError])
def test_only_an_exception_is_raised_in_a_traps_place(error: Any) -> None:
    made = instance(HALF)
    made.store.set_trap_handler(lambda event: event.raise_(error))
    with pytest.raises(FiberError, match="expected an exception"):
        made.exports.half(0)


@every_level
def test_references_of_a_call_that_stands_at_a_trap_are_kept(config: Config) -> None:
    text = """(module (import "m" "f" (func $f (result externref)))
        (func (export "g") (result externref) (local externref) (local.set 0 (call $f))
            (drop (i32.div_u (i32.const 1) (i32.const 0))) (local.get 0)))"""
    thing = object()
    made = instance(text, [lambda: thing], config)

    def handle(event: TrapEvent) -> None:
        with pytest.raises(CallError, match="under way"):
            made.store.gc()
        event.skip(1)

    call = made.exports.g.start()
    for event in call:
        handle(event)
    assert call.result is thing
    del call, event
    made.store.set_trap_handler(handle)
    assert made.exports.g() is thing
    assert made.store.gc() == 1


# ---- what lives how long ----


def test_a_linker_keeps_no_store() -> None:
    linker = Linker()
    linker.define_func("m", "f", FuncType.of([], []), lambda: None)
    module = WasmModule(linker.engine, parse_text(CALLS))
    stores = []
    for _ in range(5):
        made = linker.instantiate(Store(linker.engine), module)
        made.exports.g()
        stores.append(weakref.ref(made.store))
    del made
    gc.collect()
    assert [store() for store in stores] == [None] * 5


def test_a_name_that_is_defined_anew() -> None:
    linker = Linker()
    linker.allow_shadowing = True
    store = Store(linker.engine)
    for number in (1, 2):
        linker.define_func("m", "f", FuncType.of([], ["i32"]), lambda number=number: number)
        assert linker.get(store, "m", "f")() == number
        assert linker.get(store, "m", "f") is linker.get(store, "m", "f")


def test_finalisers_may_still_call() -> None:
    results = []

    class Last:
        def __init__(self, function: Callable[[int], int]) -> None:
            self.function = function

        def __del__(self) -> None:
            results.append(self.function(2))

    made = instance(HALF)
    made.store.data = Last(made.exports.half)
    del made
    gc.collect()
    assert results == [0]


# ---- compiling, interrupted ----


@every_level
def test_an_exception_between_the_steps_of_placing_a_function(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    made = instance(
        """(module (func $a (export "a") unreachable) (func $b (export "b") (param i32) (result i32)
            (i32.div_u (i32.const 1) (local.get 0))))""",
        config=config,
    )
    code = made.module.code(checked=any(memory.checked for memory in made.memories))
    append = code.image.append

    def interrupted(*args: Any, **kwargs: Any) -> int:
        append(*args, **kwargs)
        monkeypatch.undo()
        raise KeyboardInterrupt

    for name in ("a", "b"):
        monkeypatch.setattr(code.image, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made.exports[name](*[0] * (name == "b"))
    for name, reason in (("b", WasmTrapCode.DIVIDE_BY_ZERO), ("a", WasmTrapCode.UNREACHABLE)):
        with pytest.raises(WasmTrap) as caught:
            made.exports[name](*[0] * (name == "b"))
        assert (caught.value.reason, caught.value.function) == (reason, name)


def test_a_function_compiled_while_its_instance_was_made_is_called_directly() -> None:
    made = instance(HALF)
    (record,) = [made.record(0)]
    lazy = made.block.get(record - made.block.address)
    entry = made._code.entry(0)
    made.set_entry(0, lazy)  # as instantiation leaves it when another thread compiled in the middle
    assert made.exports.half(1) == 1
    assert made.block.get(record - made.block.address) == entry


# ---- bad input ----


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda store: Store(store), "engine: found Store, expected Engine"),
        (lambda store: Engine(TEXT), "config: found str, expected Config"),
        (lambda store: WasmModule(store, b""), "engine: found Store, expected Engine"),
        (lambda store: Instance(store.engine, NONE), "store: found Engine, expected Store"),
        (lambda store: Instance(store, TEXT), "module: found str, expected Module"),
        (lambda store: Func(NONE, None, print), "store: found NoneType, expected Store"),
        (lambda store: Func(store, TEXT, print), "type: found str, expected FuncType"),
        (lambda store: Linker(store), "engine: found Store, expected Engine"),
        (lambda store: Linker().instantiate(store, TEXT), "module: found str, expected Module"),
    ],
)
def test_one_thing_in_the_place_of_another(make: Callable[[Any], object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        make(Store())


@pytest.mark.parametrize("found", [1.5, 1 << 40, 10**5000, float("nan")], ids=["float", "wide", "huge", "nan"])
def test_constants_that_do_not_fit_an_import(found: Any) -> None:
    with pytest.raises(LinkError, match=r"incompatible import type: a\.b: .*expected a global i32"):
        instance('(module (import "a" "b" (global i32)))', [found])


def test_what_code_knows_is_initialised_once() -> None:
    store = Store()
    made = instance('''(module (memory (export "m") 1) (table (export "t") 1 funcref) (func $f (export "f") (result i32)
        (i32.const 5)) (elem (i32.const 0) $f) (global (export "g") (mut i32) (i32.const 3)))''', store=store)
    host = Func(store, FuncType.of([], ["i32"]), lambda: 7)
    exports = made.exports
    again: list[Callable[[], Any]] = [
        lambda: exports.m.__init__(Store(), 2, 3),
        lambda: exports.t.__init__(Store(), TableType.of("externref", 2)),
        lambda: exports.g.__init__(Store(), GlobalType.of("f64"), 1.5),
        lambda: host.__init__(store, FuncType.of([], []), print),  # type: ignore[misc]
        lambda: made.__init__(Store(), made.module),  # type: ignore[misc]
        lambda: made.module.__init__(store.engine, b"\0asm\1\0\0\0"),  # type: ignore[misc]
        lambda: store.__init__(),  # type: ignore[misc]
    ]
    for call in again:
        with pytest.raises(FiberError, match="initialised already"):
            call()
    gc.collect()
    assert (exports.f(), exports.t[0](), host(), exports.g.value, exports.m.maximum) == (5, 5, 7, 3, None)


def test_a_memory_says_why_it_cannot_grow() -> None:
    memory = Memory(Store(Engine(Config(max_memory_pages=2))))
    with pytest.raises(MemoryAccessError, match="a memory of 1 pages cannot grow by 2: at most 2 are allowed"):
        memory.grow(2)


def test_numbers_that_fit_no_float() -> None:
    store = Store()
    for type_ in ("f32", "f64"):
        with pytest.raises(CallError, match="expected a number"):
            Global(store, GlobalType.of(type_), 10**400)
    memory = Memory(store)
    memory.write_f32(0, -1e300)
    assert memory.read_f32(0) == Global(store, GlobalType.of("f32"), -1e300).value == float("-inf")


def test_words_that_stand_for_no_reference() -> None:
    exports = instance("""(module (table (export "t") 1 funcref) (elem declare func $h) (func $h)
        (func (export "out") (result funcref) (ref.func $h))
        (func (export "in") (param funcref) (table.set (i32.const 0) (local.get 0)))
        (func (export "any") (param externref)))""").exports
    (word,) = exports.out.call_words()
    exports["in"].call_words(word)
    exports["in"].call_words(0)
    for bad in (word + 8, 12345, -1, "text"):
        with pytest.raises(CallError, match="stands for no reference"):
            exports["in"].call_words(bad)
    with pytest.raises(CallError, match="stands for no reference"):
        exports.any.call_words(7)


def test_artifacts_and_files_of_something_else(tmp_path: Path) -> None:
    for data in (10**13, "text", None):
        with pytest.raises(DecodeError, match="not an artifact"):
            WasmModule.deserialize(Engine(), data)  # type: ignore[arg-type]
    path = tmp_path / "bad.wat"
    path.write_bytes(b"(module \xff)")
    with pytest.raises(ModuleError, match="malformed UTF-8 encoding at byte 0x8"):
        WasmModule.from_file(Engine(), path)


def test_exports_under_odd_names() -> None:
    names = ["", "__class__", "keys", "_items", "__getitem__", "__dict__", "é"]
    functions = "".join(f'(export "{name}" (func $f))' for name in names)
    exports = instance(f"(module (func $f (result i32) (i32.const 7)) {functions})").exports
    assert [exports[name]() for name in exports] == [7] * len(names)
    assert copy.copy(exports) == exports
    with pytest.raises(AttributeError, match="exports no 'nope'; it exports '', '__class__'"):
        exports.nope  # noqa: B018


def test_the_error_for_a_missing_export_is_short() -> None:
    functions = "".join(f'(export "f{number}" (func $f))' for number in range(1000))
    exports = instance(f"(module (func $f) {functions})").exports
    with pytest.raises(KeyError, match="and 980 more") as caught:
        exports["nope"]
    assert len(str(caught.value)) < 400


def test_an_instance_stands_for_its_exports() -> None:
    lower = instance('(module (func (export "f")))')
    upper = WasmModule(lower.store.engine, parse_text(CALLS))
    assert Instance(lower.store, upper, {"m": lower}).exports.g() is None


def test_errors_are_pickled() -> None:
    error = LinkError("unknown import", module="m", name="n", found="nothing", expected="a memory")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_partials_builtins_and_classes_are_called() -> None:
    text = """(module (import "m" "f" (func $f (param i32 f64) (result i32)))
        (func (export "g") (result i32) (call $f (i32.const 3) (f64.const 1.5))))"""

    def add(a: i32, b: i32, c: f64) -> i32:
        return i32(a + b)

    good: list[tuple[Any, int]] = [(functools.partial(add, i32(1)), 4), (max, 3)]
    for host, result in good:
        assert instance(text, [host]).exports.g() == result
    bad: list[Any] = [complex, lambda a, b: (value for value in (a, b)), lambda a, b: 2.0]
    for host in bad:
        with pytest.raises(CallError, match=r"m\.f: result of the host function: found .*expected an integer"):
            instance(text, [host]).exports.g()
