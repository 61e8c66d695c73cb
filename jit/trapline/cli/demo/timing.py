"""How long each part of running the program takes, beside wasmtime's Python package where it is installed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from trapline.cli.demo import program
from trapline.errors import WasmTrap
from trapline.runtime.module import Module
from trapline.runtime.wasm_trap import TrapEvent

__all__ = ["Part", "measure"]

_COLUMNS: Final = 72
_ROWS: Final = 44
_SMALLEST: Final = b"qoif" + (1).to_bytes(4, "big") * 2 + b"\x04\x00"
"""The smallest QOI file: a header that tells of one pixel, and no data. Of two columns the second is an empty box, so
that three divisions by zero follow at once, one a channel."""
_TRAPS: Final = 3


class Part(NamedTuple):
    """One row: what was timed, in seconds here and there (None: not installed, or there is no such thing)."""

    what: str
    trapline_s: float
    wasmtime_s: float | None


def _each_s(action: Callable[[], object], times: int, rounds: int = 3) -> float:
    """The shortest mean of some rounds."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(times):
            action()
        found.append((time.perf_counter() - start) / times)
    return min(found)


def _trapline(data: bytes) -> dict[str, float]:
    engine, wasm = program.engine(), program.wasm()
    found = {"load": _each_s(lambda: Module(engine, wasm), 1)}
    module = Module(engine, wasm)
    start = time.perf_counter()
    module.compile()
    found["compile"] = time.perf_counter() - start
    run = program.Run(engine, module, data, _COLUMNS, _ROWS)
    found["run"] = _each_s(lambda: (run.exports.reserve(len(data)), run.call()), 5)
    result = run.exports.result
    found["call"] = _each_s(result, 20_000)
    small = program.Run(engine, module, _SMALLEST, 2, 1)

    def trap() -> None:
        try:
            small.call()
        except WasmTrap:
            pass

    found["trap"] = _each_s(trap, 200)

    def skip(event: TrapEvent) -> None:
        event.skip(0)

    small.store.set_trap_handler(skip)
    found["mend"] = _each_s(small.call, 100) / _TRAPS
    return found


def _wasmtime(data: bytes) -> dict[str, float]:
    try:
        import wasmtime
    except ImportError:
        return {}
    wasm = program.wasm()
    engine = wasmtime.Engine()
    found = {"load": _each_s(lambda: wasmtime.Module.validate(engine, wasm), 1)}
    start = time.perf_counter()
    module = wasmtime.Module(engine, wasm)
    found["compile"] = max(0.0, time.perf_counter() - start - found["load"])
    store = wasmtime.Store(engine)
    exports: Any = wasmtime.Instance(store, module, []).exports(store)
    reserve, thumbnail, result = exports["reserve"], exports["thumbnail"], exports["result"]
    exports["memory"].write(store, data, reserve(store, len(data)))
    found["run"] = _each_s(lambda: (reserve(store, len(data)), thumbnail(store, _COLUMNS, _ROWS)), 5)
    found["call"] = _each_s(lambda: result(store), 2_000)
    exports["memory"].write(store, _SMALLEST, reserve(store, len(_SMALLEST)))

    def trap() -> None:
        try:
            thumbnail(store, 2, 1)
        except wasmtime.Trap:
            pass

    found["trap"] = _each_s(trap, 200)
    return found


def measure(data: bytes) -> list[Part]:
    """Every part, for one good picture."""
    here, there = _trapline(data), _wasmtime(data)
    rows = {
        "load": "decode and validate the module",
        "compile": "compile all of it",
        "run": "run: the whole picture",
        "call": "call a function of three instructions",
        "trap": "trap, to the caught exception",
        "mend": "trap, mended and resumed",
    }
    return [Part(what, here[key], there.get(key)) for key, what in rows.items()]
