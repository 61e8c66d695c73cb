"""`trapline demo --input FILE`: the program on any file; whatever traps is shown, and mended by one rule for all.

The rule: a write behind the end of the memory gets more memory, as far as 256 MiB. Everything else is passed over, with
zeros for what it should have given. After so many traps, or so many seconds, the program is left.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from trapline.cli.demo import program
from trapline.cli.demo.program import Run
from trapline.cli.demo.report import Report
from trapline.cli.demo.screen import Screen
from trapline.errors import CallError, FiberError, MemoryAccessError, TraplineError, WasmTrap, WasmTrapCode
from trapline.runtime.module import Module
from trapline.runtime.wasm_trap import TrapEvent

__all__ = ["read_any"]

_COLUMNS: Final = 72
_MOST_ROWS: Final = 60
_MOST_BYTES: Final = 64 << 20
_MOST_TRAPS: Final = 20_000
_MOST_S: Final = 5.0
_SHOWN: Final = 3
_GROWTH_PAGES: Final = 64


def _rows(data: bytes) -> int:
    """How many rows of pixels suit the picture; an even number."""
    width, height = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
    wanted = _COLUMNS * height // width if width else _MOST_ROWS
    return max(2, min(_MOST_ROWS, wanted)) // 2 * 2


def _mend(event: TrapEvent, run: Run) -> str:
    """Go on by the rule; returns what was done, in words. Raises FiberError where there is no going on."""
    memory = run.memory
    if event.address is not None and "write" in event.detail and event.address >= len(memory):
        pages = (event.address + 64 - len(memory)) // 65536 + _GROWTH_PAGES
        try:
            memory.grow(pages)
        except MemoryAccessError:
            pass
        else:
            event.retry()
            return f"the memory grows by {pages} pages; the write is tried again"
    try:
        event.skip()
    except CallError:
        event.skip(0)
        return "passed over, with 0 for its result"
    return "passed over"


def _run(screen: Screen, report: Report, run: Run) -> tuple[str, int]:
    """Run the program to its end or to a limit; returns how it ended, in words, and how many traps there were."""
    call = run.start()
    deadline = time.monotonic() + _MOST_S
    timer = threading.Timer(_MOST_S, call.fiber.interrupt)
    timer.daemon = True
    timer.start()
    traps = 0
    try:
        for event in call:
            if event.reason is WasmTrapCode.INTERRUPT:
                continue  # not mended: the next round raises it
            traps += 1
            if traps > _MOST_TRAPS or time.monotonic() > deadline:
                continue
            if traps <= _SHOWN:
                report.brief(event)
            try:
                done = _mend(event, run)
            except FiberError as error:
                screen.say(str(error), "dim")
                continue
            if traps <= _SHOWN:
                screen.say(f"=> {done}", "good")
                screen.say()
        words = program.STATUS.get(call.result, f"status {call.result}")
    except WasmTrap as trap:
        limit = time.monotonic() > deadline or traps > _MOST_TRAPS
        words = f"left after {_MOST_S:.0f} s or {_MOST_TRAPS:,} traps" if limit else f"left at: {trap.reason.value}"
    finally:
        timer.cancel()
        timer.join()
    return words, traps


def read_any(screen: Screen, path: Path) -> int:
    """Run the program on a file and draw what came of it; returns the exit status. Raises TraplineError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise TraplineError(f"{path}: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise TraplineError(f"{path}: found more than {_MOST_BYTES:,} bytes, the most that is read")
    engine = program.engine()
    module = Module(engine, program.wasm(), name="thumbnail.wasm")
    run = Run(engine, module, data, _COLUMNS, _rows(data))
    screen.act(f"thumbnail.c reads {path.name} ({len(data):,} bytes)")
    start = time.perf_counter()
    words, traps = _run(screen, Report(screen), run)
    spent_s = time.perf_counter() - start
    if traps > _SHOWN:
        screen.say(f"... and {traps - _SHOWN:,} more traps.")
    rows = run.pixels()
    if any(pixel != (0, 0, 0) for row in rows for pixel in row):
        if traps > _SHOWN:
            screen.say()
        for line in screen.picture(rows):
            screen.say(line)
        screen.say()
    image = run.image
    screen.say(f"{words}: {image.width:,} x {image.height:,} pixels, {traps:,} traps, {spent_s:.2f} s", "good")
    return 0
