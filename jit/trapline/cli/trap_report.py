"""The report on a trap: what happened, in which source line, by which calls, with which values.

Made from a `TrapEvent` while the code is stopped, since its frames are gone afterwards.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from trapline.cli.style import Style
from trapline.debug.demangle import demangle
from trapline.debug.lines import LineTable, SourceLine
from trapline.errors import WasmTrapCode
from trapline.runtime.frame import Frame
from trapline.runtime.memory import Memory
from trapline.runtime.wasm_trap import TrapEvent
from trapline.wasm.module import Module
from trapline.wasm.print_body import opcode_text
from trapline.wasm.types import EXTERNREF, F32, F64, FUNCREF, I32, I64, value_type_name

__all__ = ["Sources", "trap_report"]

_CALLS: Final = 16
_LAST_CALLS: Final = 4
_LOCALS: Final = 16
_OPERANDS: Final = 8
_LINES_BEFORE, _LINES_BEHIND = 2, 1
_MOST_SOURCE_BYTES: Final = 8 << 20
_ROW: Final = 16
"""Bytes in a line of memory."""
_LOADS: Final = range(0x28, 0x36)
_STORES: Final = range(0x36, 0x3F)
_WIDTHS: Final = dict(
    zip(
        (*_LOADS, *_STORES),
        (4, 8, 4, 8, 1, 1, 2, 2, 1, 1, 2, 2, 4, 4, 4, 8, 4, 8, 1, 2, 1, 2, 4),
        strict=True,
    )
)
"""Bytes that a load or store accesses, by opcode."""


class Sources:
    """Line tables of modules, and the lines of source files; both are read when they are first asked for."""

    def __init__(self) -> None:
        self._tables: dict[int, tuple[Module, LineTable]] = {}
        self._files: dict[str, list[str] | None] = {}

    def find(self, module: Module, pc: int) -> SourceLine | None:
        """The source line of a byte of a module."""
        known = self._tables.get(id(module))
        if known is None:
            known = self._tables[id(module)] = module, LineTable.of(module)
        return known[1].find(pc)

    def text(self, file: str) -> list[str] | None:
        """The lines of a source file; None where it is not here."""
        if file not in self._files:
            found: list[str] | None = None
            try:
                path = Path(file)
                if path.is_file() and path.stat().st_size <= _MOST_SOURCE_BYTES:
                    found = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except (OSError, ValueError):
                pass
            self._files[file] = found
        return self._files[file]


def trap_report(event: TrapEvent, sources: Sources, style: Style) -> str:
    """Everything there is to say of a trap, in lines without a newline at the end."""
    lines = [f"{style.error('trap')}{style.bold(': ' + _reason(event))}"]
    frames = event.frames
    if frames:
        lines += _where(frames, sources, style)
        lines += ["", style.head("Backtrace, innermost first:"), *_backtrace(frames, sources, style)]
        if event.reason != WasmTrapCode.STACK_EXHAUSTED:
            lines += _values(frames[0], style)
        lines += _memory(event, frames[0], style)
    return "\n".join(lines)


def _reason(event: TrapEvent) -> str:
    text = event.reason.value
    access = _access(event)
    if access is None:
        return text + (f": {event.detail}" if event.detail else "")
    verb = "write" if access.writes else "read"
    size = f"{access.width} byte{'s' * (access.width != 1)}"
    size_bytes = len(access.memory)
    pages = f"{access.memory.pages:,} page{'s' * (access.memory.pages != 1)}"
    return f"{text}: {verb} of {size} at {access.address:#x}, memory ends at {size_bytes:#x} ({pages})"


class _Access(NamedTuple):
    """A load or store that went out of bounds; `address` counts from the start of the memory."""

    address: int
    width: int
    writes: bool
    memory: Memory


def _access(event: TrapEvent) -> _Access | None:
    """The load or store that the trap is of. Its address is computed from the operands as the program did."""
    if event.reason != WasmTrapCode.MEMORY_BOUNDS or not event.frames:
        return None
    frame = event.frames[0]
    body = frame.body
    opcode, immediate = body.opcodes[frame.opcode], body.immediates[frame.opcode]
    instance = frame.instance
    if opcode not in _WIDTHS or instance is None or not instance.memories or not isinstance(immediate, tuple):
        return None
    operands = frame.operands
    base = operands.bits(len(operands) - (2 if opcode in _STORES else 1))
    if base is None:
        return None
    return _Access((base & 0xFFFF_FFFF) + immediate[1], _WIDTHS[opcode], opcode in _STORES, instance.memories[0])


# ---- where ----


def _where(frames: list[Frame], sources: Sources, style: Style) -> list[str]:
    """The source line with a mark under it: of the innermost call whose source is here, as libraries' seldom are.

    Where there is none of the first calls, the opcodes.
    """
    arrow = style.dim("-->")
    for number, frame in enumerate(frames[:_CALLS]):
        line = sources.find(frame.module, frame.info.pc)
        found = None if line is None else _source(line, sources, style)
        if line is not None and found is not None:
            whose = f" in {style.name(demangle(frame.info.label))}" if number else ""
            return [f"   {arrow} {style.place(_shown(line))}{whose}", *found]
    info = frames[0].info
    line = sources.find(frames[0].module, info.pc)
    where = f"{info.module}, byte {info.pc:#x}" if line is None else _shown(line)
    return [f"   {arrow} {style.place(where)}", *_opcodes(frames[0], style)]


def _source(line: SourceLine, sources: Sources, style: Style) -> list[str] | None:
    text = sources.text(line.file)
    if text is None or line.line > len(text):
        return None
    first = max(line.line - _LINES_BEFORE, 1)
    last = min(line.line + _LINES_BEHIND, len(text))
    width = max(len(str(last)), 3)
    bar = style.dim("|")
    out = [f" {'':{width}} {bar}"]
    for number in range(first, last + 1):
        shown = _printable(text[number - 1])
        label = f"{number:{width}}"
        here = number == line.line
        out.append(f" {style.bold(label) if here else style.dim(label)} {bar} {shown}".rstrip())
        if here and line.column:
            indent = len(_printable(text[number - 1][: line.column - 1]))
            out.append(f" {'':{width}} {bar} {' ' * indent}{style.mark('^')}")
    return out


def _printable(text: str) -> str:
    """A line of a file as a terminal may have it."""
    return "".join([char if char.isprintable() else " " for char in text.expandtabs(4)])[:400]


def _opcodes(frame: Frame, style: Style) -> list[str]:
    """The opcodes around the one that trapped."""
    body = frame.body
    at = frame.opcode
    chosen = range(max(at - 3, 0), min(at + 2, len(body.opcodes)))
    width = max(len(f"{body.offsets[number]:#x}") for number in chosen)
    bar = style.dim("|")
    out = [f" {'':{width}} {bar}"]
    for number in chosen:
        label = f"{body.offsets[number]:#{width}x}"
        text = opcode_text(body.opcodes[number], body.immediates[number])
        if number != at:
            out.append(f" {style.dim(label)} {bar} {text}")
            continue
        out.append(f" {style.bold(label)} {bar} {text}")
        out.append(f" {'':{width}} {bar} {style.mark('^' * len(text.split()[0]))}")
    return out


class _Call(NamedTuple):
    """A line of the backtrace: frame `number` and the `again` further ones that are at the same opcode."""

    number: int
    again: int
    frame: Frame


def _calls(frames: list[Frame]) -> list[_Call]:
    """The frames, those of a recursion together."""
    found: list[_Call] = []
    for number, frame in enumerate(frames):
        if found and found[-1].frame.is_at(frame):
            found[-1] = found[-1]._replace(again=found[-1].again + 1)
        else:
            found.append(_Call(number, 0, frame))
    return found


def _backtrace(frames: list[Frame], sources: Sources, style: Style) -> Iterator[str]:
    calls = _calls(frames)
    left_out = len(calls) - _CALLS - _LAST_CALLS
    if left_out > 1:
        calls = [*calls[:_CALLS], *calls[-_LAST_CALLS:]]
    texts = [_call(call, sources) for call in calls]
    names, places = (min(max(len(text[column]) for text in texts), 60) for column in (0, 1))
    digits = len(str(calls[-1].number))
    for position, (call, (name, place, byte)) in enumerate(zip(calls, texts, strict=True)):
        if left_out > 1 and position == _CALLS:
            yield f"  {'':{digits}}  {style.dim(f'... {left_out:,} more lines ...')}"
        columns = (
            style.name(name) + " " * (names - len(name)),
            style.place(place) + " " * (places - len(place)),
            style.dim(byte),
        )
        yield f"  {call.number:{digits}}  {'  '.join(columns)}"
        if call.again:
            more = f"and {call.again:,} more call{'s' * (call.again != 1)} from there"
            yield f"  {'':{digits}}  {style.dim(more)}"


def _call(call: _Call, sources: Sources) -> tuple[str, str, str]:
    """Function, source line or module, and byte."""
    info = call.frame.info
    line = sources.find(call.frame.module, info.pc)
    place = info.module if line is None else _short(line)
    return demangle(info.label), place, f"byte {info.pc:#x}, +{info.code_offset:#x}"


def _shown(line: SourceLine) -> str:
    """A line as a terminal's user would name it: from the folder that this is, where the file lies below it."""
    file = os.path.normpath(line.file) if line.file.startswith("/") else line.file
    try:
        file = file.removeprefix(os.getcwd().rstrip("/") + "/")
    except OSError:
        pass  # this folder is gone
    return str(line._replace(file=file))


