"""Ctrl-C and other exceptions of signal handlers, in compiled code and in host functions."""

from __future__ import annotations

import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.runtime.support import every_level, instance
from trapline import Config, Exports, Instance

SPIN = """(module (import "m" "f" (func $f (param i32) (result i32))) (memory 1)
    (func $leaf (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
    (func $spin (export "spin") (param i32) (result i32) (local i32)
        (loop $again
            (local.set 1 (call $leaf (i32.rem_u (i32.add (local.get 1) (local.get 0)) (i32.const 1000))))
            (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
            (br $again))
        (local.get 1))
    (func (export "outer") (param i32) (result i32) (i32.mul (call $spin (local.get 0)) (i32.const 2)))
    (func (export "hosts") (loop $again (drop (call $f (i32.const 3))) (br $again)))
    (export "memory" (memory 0)))"""


class Alarm(Exception):
    pass


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    def ring(number: int, frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def compiled(made: Instance) -> Exports:
    """Its exports, with every function compiled: an alarm shall not ring in the compiler."""
    code = made.module.code(checked=any(memory.checked for memory in made.memories))
    for index in range(made.module.decoded.imported_functions, len(made.functions)):
        code.entry(index)
    return made.exports


def names_of(error: pytest.ExceptionInfo[Any]) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.tb)]


@every_level
def test_compiled_code_is_interrupted_wherever_it_is(config: Config, alarm: Callable[[float], None]) -> None:
    exports = compiled(instance(SPIN, [lambda x: x], config))
    seen: Counter[tuple[str, ...]] = Counter()
    for number in range(60):
        with pytest.raises(Alarm) as caught:  # noqa: PT012
            alarm(0.004 + 0.0001 * (number % 7))
            exports.outer(number)
        seen[tuple(name for name in names_of(caught) if name in ("outer", "spin", "leaf"))] += 1
    # On a busy machine it may ring before the call has begun.
    assert set(seen) <= {(), ("outer",), ("outer", "spin"), ("outer", "spin", "leaf")}, seen
    assert seen["outer", "spin"] > 3
    assert exports.memory.read_u32(16) > 60


@every_level
def test_host_functions_are_interrupted(config: Config, alarm: Callable[[float], None]) -> None:
    exports = compiled(instance(SPIN, [lambda x: sum(range(x))], config))
    seen = 0
    for number in range(40):
        with pytest.raises(Alarm) as caught:  # noqa: PT012
            alarm(0.004 + 0.0001 * (number % 5))
            exports.hosts()
        seen += "hosts" in names_of(caught)
    assert seen > 3


def test_control_c_in_another_process(run_python: Callable[..., Any]) -> None:
    done = run_python(
        """
        import os, signal, threading
        import trapline as t
        store = t.Store()
        text = '(module (import "m" "started" (func)) (func (export "spin") (call 0) (loop $l (br $l))))'
        started = threading.Event()
        module = t.Module(store.engine, t.parse_text(text))
        spin = t.Instance(store, module, [lambda: started.set()]).exports.spin
        def interrupt():
            started.wait()
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            spin()
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert done.stdout == "interrupted\n"
