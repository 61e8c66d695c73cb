"""What does it cost to go into WebAssembly and out of it, next to wasmtime's Python package?

Calls of exports, calls of host functions, traps that become exceptions, memory read and written, instantiation. Each
row of trapline has wasmtime's for its floor, though it may well lie below it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

from bench.measure import Case, Row

TITLE = "Into WebAssembly and out of it, next to wasmtime-py"

SOURCE = """
(module
  (import "host" "nothing" (func $nothing))
  (import "host" "add" (func $add_host (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "nothing"))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "scale") (param f64 f64) (result f64) (f64.mul (local.get 0) (local.get 1)))
  (func (export "trap") unreachable)
  (func (export "outside") (result i32) (i32.load (i32.const -4)))
  (func (export "call_nothing") (param $n i32)
    (loop $next
      (call $nothing)
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "call_add") (param $n i32)
    (loop $next
      (drop (call $add_host (local.get $n) (i32.const 2)))
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))
"""


def _nothing() -> None:
    pass


def _add(a: int, b: int) -> int:
    return a + b


def _call(function: Callable[..., object], *args: object) -> Callable[[int], None]:
    """Calls in a loop, without the cost of unpacking arguments where there are none, two or three."""

    def with_none(n: int) -> None:
        for _ in range(n):
            function()

    def with_one(n: int) -> None:
        (first,) = args
        for _ in range(n):
            function(first)

    def with_two(n: int) -> None:
        first, second = args
        for _ in range(n):
            function(first, second)

    def with_three(n: int) -> None:
        first, second, third = args
        for _ in range(n):
            function(first, second, third)

    return (with_none, with_one, with_two, with_three)[len(args)]


def _catch(error: type[Exception], function: Callable[..., object], *args: object) -> Callable[[int], None]:
    def run(n: int) -> None:
        for _ in range(n):
            try:
                function(*args)
            except error:
                pass

    return run


def _collected(run: Callable[[int], object]) -> Callable[[int], None]:
    """With Python's garbage collection on: a store and its instances refer to each other, so it belongs to the cost."""

    def collecting(n: int) -> None:
        gc.enable()
        try:
            run(n)
        finally:
            gc.disable()

    return collecting


def _inner(function: Callable[..., object], *args: object) -> Callable[[int], object]:
    """A function that repeats by itself."""
    return lambda n: function(*args, n)


def _trapline(content: bytes) -> dict[str, Callable[[int], object]]:
    from trapline import Config, Engine, Linker, Module, Store
    from trapline.errors import TraplineError

    engine = Engine(Config())
    module = Module(engine, content)
    linker = Linker(engine)
    linker.define_func("host", "nothing", None, _nothing)
    linker.define_func("host", "add", None, _add)
    exports: Any = linker.instantiate(Store(engine), module).exports
    memory = exports["memory"]
    page = bytes(65536)

    def read_4(n: int) -> None:
        for _ in range(n):
            memory[4096:4100]

    def write_4(n: int) -> None:
        for _ in range(n):
            memory[4096:4100] = b"abcd"

    def read_64k(n: int) -> None:
        for _ in range(n):
            memory[0:65536]

    def write_64k(n: int) -> None:
        for _ in range(n):
            memory[0:65536] = page

    return {
        "nothing()": _call(exports["nothing"]),
        "i32(i32, i32)": _call(exports["add"], 40, 2),
        "f64(f64, f64)": _call(exports["scale"], 1.5, 2.5),
        "host function: nothing()": _inner(exports["call_nothing"]),
        "host function: i32(i32, i32)": _inner(exports["call_add"]),
        "unreachable, to the caught exception": _catch(TraplineError, exports["trap"]),
        "out of bounds, to the caught exception": _catch(TraplineError, exports["outside"]),
        "memory: 4 bytes read": read_4,
        "memory: 4 bytes written": write_4,
        "memory: 64 KiB read": read_64k,
        "memory: 64 KiB written": write_64k,
        "store and instance made": _collected(_call(lambda: linker.instantiate(Store(engine), module))),
    }


def _wasmtime(content: bytes) -> dict[str, Callable[[int], object]]:
    import wasmtime

    api: Any = wasmtime
    engine = api.Engine()
    module = api.Module(engine, content)
    linker = api.Linker(engine)
    linker.define_func("host", "nothing", api.FuncType([], []), _nothing)
    i32 = api.ValType.i32()
    linker.define_func("host", "add", api.FuncType([i32, i32], [i32]), _add)
    store = api.Store(engine)
    exports = linker.instantiate(store, module).exports(store)
    memory = exports["memory"]
    page = bytes(65536)
    return {
        "nothing()": _call(exports["nothing"], store),
        "i32(i32, i32)": _call(exports["add"], store, 40, 2),
        "f64(f64, f64)": _call(exports["scale"], store, 1.5, 2.5),
        "host function: nothing()": _inner(exports["call_nothing"], store),
        "host function: i32(i32, i32)": _inner(exports["call_add"], store),
        "unreachable, to the caught exception": _catch(api.Trap, exports["trap"], store),
        "out of bounds, to the caught exception": _catch(api.Trap, exports["outside"], store),
        "memory: 4 bytes read": _call(memory.read, store, 4096, 4100),
        "memory: 4 bytes written": _call(memory.write, store, b"abcd", 4096),
        "memory: 64 KiB read": _call(memory.read, store, 0, 65536),
        "memory: 64 KiB written": _call(memory.write, store, page, 0),
        "store and instance made": _collected(_call(lambda: linker.instantiate(api.Store(engine), module))),
    }


def cases() -> list[Case]:
    from trapline.wasm.text import parse_text

    content = parse_text(SOURCE)
    theirs, ours = _wasmtime(content), _trapline(content)
    out = []
    for name, run in ours.items():
        run(1)  # compiles, which is no part of a call
        theirs[name](1)
        out += [Case(f"wasmtime: {name}", theirs[name]), Case(f"trapline: {name}", run, f"wasmtime: {name}")]
    return out


def readme(found: Sequence[Row]) -> list[str]:
    """The lines of the README's table."""
    medians = {row.name: row.median_ns for row in found}
    lines = ["| median ns | trapline | wasmtime-py |", "|---|---:|---:|"]
    for name, median_ns in medians.items():
        who, _, what = name.partition(": ")
        if who == "trapline":
            lines.append(f"| {what} | {median_ns:,.0f} | {medians[f'wasmtime: {what}']:,.0f} |")
    return lines