def _short(line: SourceLine) -> str:
    """A line with the last parts of a long path."""
    text = _shown(line)
    if len(text) > 60 and "/" in text[-57:]:
        return "..." + text[text.index("/", len(text) - 57) :]
    return text


# ---- values ----


def _values(frame: Frame, style: Style) -> Iterator[str]:
    info, module = frame.info, frame.module
    names = module.names.locals.get(info.function, {})
    parameters = len(module.function_types[info.function].params)
    values, operands = frame.locals, frame.operands
    if len(values):
        yield ""
        yield style.head(f"Locals of {demangle(info.label)}:")
        yield from _table(
            [
                (names.get(at, f"{'param' if at < parameters else 'local'} {at}"), values.types[at], values.bits(at))
                for at in _chosen(len(values), names)
            ],
            style,
        )
        if len(values) > _LOCALS:
            yield f"  {style.dim(f'... {len(values) - _LOCALS} more ...')}"
    if len(operands):
        yield ""
        yield style.head("Operands, the top of the stack last:")
        first = max(len(operands) - _OPERANDS, 0)
        rows = [(f"[{at}]", operands.types[at], operands.bits(at)) for at in range(first, len(operands))]
        yield from _table(rows, style)


def _chosen(count: int, names: dict[int, str]) -> list[int]:
    """Which locals to show: all, or those with names and the first others."""
    if count <= _LOCALS:
        return list(range(count))
    ranked = sorted(range(count), key=lambda at: (at not in names, at))[:_LOCALS]
    return sorted(ranked)


