"""The acts of the demo: the program at work, a file it cannot bear, the same call brought to its end, the costs."""

from __future__ import annotations

import time
from typing import Final

from trapline.cli.demo import mends, program, timing
from trapline.cli.demo.program import FOLDER, Run
from trapline.cli.demo.report import Report
from trapline.cli.demo.screen import Screen
from trapline.errors import FiberError, TraplineError, WasmTrapCode
from trapline.runtime.engine import Engine
from trapline.runtime.module import Module
from trapline.runtime.wasm_trap import TrapEvent

__all__ = ["play"]

_COLUMNS: Final = 72
_ROWS: Final = 44
_MENDS: Final[dict[WasmTrapCode, mends.Mend]] = {
    WasmTrapCode.MEMORY_BOUNDS: mends.no_room,
    WasmTrapCode.UNDEFINED_ELEMENT: mends.wild_pointer,
    WasmTrapCode.DIVIDE_BY_ZERO: mends.empty_box,
}


def _time(seconds: float) -> str:
    """A time in three digits or so."""
    for unit, scale in (("s ", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:,.{0 if seconds >= 100 * scale else 1}f} {unit}"
    return f"{seconds * 1e9:,.0f} ns"


class _Play:
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._engine: Engine = program.engine()
        wasm = program.wasm()
        start = time.perf_counter()
        self._module = Module(self._engine, wasm, name="thumbnail.wasm")
        self._loaded_s = time.perf_counter() - start
        self._wasm_bytes = len(wasm)
        self._report = Report(screen)

    # ---- 1 ----

    def at_work(self, data: bytes) -> None:
        """The program reads a good picture."""
        screen, module = self._screen, self._module
        screen.act("A C program, in this Python process, at native speed")
        start = time.perf_counter()
        module.compile()
        compiled_s = time.perf_counter() - start
        run = Run(self._engine, module, data, _COLUMNS // 2, _ROWS // 2)
        start = time.perf_counter()
        status = run.call()
        run_s = time.perf_counter() - start
        image = run.image
        if status:
            raise TraplineError(f"sunset.qoi: {program.STATUS[status]}")
        lines = (FOLDER / "thumbnail.c").read_text(encoding="utf-8").count("\n")
        functions = module.decoded.code
        beside = [
            screen.paint("bold", "thumbnail.c"),
            f"{lines} lines of C, compiled by clang -O1 -g",
            f"to {self._wasm_bytes:,} bytes of WebAssembly",
            "",
            screen.paint("bold", "trapline"),
            f"decoded and validated    {_time(self._loaded_s):>9}",
            f"{len(functions)} functions compiled     {_time(compiled_s):>9}",
            "",
            screen.paint("bold", "sunset.qoi"),
            f"{image.width} x {image.height} pixels in        {_time(run_s):>9}",
            screen.paint("good", f"{image.width * image.height / run_s / 1e6:,.0f} million pixels a second"),
        ]
        for drawn, words in zip(screen.picture(run.pixels()), beside, strict=True):
            screen.say(f"{drawn}   {words}")

    # ---- 2, 3, 4 ----

    def damaged(self, data: bytes) -> None:
        """The program reads a damaged file, with three traps that are mended."""
        screen = self._screen
        screen.act("The same program, and a damaged file")
        run = Run(self._engine, self._module, data, _COLUMNS, _ROWS)
        call = run.start()
        seen: dict[WasmTrapCode, int] = {}
        shown_s = 0.0
        for event in call:
            reason = event.reason
            mend = _MENDS.get(reason)
            if mend is None:
                continue
            seen[reason] = seen.get(reason, 0) + 1
            if seen[reason] == 1:
                if len(seen) == 1:
                    self._first(event, run, mend)
                else:
                    self._next(event, run, mend)
                shown_s = time.perf_counter()
            else:
                mend(event, run)
        repeated_s = time.perf_counter() - shown_s
        again = sum(seen.values()) - len(seen)
        if again:
            screen.say()
            each = _time(repeated_s / again).strip()
            screen.say(f"... and {again} more empty boxes, with the same answer: {each} each, code and all.")
        screen.act("The same call returns")
        for line in screen.picture(run.pixels()):
            screen.say(line)
        screen.say()
        words = f"{program.STATUS[call.result]}: {sum(seen.values())} traps, {len(seen)} bugs, one call."
        screen.say(f"thumbnail({run.columns}, {run.rows}) -> {call.result}  {words}", "good")
        screen.say("The program was never changed, restarted or compiled anew, and holds no checks for this.")

    def _image(self, run: Run) -> None:
        image = run.image
        pairs = ("width", image.width), ("height", image.height), ("channels", image.channels)
        known = "  ".join(f"{name}={value}" for name, value in (*pairs, ("colour_space", image.colour_space)))
        self._screen.say(f"image: {known}  pixels={image.pixels:#x}")

    def _mend(self, mend: mends.Mend, event: TrapEvent, run: Run) -> None:
        screen = self._screen
        screen.say("Python, meanwhile:", "dim")
        for line in mends.statements(mend):
            screen.say(f"    {line}", "code")
        mend(event, run)

    def _first(self, event: TrapEvent, run: Run, mend: mends.Mend) -> None:
        screen = self._screen
        self._report.full(event)
        screen.say()
        image = run.image
        room, wanted = image.channels * image.width * image.height, 4 * image.width * image.height
        self._image(run)
        screen.say(f"The file says 3 bytes a pixel: room for {room:,}. The decoder writes 4: {wanted:,}.")
        screen.say("Elsewhere the call would be lost now. Here it waits, at that very instruction.")
        screen.say()
        before = len(run.memory)
        self._mend(mend, event, run)
        screen.say()
        screen.say(f"{before:,} -> {len(run.memory):,} bytes. The same store runs again, and the program goes on ...")

    def _next(self, event: TrapEvent, run: Run, mend: mends.Mend) -> None:
        screen, report = self._screen, self._report
        operands = event.frames[0].operands
        if event.reason is WasmTrapCode.UNDEFINED_ELEMENT:
            screen.act("It goes on, to the next bug, and the next")
            report.brief(event)
            entry, found = run.image.colour_space, operands[-1]
            screen.say(f"A table of two functions, and entry {entry} was called. What lies there is {found}.")
        else:
            screen.say()
            report.brief(event)
            screen.say(f"{operands[0]} / {operands[1]}, for {report.place(event, 1)}: a box without pixels.")
        self._mend(mend, event, run)

    # ---- 5 ----

    def costs(self, data: bytes) -> None:
        """The times of each part."""
        screen = self._screen
        screen.act("What it costs")
        parts = timing.measure(data)
        beside = any(part.wasmtime_s is not None for part in parts)
        screen.say(f"{'':<40}{'trapline':>12}" + (f"{'wasmtime-py':>16}" if beside else ""), "dim")
        for part in parts:
            there = "" if not beside else "-" if part.wasmtime_s is None else _time(part.wasmtime_s)
            screen.say(f"{part.what:<40}{_time(part.trapline_s):>12}{there:>16}")
        if not beside:
            screen.say("(pip install wasmtime shows that runtime beside it)", "dim")
        screen.say()
        screen.say("Next: trapline demo --input FILE.qoi, trapline demo --core, docs/traps.md", "dim")


def play(screen: Screen) -> int:
    """Play all acts; returns the exit status."""
    good, damaged = ((FOLDER / name).read_bytes() for name in ("sunset.qoi", "damaged.qoi"))
    acts = _Play(screen)
    try:
        acts.at_work(good)
        acts.damaged(damaged)
        acts.costs(good)
    except FiberError as error:
        raise TraplineError(f"demo: {error}") from error
    return 0
