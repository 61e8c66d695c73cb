"""What the demo shows of a trap: the report that `trapline run` prints, and the machine's side of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from trapline.cli.demo.program import FOLDER
from trapline.cli.demo.screen import Screen
from trapline.cli.style import Style
from trapline.cli.trap_report import Sources, trap_report
from trapline.runtime.wasm_trap import TrapEvent

__all__ = ["Report"]

_ROW_COLUMNS: Final = 90


class _ProgramSources(Sources):
    """The source of the program lies beside this file, wherever it lay when it was compiled."""

    def text(self, file: str) -> list[str] | None:
        return super().text(str(FOLDER / Path(file).name))


class Report:
    """Prints traps of the program."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._sources = _ProgramSources()
        self._style = Style(screen.colour)

    def _paragraphs(self, event: TrapEvent) -> list[str]:
        return trap_report(event, self._sources, self._style).replace("./thumbnail.c", "thumbnail.c").split("\n\n")

    def full(self, event: TrapEvent) -> None:
        """Everything: reason, source, backtrace, values, memory, and the native instructions."""
        for paragraph in self._paragraphs(event):
            self._say(paragraph)
        if len(event.frames) > 1:
            caller = event.frames[1]
            self._screen.say(self._style.head(f"Locals of {caller.info.label}, which waits for it:"))
            self._screen.say(f"  {_row([str(value) for value in caller.locals])}")
            self._screen.say()
        self._screen.say(self._style.head("The machine code:"))
        self.machine(event)

    def brief(self, event: TrapEvent) -> None:
        """The reason, and the source line."""
        self._say(self._paragraphs(event)[0])

    def place(self, event: TrapEvent, level: int) -> str:
        """The function and line of a frame, as `average(), thumbnail.c:138`."""
        frame = event.frames[level]
        line = self._sources.find(frame.module, frame.info.pc)
        where = f"byte {frame.info.pc:#x}" if line is None else f"{Path(line.file).name}:{line.line}"
        return f"{frame.info.label}(), {where}"

    def machine(self, event: TrapEvent) -> None:
        """The native instructions around the trap."""
        pc = event.event.pc
        for instruction in event.event.disassembly(2, 2):
            here = instruction.address == pc
            text = f"  {'->' if here else '  '} {instruction.address:#x}  {instruction.text}"
            self._screen.say(text, "bold" if here else "dim")

    def _say(self, paragraph: str) -> None:
        for line in paragraph.splitlines():
            self._screen.say(line)
        self._screen.say()


def _row(words: list[str]) -> str:
    """As many of the words as a row has room for."""
    row = "  ".join(words)
    return row if len(row) <= _ROW_COLUMNS else row[: row.rindex("  ", 0, _ROW_COLUMNS)] + "  ..."