def _table(rows: list[tuple[str, int, int | None]], style: Style) -> Iterator[str]:
    width = min(max(len(name) for name, _, _ in rows), 32)
    for name, type_, bits in rows:
        shown = style.dim("optimized out") if bits is None else _value(type_, bits)
        yield f"  {name:{width}}  {style.dim(value_type_name(type_))}  {shown}"


def _value(type_: int, bits: int) -> str:
    """A value from its bits, integers also in hexadecimal where that tells more."""
    if type_ in (I32, I64):
        width = 32 if type_ == I32 else 64
        bits &= (1 << width) - 1
        signed = bits - (1 << width) if bits >> width - 1 else bits
        return str(signed) if 0 <= signed < 10 else f"{signed}  {bits:#x}"
    if type_ in (F32, F64):
        data = bits.to_bytes(8, "little")
        (number,) = struct.unpack("<f", data[:4]) if type_ == F32 else struct.unpack("<d", data)
        if type_ == F32 and number == number:
            return f"{number:.9g}"
        return repr(number) if number == number else f"nan  {bits:#x}"
    if type_ in (EXTERNREF, FUNCREF):
        return "a reference" if bits else "null"
    return f"{bits:#x}"


# ---- memory ----


def _memory(event: TrapEvent, frame: Frame, style: Style) -> Iterator[str]:
    """The last bytes of the memory, where a load or store went just beyond them."""
    access = _access(event)
    if access is None:
        return
    size_bytes = len(access.memory)
    if not size_bytes or access.address >= size_bytes + 16 * _ROW:
        return
    start = max(min(access.address, size_bytes) // _ROW * _ROW - 2 * _ROW, 0)
    start = min(start, max(size_bytes - 3 * _ROW, 0))
    yield ""
    yield style.head("Memory before its end:")
    width = len(f"{size_bytes:#x}")
    for at in range(start, size_bytes, _ROW):
        data = access.memory.read(at, min(_ROW, size_bytes - at))
        text = "".join([chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data])
        yield f"  {style.dim(f'{at:#{width}x}')}  {data.hex(' ', 1):{3 * _ROW - 1}}  {style.dim(f'|{text}|')}"
    yield f"  {size_bytes:#{width}x}  {style.mark('ends here')}"
