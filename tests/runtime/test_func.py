"""Functions called from Python, and Python functions called from WebAssembly."""

from __future__ import annotations

import gc
import math
import struct
import threading
import traceback
import weakref
from typing import Any

import pytest

from tests.runtime.support import every_level, instance
from trapline import (
    Caller,
    CallError,
    Config,
    Func,
    FuncType,
    LinkError,
    Memory,
    Store,
    WasmTrap,
    externref,
    f32,
    f64,
    i32,
    i64,
)

ECHO = "(module " + " ".join(
    f'(func (export "{type_}") (param {type_}) (result {type_}) local.get 0)'
    for type_ in ("i32", "i64", "f32", "f64", "externref", "funcref")
) + ")"


@every_level
def test_values_go_in_and_come_out(config: Config) -> None:
    exports = instance(ECHO, config=config).exports
    for value, back in ((0, 0), (-1, -1), (0xFFFF_FFFF, -1), (1 << 31, -(1 << 31)), (True, 1)):
        assert exports.i32(value) == back
    for value, back in (((1 << 64) - 1, -1), (-(1 << 63), -(1 << 63)), (1 << 62, 1 << 62)):
        assert exports.i64(value) == back
    assert exports.f32(0.1) == struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert exports.f64(0.1) == 0.1
    assert exports.f64(3) == 3.0
    assert math.isnan(exports.f64(math.nan))
    assert math.isinf(exports.f32(1e300))
    thing = object()
    assert exports.externref(thing) is thing
    assert exports.externref(None) is None
    assert exports.funcref(exports.i32) is exports.i32
    assert exports.funcref(None) is None


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("i32", (1 << 32,), ["argument 0", str(1 << 32), "i32"]),
        ("i32", (-(1 << 31) - 1,), ["i32"]),
        ("i32", ("7",), ["'7'"]),
        ("i32", (1.0,), ["1.0"]),
        ("i64", (1 << 64,), ["i64"]),
        ("f64", ("x",), ["'x'"]),
        ("i32", (), ["0 arguments", "1"]),
        ("i32", (1, 2), ["2 arguments", "1"]),
        ("funcref", (5,), ["5", "Func"]),
        ("funcref", (print,), ["Func"]),
    ],
)
def test_arguments_that_do_not_fit(name: str, arguments: tuple[Any, ...], words: list[str]) -> None:
    func = instance(ECHO).exports[name]
    with pytest.raises(CallError) as caught:
        func(*arguments)
    for word in (name, *words):
        assert word in str(caught.value)
    with pytest.raises(CallError):
        func(*arguments, keyword=1)


@every_level
def test_many_parameters_and_results(config: Config) -> None:
    count = 40
    types = [("i32", "i64", "f32", "f64")[number % 4] for number in range(count)]
    text = f"""(module
        (func $f (export "reversed") (param {' '.join(types)}) (result {' '.join(reversed(types))})
            {' '.join(f'local.get {number}' for number in reversed(range(count)))})
        (func (export "twice") (param {' '.join(types)}) (result {' '.join(types)}) (local {' '.join(types)})
            {' '.join(f'local.get {number}' for number in range(count))} call $f
            {' '.join(f'local.set {count + number}' for number in range(count))}
            {' '.join(f'local.get {count + number}' for number in range(count))}))"""
    exports = instance(text, config=config).exports
    values = [number if "i" in type_ else number + 0.5 for number, type_ in enumerate(types)]
    assert exports.reversed(*values) == tuple(reversed(values))
    assert exports.twice(*values) == tuple(values)


def test_annotated_functions() -> None:
    store = Store()

    def scale(a: i32, b: i64, c: f32, d: f64) -> tuple[i64, f64]:
        return i64(a + b), f64(c + d)

    func = Func(store, None, scale)
    assert func.type == FuncType.of(["i32", "i64", "f32", "f64"], ["i64", "f64"])
    assert func(1, 2, 0.5, 0.25) == (3, 0.75)

    def nothing(x: externref) -> None:
        pass

    assert Func(store, None, nothing)("anything") is None

    def vague(x: int) -> None:
        pass

    with pytest.raises(CallError, match="how wide"):
        Func(store, None, vague)
    with pytest.raises(CallError, match="no type"):
        Func(store, None, lambda x: x)


def test_a_callable_takes_the_type_of_the_import() -> None:
    text = '(module (import "m" "f" (func (param i32 f64) (result f64))) (export "f" (func 0)))'

    def loose(a: int, b: float) -> float:
        return a * b

    assert instance(text, {"m": {"f": loose}}).exports.f(3, 0.5) == 1.5
    assert instance(text, [lambda a, b: a - b]).exports.f(3, 0.5) == 2.5

    def misfit(a: i64, b: f64) -> f64:
        return b

    with pytest.raises(LinkError, match=r"parameter 0 annotated .*i64.* for i32"):
        instance(text, {"m": {"f": misfit}})

    def short(a: i32) -> f64:
        return f64(0.0)

    with pytest.raises(LinkError, match="1 parameters annotated for 2"):
        instance(text, {"m": {"f": short}})


HOST = """(module (import "m" "f" (func $f (param i32) (result i32)))
    (func $inner (param i32) (result i32) (i32.add (i32.const 1) (call $f (local.get 0))))
    (func (export "run") (param i32) (result i32) (i32.mul (i32.const 10) (call $inner (local.get 0)))))"""


@every_level
def test_host_functions(config: Config) -> None:
    assert instance(HOST, [lambda x: x + 5], config).exports.run(2) == 80


