"""How long does a call from Python into native code and back take?"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from bench.floors import floors
from bench.measure import Case
from bench.programs import image

TITLE = "Call from Python into native code and back"
BUILTIN = "CPython: call of a built-in method"
CFFI = "cffi: call of an empty C function"


def _repeat(function: Callable[..., object], *args: float) -> Callable[[int], None]:
    """Calls in a loop, without the cost of unpacking arguments where there are none or two."""

    def without(n: int) -> None:
        for _ in range(n):
            function()

    def with_two(n: int) -> None:
        first, second = args
        for _ in range(n):
            function(first, second)

    return with_two if args else without


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
    return [Case(name, _repeat(function, *args), floor) for name, function, args, floor in rows]
