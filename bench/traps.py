"""How long from a trap in native code into a Python handler and back?"""

from __future__ import annotations

import asyncio

import trapline
from bench.floors import floors
from bench.measure import Case
from bench.programs import image
from trapline.native import lib

TITLE = "Trap to Python and back, per event"
SIGNAL = "C: int3, empty handler, sigreturn"
CALL = "cffi: call of an empty C function"


class _Enough(Exception):
    pass




def _stops(fiber: trapline.Fiber, n: int) -> None:
    for _ in range(n):
        next(fiber)


def _callbacks(fiber: trapline.Fiber, n: int) -> None:
    left = n

    def handler(event: trapline.Event) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise _Enough

    try:
        fiber.run(handler)
    except _Enough:
        pass


def _registers(fiber: trapline.Fiber, n: int) -> None:
    for _ in range(n):
        event = next(fiber)
        event.registers.rax += 1


async def _one(fiber: trapline.Fiber) -> trapline.Event:
    return next(fiber)


async def _awaits(fiber: trapline.Fiber, n: int) -> None:
    for _ in range(n):
        await _one(fiber)


def _exceptions(function: trapline.Function, n: int) -> None:
    for _ in range(n):
        try:
            function()
        except trapline.Trap:
            pass


def _unwinds(code: trapline.CodeImage, n: int) -> None:
    entry = code["trap_once"]
    for _ in range(n):
        next(trapline.Fiber(entry, path="unwind"))


def cases() -> list[Case]:
    code = image()
    c = floors()
    cffi_noop = lib.tl_arch_direct_allowed

    def calls(n: int) -> None:
        for _ in range(n):
            cffi_noop()

    out = [Case(SIGNAL, c.traps_breakpoint), Case("C: division by zero, handler, sigreturn", c.traps_division)]
    for path in ("inject", "direct"):
        for name, run in (
            ("iterator", _stops),
            ("callback", _callbacks),
            ("iterator, one register read and written", _registers),
        ):
            fiber = trapline.Fiber(code["breakpoints"], path=path)
            out.append(Case(f"{path}: int3, {name}", lambda n, r=run, f=fiber: r(f, n), SIGNAL))
        released = trapline.Fiber(code["breakpoints"], path=path, gil="release")
        out.append(Case(f"{path}: int3, iterator, GIL released", lambda n, f=released: _stops(f, n), SIGNAL))
        awaited = trapline.Fiber(code["breakpoints"], path=path)
        out.append(Case(f"{path}: int3, awaited in asyncio", lambda n, f=awaited: asyncio.run(_awaits(f, n)), SIGNAL))
        for label in ("divisions", "loads"):
            fiber = trapline.Fiber(code[label], (0,), path=path)
            out.append(Case(f"{path}: {label}, iterator", lambda n, f=fiber: _stops(f, n), SIGNAL))
    for label, instruction in (("halts", "hlt"), ("illegal", "ud2")):
        fiber = trapline.Fiber(code[label])
        out.append(Case(f"inject: {instruction}, iterator", lambda n, f=fiber: _stops(f, n), SIGNAL))
    out.append(Case("unwind: new fiber, int3, dropped", lambda n: _unwinds(code, n), SIGNAL))
    out.append(Case("call that traps, to the caught exception", lambda n: _exceptions(code["trap_once"], n), SIGNAL))
    out.append(Case(CALL, calls))
    checked = trapline.Fiber(code["checks"])
    out.append(Case("check: call of the stub, iterator", lambda n: _stops(checked, n), CALL))
    answered = trapline.Fiber(code["checks"])
    out.append(Case("check: call of the stub, callback", lambda n: _callbacks(answered, n), CALL))
    return out
