"""How long does a call from Python into native code and back take?"""

from __future__ import annotations

import ctypes

from bench.floors import floors
from bench.measure import Case
from bench.programs import image

TITLE = "Call from Python into native code and back"
BUILTIN = "CPython: call of a built-in method"
CFFI = "cffi: call of an empty C function"


def _repeat(function: object, *args: object) -> object:
    def run(n: int) -> None:
        for _ in range(n):
            function(*args)  # type: ignore[operator]

    def run_none(n: int) -> None:
        for _ in range(n):
            function()  # type: ignore[operator]

    def run_two(n: int) -> None:
        first, second = args
        for _ in range(n):
            function(first, second)  # type: ignore[operator]

    return {0: run_none, 2: run_two}.get(len(args), run)


def cases() -> list[Case]:
    from trapline.native import lib

    code = image()
    noop = floors().noop
    noop.restype = None
    plain = ctypes.PyDLL(floors()._name).noop
    plain.restype = None
    rows = [
        (BUILTIN, (5).__index__, (), None),
        (CFFI, lib.tl_arch_direct_allowed, (), BUILTIN),
        ("ctypes: call of an empty C function", noop, (), BUILTIN),
        ("ctypes, GIL kept: the same", plain, (), BUILTIN),
        ("trapline: nothing()", code.function("nothing", "void()"), (), BUILTIN),
        ("trapline: i64(i64, i64)", code.function("add", "i64(i64, i64)"), (40, 2), BUILTIN),
        ("trapline: f64(f64, f64)", code.function("add_f64", "f64(f64, f64)"), (1.5, 2.5), BUILTIN),
        ("trapline: types by argument", code["add"], (40, 2), BUILTIN),
        ("trapline: nothing(), GIL released", code.function("nothing", "void()", gil="release"), (), BUILTIN),
    ]
    return [Case(name, _repeat(function, *args), floor) for name, function, args, floor in rows]  # type: ignore[arg-type]