@pytest.mark.parametrize("result", ["text", None, (1, 2), 1 << 40, 1.5, ()])
def test_results_that_do_not_fit(result: object) -> None:
    run = instance(HOST, [lambda x: result]).exports.run
    with pytest.raises(CallError) as caught:
        run(1)
    assert "m.f" in str(caught.value)
    assert instance(HOST, [lambda x: x]).exports.run(1) == 20


@every_level
def test_exceptions_cross_with_frames(config: Config) -> None:
    class Mine(Exception):
        pass

    def f(x: int) -> int:
        raise Mine(f"from the host: {x}")

    run = instance(HOST, [f], config).exports.run
    for _ in range(3):
        with pytest.raises(Mine) as caught:
            run(7)
        names = [frame.name for frame in traceback.extract_tb(caught.tb)]
        assert names[-3:] == ["run", "inner", "f"], names
        files = [frame.filename for frame in traceback.extract_tb(caught.tb)]
        assert files[-2].startswith("<wasm module at byte 0x")
    assert str(caught.value) == "from the host: 7"


def test_exceptions_through_several_activations() -> None:
    made: list[Any] = []

    def f(x: int) -> int:
        if x > 3:
            raise KeyError(x)
        return int(made[0](x + 1))

    made.append(instance(HOST, [f]).exports.run)
    with pytest.raises(KeyError) as caught:
        made[0](0)
    names = [frame.name for frame in traceback.extract_tb(caught.tb) if frame.name in ("run", "inner", "f")]
    assert names == ["run", "inner", "f"] * 5


def test_a_host_function_may_catch_what_it_called_raised() -> None:
    trapping = instance('(module (func (export "t") (result i32) unreachable))').exports.t

    def f(x: int) -> int:
        with pytest.raises(WasmTrap, match="unreachable"):
            trapping()
        return -x

    assert instance(HOST, [f]).exports.run(3) == -20


@every_level
def test_nested_deeply(config: Config) -> None:
    made: list[Any] = []

    def f(x: int) -> int:
        return 0 if x == 0 else int(made[0](x - 1)) % 7

    made.append(instance(HOST, [f], config).exports.run)
    expected = 0
    for _ in range(121):
        expected = 10 * (expected % 7 + 1) if _ else 10
    assert made[0](120) == expected


def test_the_caller_is_known() -> None:
    seen: list[Any] = []

    def f(caller: Caller, at: i32) -> None:
        seen.append((caller.memory[at : at + 2], [frame.label for frame in caller.frames()], caller.instance))

    text = """(module (import "m" "f" (func $f (param i32))) (memory 1) (data (i32.const 8) "hi")
        (func (export "run") (call $f (i32.const 8))) (export "f" (func $f)))"""
    made = instance(text, [f])
    made.exports.run()
    assert seen == [(b"hi", ["run"], made)]
    with pytest.raises(LookupError, match="from Python"):
        made.exports.f(8)


def test_functions_of_other_stores_are_refused() -> None:
    foreign = instance(ECHO).exports
    with pytest.raises(CallError, match="another store"):
        instance(ECHO).exports.funcref(foreign.i32)
    with pytest.raises(LinkError, match="another store"):
        instance(HOST, [foreign.i32])


def test_other_threads_run_meanwhile() -> None:
    """A long loop that calls nobody lets other Python threads run."""
    text = """(module (func (export "spin") (param i64) (result i64) (loop $l
        (local.set 0 (i64.sub (local.get 0) (i64.const 1))) (br_if $l (i64.ne (local.get 0) (i64.const 0))))
        local.get 0))"""
    spin = instance(text).exports.spin
    ticks, done = [], threading.Event()

    def count() -> None:
        while not done.wait(0.001):
            ticks.append(1)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(50):
            spin(20_000_000)
            if len(ticks) > 3:
                break
    finally:
        done.set()
        thread.join()
    assert len(ticks) > 3


def test_stores_in_threads_are_independent() -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            made = instance(HOST, [lambda x: x + number])
            for at in range(300):
                assert made.exports.run(at) == 10 * (at + number + 1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_everything_goes_when_the_store_goes() -> None:
    class Canary:
        def __call__(self, x: int) -> int:
            return x

    canary = Canary()
    made = instance(HOST, [canary])
    made.exports.run(1)
    gone = weakref.ref(made), weakref.ref(canary), weakref.ref(made.store)
    del made, canary
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]


def test_a_function_keeps_its_store() -> None:
    run = instance(HOST, [lambda x: x]).exports.run
    gc.collect()
    assert run(4) == 50


def test_externrefs_are_forgotten_by_gc() -> None:
    text = """(module (table 2 externref) (global $g (export "g") (mut externref) (ref.null extern))
        (func (export "keep") (param externref) (table.set (i32.const 1) (local.get 0)))
        (func (export "drop") (param externref))
        (func (export "kept") (result externref) (table.get (i32.const 1))))"""
    made = instance(text)
    exports = made.exports

    class Thing:
        pass

    thing, other, third = Thing(), Thing(), Thing()
    refs = [weakref.ref(item) for item in (thing, other, third)]
    exports.keep(thing)
    exports["drop"](other)
    exports.g.value = third
    del thing, other, third
    assert made.store.gc() == 1
    assert [ref() is None for ref in refs] == [False, True, False]
    assert exports.kept() is refs[0]()
    assert exports.g.value is refs[2]()
    exports.keep(None)
    exports.g.value = None
    assert made.store.gc() == 2
    assert [ref() for ref in refs] == [None] * 3


def test_memory_of_a_finished_instance_stays_readable() -> None:
    memory: Memory = instance('(module (memory (export "m") 1) (data (i32.const 0) "abc"))').exports.m
    view = memoryview(memory)
    del memory
    gc.collect()
    assert bytes(view[:3]) == b"abc"
