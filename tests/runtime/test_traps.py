"""Traps of WebAssembly code: as exceptions, and as events that are mended."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from tests.runtime.support import every_level, instance
from trapline import (
    CallError,
    Config,
    FiberError,
    TrapEvent,
    WasmTrap,
    WasmTrapCode,
)

TRAPS = """(module
    (memory (export "m") 1 3) (table (export "t") 3 5 funcref) (type $v (func)) (type $w (func (param i32)))
    (elem (i32.const 1) func $takes) (elem $e func $takes) (data $d "abc")
    (func $takes (param i32))
    (func (export "unreachable") unreachable)
    (func (export "div_s") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
    (func (export "div_u") (param i64 i64) (result i64) (i64.div_u (local.get 0) (local.get 1)))
    (func (export "rem_s") (param i64 i64) (result i64) (i64.rem_s (local.get 0) (local.get 1)))
    (func (export "rem_u") (param i32 i32) (result i32) (i32.rem_u (local.get 0) (local.get 1)))
    (func (export "trunc32") (param f32) (result i32) (i32.trunc_f32_s (local.get 0)))
    (func (export "trunc64") (param f64) (result i64) (i64.trunc_f64_u (local.get 0)))
    (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "far") (param i32) (result i64) (i64.load offset=4294967295 (local.get 0)))
    (func (export "store") (param i32 i64) (i64.store offset=4 (local.get 0) (local.get 1)))
    (func (export "fill") (param i32 i32) (memory.fill (local.get 0) (i32.const 7) (local.get 1)))
    (func (export "copy") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export "init") (param i32 i32 i32) (memory.init $d (local.get 0) (local.get 1) (local.get 2)))
    (func (export "get") (param i32) (result funcref) (table.get (local.get 0)))
    (func (export "set") (param i32) (table.set (local.get 0) (ref.null func)))
    (func (export "tfill") (param i32 i32) (table.fill (local.get 0) (ref.null func) (local.get 1)))
    (func (export "tcopy") (param i32 i32 i32) (table.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export "tinit") (param i32 i32 i32) (table.init $e (local.get 0) (local.get 1) (local.get 2)))
    (func (export "indirect") (param i32) (call_indirect (type $v) (local.get 0)))
    (func $deep (export "deep") (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1))))"""

CASES: list[tuple[str, tuple[Any, ...], WasmTrapCode]] = [
    ("unreachable", (), WasmTrapCode.UNREACHABLE),
    ("div_s", (1, 0), WasmTrapCode.DIVIDE_BY_ZERO),
    ("div_s", (-(1 << 31), -1), WasmTrapCode.INTEGER_OVERFLOW),
    ("div_u", (5, 0), WasmTrapCode.DIVIDE_BY_ZERO),
    ("rem_s", (5, 0), WasmTrapCode.DIVIDE_BY_ZERO),
    ("rem_u", (5, 0), WasmTrapCode.DIVIDE_BY_ZERO),
    ("trunc32", (float("nan"),), WasmTrapCode.INVALID_CONVERSION),
    ("trunc32", (3e9,), WasmTrapCode.INTEGER_OVERFLOW),
    ("trunc64", (-1.0,), WasmTrapCode.INTEGER_OVERFLOW),
    ("trunc64", (float("nan"),), WasmTrapCode.INVALID_CONVERSION),
    ("load", (65533,), WasmTrapCode.MEMORY_BOUNDS),
    ("load", (-1,), WasmTrapCode.MEMORY_BOUNDS),
    ("far", (0,), WasmTrapCode.MEMORY_BOUNDS),
    ("far", (-1,), WasmTrapCode.MEMORY_BOUNDS),
    ("store", (65525, 1), WasmTrapCode.MEMORY_BOUNDS),
    ("fill", (65535, 2), WasmTrapCode.MEMORY_BOUNDS),
    ("copy", (0, 65530, 7), WasmTrapCode.MEMORY_BOUNDS),
    ("copy", (65530, 0, 7), WasmTrapCode.MEMORY_BOUNDS),
    ("init", (0, 1, 3), WasmTrapCode.MEMORY_BOUNDS),
    ("init", (65535, 0, 2), WasmTrapCode.MEMORY_BOUNDS),
    ("get", (3,), WasmTrapCode.TABLE_BOUNDS),
    ("set", (-1,), WasmTrapCode.TABLE_BOUNDS),
    ("tfill", (2, 2), WasmTrapCode.TABLE_BOUNDS),
    ("tcopy", (0, 2, 2), WasmTrapCode.TABLE_BOUNDS),
    ("tinit", (0, 1, 1), WasmTrapCode.TABLE_BOUNDS),
    ("indirect", (3,), WasmTrapCode.UNDEFINED_ELEMENT),
    ("indirect", (0,), WasmTrapCode.UNINITIALIZED_ELEMENT),
    ("indirect", (1,), WasmTrapCode.INDIRECT_CALL_TYPE),
    ("deep", (0,), WasmTrapCode.STACK_EXHAUSTED),
]


@every_level
def test_reasons_in_words(config: Config) -> None:
    exports = instance(TRAPS, config=config).exports
    for _ in range(2):
        for name, arguments, reason in CASES:
            with pytest.raises(WasmTrap) as caught:
                exports[name](*arguments)
            trap = caught.value
            assert trap.reason is reason, (name, arguments, trap)
            assert trap.frames[0].name == name
            assert trap.function == name
            assert str(trap).startswith(reason.value)
            assert trap.pc == trap.frames[0].pc > 0
            assert str(pickle.loads(pickle.dumps(trap))) == str(trap)


def test_addresses_of_accesses() -> None:
    exports = instance(TRAPS).exports
    with pytest.raises(WasmTrap) as caught:
        exports.load(65533)
    assert caught.value.address == 65533 or caught.value.address == 65536
    with pytest.raises(WasmTrap) as caught:
        exports.store(100000, 1)
    assert caught.value.address == 100004
    assert "write at 0x186a4" in str(caught.value)
    assert "0x10000 bytes" in str(caught.value)


def test_the_exact_pc_of_each_frame() -> None:
    made = instance("""(module
        (func $leaf (param i32) (result i32) (local i32)
            (local.set 1 (i32.const 5))
            (i32.add (local.get 1) (i32.div_u (i32.const 1) (local.get 0))))
        (func $middle (param i32) (result i32) (i32.mul (i32.const 3) (call $leaf (local.get 0))))
        (func (export "run") (param i32) (result i32)
            (drop (call $middle (i32.const 1))) (call $middle (local.get 0))))""")
    with pytest.raises(WasmTrap) as caught:
        made.exports.run(0)
    frames = caught.value.frames
    assert [frame.name for frame in frames] == ["leaf", "middle", "run"]
    code = made.module.bytecode()
    assert [code[frame.pc] for frame in frames] == [0x6E, 0x10, 0x10]
    body = made.module.decoded.code[2]
    assert frames[2].code_offset == frames[2].pc - body.start
    assert code[body.start : frames[2].pc].count(0x10) == 1  # the second call, not the first


def handled(
    text: str, name: str, arguments: tuple[Any, ...], handle: Callable[[TrapEvent], None], config: Config | None = None
) -> Any:
    made = instance(text, config=config)
    made.store.set_trap_handler(handle)
    return made.exports[name](*arguments)


@every_level
def test_retry_after_growing_memory(config: Config) -> None:
    def handle(event: TrapEvent) -> None:
        assert event.reason is WasmTrapCode.MEMORY_BOUNDS
        instance_ = event.frames[0].instance
        assert instance_ is not None
        instance_.memories[0].grow(1)
        event.retry()

    assert handled(TRAPS, "load", (65540,), handle, config) == 0
    assert handled(TRAPS, "fill", (65530, 20), handle, config) is None
    assert handled(TRAPS, "store", (70000, 1), handle, config) is None


@every_level
def test_retry_after_growing_a_table(config: Config) -> None:
    def handle(event: TrapEvent) -> None:
        instance_ = event.frames[0].instance
        assert instance_ is not None
        instance_.tables[0].grow(2)
        event.retry()

    assert handled(TRAPS, "get", (4,), handle, config) is None
    assert handled(TRAPS, "tfill", (2, 3), handle, config) is None


@every_level
def test_retry_after_growing_the_stack(config: Config) -> None:
    text = """(module (func $sum (export "sum") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
            (else (i32.add (local.get 0) (call $sum (i32.sub (local.get 0) (i32.const 1))))))))"""
    grown: list[int] = []

    def handle(event: TrapEvent) -> None:
        assert event.reason is WasmTrapCode.STACK_EXHAUSTED
        grown.append(event.grow_stack(1 << 20))
        event.retry()

    depth = 50_000
    wanted = depth * (depth + 1) // 2
    assert handled(text, "sum", (depth,), handle, config) == (wanted + (1 << 31)) % (1 << 32) - (1 << 31)
    assert grown


@every_level
def test_skip_with_a_value(config: Config) -> None:
    for name, arguments, reason in CASES:
        if name in ("unreachable", "deep"):
            continue
        values: dict[str, tuple[Any, ...]] = {
            "div_s": (77,), "div_u": (77,), "rem_s": (77,), "rem_u": (77,), "trunc32": (77,), "trunc64": (77,),
            "load": (77,), "far": (77,), "get": (None,),
        }  # fmt: skip
        wanted = values.get(name, ())
        seen: list[WasmTrapCode] = []

        def handle(event: TrapEvent, wanted: tuple[Any, ...] = wanted, seen: list[WasmTrapCode] = seen) -> None:
            seen.append(event.reason)
            event.skip(*wanted)

        result = handled(TRAPS, name, arguments, handle, config)
        assert (result,) == (wanted or (None,)), name
        assert seen == [reason]


def test_what_cannot_be_skipped() -> None:
    def skip(event: TrapEvent) -> None:
        event.skip()

    with pytest.raises(FiberError, match="nothing behind it"):
        handled(TRAPS, "unreachable", (), skip)
    with pytest.raises(CallError, match="0 values to skip with, expected 1"):
        handled(TRAPS, "load", (-1,), skip)


def test_mend_an_operand_in_its_place() -> None:
    text = """(module (memory 1) (func (export "f") (param i32 i32) (result i32)
        (i32.div_s (i32.add (local.get 0) (i32.const 1)) (i32.mul (local.get 1) (i32.const 2)))))"""

    def handle(event: TrapEvent) -> None:
        frame = event.frames[0]
        assert list(frame.locals) == [9, 0]
        assert list(frame.operands) == [10, 0]
        frame.operands[1] = 5
        event.retry()

    assert handled(text, "f", (9, 0), handle) == 2


def test_a_write_that_would_change_more_is_refused() -> None:
    def handle(event: TrapEvent) -> None:
        event.frames[0].locals[1] = 5

    with pytest.raises(FiberError, match="cannot be written in place"):
        handled(TRAPS, "div_s", (1, 0), handle)


STATES = """(module (memory 1)
    (func $leaf (param i32 f64) (result i32) (local i64 i32 f32)
        (local.set 2 (i64.const -5))
        (local.set 3 (i32.mul (local.get 0) (i32.const 3)))
        (local.set 4 (f32.const 1.5))
        (i32.const 1000) (i32.add (local.get 0) (i32.const 1)) (i64.const 7)
        (i32.load (i32.sub (i32.const -8) (local.get 0)))
        drop drop drop)
    (func (export "run") (param i32 i32) (result i32) (local f64)
        (local.set 2 (f64.const 2.25))
        (i32.const 11)
        (call $leaf (i32.add (local.get 0) (local.get 1)) (local.get 2))
        (i32.add)))"""


@every_level
def test_locals_and_operands_of_every_frame(config: Config) -> None:
    seen = []

    def handle(event: TrapEvent) -> None:
        seen.append([(list(frame.locals), list(frame.operands)) for frame in event.frames])
        event.skip(0)

    assert handled(STATES, "run", (2, 3), handle, config) == 1011
    if config.debug == "full":
        assert seen == [[([5, 2.25, -5, 15, 1.5], [1000, 6, 7, -13]), ([2, 3, 2.25], [11, 5, 2.25])]]


def test_values_that_are_gone_say_so_in_live_code() -> None:
    seen = []

    def handle(event: TrapEvent) -> None:
        seen.append(repr(event.frames[0].locals))
        event.skip(0)

    handled(STATES, "run", (2, 3), handle, Config(debug="live"))
    assert "<optimized out>" in seen[0]


def test_a_handler_that_does_nothing_lets_the_trap_through() -> None:
    seen: list[TrapEvent] = []
    made = instance(TRAPS)
    made.store.set_trap_handler(seen.append)
    with pytest.raises(WasmTrap):
        made.exports.unreachable()
    assert len(seen) == 1
    with pytest.raises(FiberError, match=r"gone on|over"):
        seen[0].retry()
    with pytest.raises(FiberError, match="gone"):
        list(seen[0].frames[0].locals)
    made.store.set_trap_handler(None)
    with pytest.raises(WasmTrap):
        made.exports.unreachable()
    assert len(seen) == 1


def test_a_handler_may_raise_something_else() -> None:
    class Mine(Exception):
        pass

    def handle(event: TrapEvent) -> None:
        event.raise_(Mine("instead"))

    with pytest.raises(Mine):
        handled(TRAPS, "unreachable", (), handle)

    def broken(event: TrapEvent) -> None:
        raise Mine("the handler's own")

    with pytest.raises(Mine, match="own"):
        handled(TRAPS, "unreachable", (), broken)


def test_a_handler_may_call_the_same_instance() -> None:
    made = instance(TRAPS)

    def handle(event: TrapEvent) -> None:
        event.skip(made.exports.div_s(84, 2))

    made.store.set_trap_handler(handle)
    assert made.exports.div_s(1, 0) == 42


def test_traps_as_an_iterator() -> None:
    made = instance(TRAPS)
    call = made.exports.load.start(65540)
    for event in call:
        made.exports.m.grow(1)
        event.retry()
    assert call.result == 0
    call = made.exports.load.start(-1)
    assert next(call).reason is WasmTrapCode.MEMORY_BOUNDS
    with pytest.raises(WasmTrap, match="out of bounds memory access"):
        next(call)
    with pytest.raises(FiberError):
        call.result  # noqa: B018


def test_a_hundred_thousand_frames_are_shown_shortly() -> None:
    deep = instance(TRAPS, config=Config(stack_bytes=8 << 20, max_stack_bytes=16 << 20)).exports.deep
    with pytest.raises(WasmTrap) as caught:
        deep(0)
    assert len(caught.value.frames) > 50_000
    assert len(str(caught.value).splitlines()) < 40
    assert "more frames" in str(caught.value)


def test_a_trap_in_the_start_function() -> None:
    with pytest.raises(WasmTrap) as caught:
        instance("(module (func $boom unreachable) (start $boom))")
    assert caught.value.function == "boom"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('(module (memory 1) (data (i32.const 65535) "ab"))', "2 bytes of data at 0xffff"),
        ("(module (table 1 funcref) (func $f) (elem (i32.const 1) func $f))", "1 elements at 1"),
    ],
)
def test_segments_that_do_not_fit(text: str, words: str) -> None:
    with pytest.raises(WasmTrap, match=words):
        instance(text)
