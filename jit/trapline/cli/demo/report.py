"""What the demo shows of a trap: the source, the backtrace, locals and operands, memory, the instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from trapline.cli.demo.program import FOLDER
from trapline.cli.demo.screen import Screen
from trapline.debug.lines import LineTable, SourceLine
from trapline.errors import WasmFrameInfo, WasmTrapCode
from trapline.runtime.frame import Frame
from trapline.runtime.memory import Memory
from trapline.runtime.module import Module
from trapline.runtime.wasm_trap import TrapEvent

__all__ = ["Report", "full_reason"]

_ROW_BYTES: Final = 16
_ROW_COLUMNS: Final = 76
_FRAMES_WITH_LOCALS: Final = 2
_WORDS: Final = {
    WasmTrapCode.UNDEFINED_ELEMENT: "a call through a function pointer that points at no function",
    WasmTrapCode.UNINITIALIZED_ELEMENT: "a call through a null function pointer",
    WasmTrapCode.INDIRECT_CALL_TYPE: "a call through a pointer to a function of another type",
}


def full_reason(event: TrapEvent) -> str:
    """The reason of a trap in words, with what is known of the access."""
    words = _WORDS.get(event.reason)
    detail = event.detail or words
    return event.reason.value + (f": {detail}" if detail else "")


class Report:
    """Prints traps of the program."""

    def __init__(self, screen: Screen, module: Module) -> None:
        self._screen = screen
        self._lines = LineTable.of(module.decoded)
        self._sources: dict[str, list[str]] = {}

    def line(self, info: WasmFrameInfo) -> SourceLine | None:
        """The source line of a frame."""
        return self._lines.find(info.pc)

    def _source(self, line: SourceLine) -> list[str]:
        name = Path(line.file).name
        if name not in self._sources:
            path = FOLDER / name
            self._sources[name] = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return self._sources[name]

    def place(self, info: WasmFrameInfo) -> str:
        """Where a frame is: file and line, or the byte of the module."""
        line = self.line(info)
        return f"byte {info.pc:#x}" if line is None else f"{Path(line.file).name}:{line.line}"

    def reason(self, event: TrapEvent) -> None:
        """One line: why and where."""
        self._screen.say(full_reason(event), "bad")

    def source(self, event: TrapEvent, around: int = 2) -> None:
        """The line that trapped, between its neighbours, with a mark under the column."""
        if not event.frames:
            return
        line = self.line(event.frames[0].info)
        text = self._source(line) if line is not None else []
        if line is None or not 1 <= line.line <= len(text):
            return
        screen = self._screen
        for number in range(max(1, line.line - around), min(len(text), line.line + around) + 1):
            if number != line.line:
                screen.say(f"   {number:4} | {text[number - 1]}", "dim")
                continue
            screen.say(f"-> {number:4} | {text[number - 1]}", "bold")
            if line.column:
                screen.say(" " * (9 + line.column) + "^", "bad")

    def backtrace(self, event: TrapEvent) -> None:
        """The frames, with the locals and operands of the innermost ones."""
        screen = self._screen
        for level, frame in enumerate(event.frames):
            info = frame.info
            screen.say(f"#{level} {screen.paint('name', f'{info.label:<10}')} {self.place(info)}")
            if level < _FRAMES_WITH_LOCALS:
                self._values(frame)

    def _values(self, frame: Frame) -> None:
        self._screen.say(f"     locals    {_row([f'${n}={_value(value)}' for n, value in enumerate(frame.locals)])}")
        operands = [_value(value) for value in frame.operands]
        if operands:
            self._screen.say(f"     operands  {_row(operands)}")

    def memory(self, event: TrapEvent, rows: int = 1) -> None:
        """The bytes around the address of an access."""
        address = event.address
        instance = event.frames[0].instance if event.frames else None
        if address is None or instance is None or not instance.memories:
            return
        memory: Memory = instance.memories[0]
        middle = address // _ROW_BYTES * _ROW_BYTES
        for start in range(max(0, middle - rows * _ROW_BYTES), middle + (rows + 1) * _ROW_BYTES, _ROW_BYTES):
            data: bytes = memory[start : min(start + _ROW_BYTES, len(memory))]
            cells = [f"{byte:02x}" for byte in data] + ["--"] * (_ROW_BYTES - len(data))
            mark = "->" if start == middle else "  "
            words = "  ".join(" ".join(cells[at : at + 4]) for at in range(0, _ROW_BYTES, 4))
            self._screen.say(f"{mark} {start:#010x}  {words}{'' if data else '   no memory'}", None if data else "dim")

    def machine(self, event: TrapEvent) -> None:
        """The native instructions around the trap."""
        pc = event.event.pc
        for instruction in event.event.disassembly(2, 2):
            here = instruction.address == pc
            text = f"{'->' if here else '  '} {instruction.address:#x}  {instruction.text}"
            self._screen.say(text, "code" if here else "dim")


def _row(words: list[str]) -> str:
    """As many of the words as a row has room for."""
    row = "  ".join(words)
    if len(row) <= _ROW_COLUMNS:
        return row
    return row[: row.rindex("  ", 0, _ROW_COLUMNS)] + "  ..."


def _value(value: Any) -> str:
    return f"{value:#x}" if isinstance(value, int) and value >= 0x10000 else str(value)
