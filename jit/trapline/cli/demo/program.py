"""The program of the demo: thumbnail.wasm, and a call of it on one file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trapline.runtime.engine import Config, Engine
from trapline.runtime.func import Call
from trapline.runtime.instance import Instance
from trapline.runtime.memory import Memory
from trapline.runtime.module import Module
from trapline.runtime.store import Store

__all__ = ["FOLDER", "STATUS", "Image", "Run", "engine", "wasm"]

FOLDER: Final = Path(__file__).resolve().parent
STATUS: Final = {0: "done", 1: "this is not a QOI picture", 2: "the header tells of more than 16,777,216 pixels"}
"""What `thumbnail` returns. Must match enum status in thumbnail.c."""

_MOST_PAGES: Final = 4096


def engine() -> Engine:
    """An engine whose memories end at 256 MiB, so that no damaged file can take more."""
    return Engine(Config(max_memory_pages=_MOST_PAGES))


def wasm() -> bytes:
    """The compiled program."""
    return (FOLDER / "thumbnail.wasm").read_bytes()


@dataclass(frozen=True, slots=True)
class Image:
    """`struct image` of thumbnail.c, read from the program's memory."""

    width: int
    height: int
    channels: int
    colour_space: int
    pixels: int


class Run:
    """One file given to a fresh instance of the program."""

    def __init__(self, engine: Engine, module: Module, data: bytes, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self.store = Store(engine)
        self.exports: Any = Instance(self.store, module).exports
        self.memory: Memory = self.exports.memory
        self.memory.write(self.exports.reserve(len(data)), data)

    def start(self) -> Call:
        """The call, as an iterator over its traps."""
        call: Call = self.exports.thumbnail.start(self.columns, self.rows)
        return call

    def call(self) -> int:
        """The call, which raises at a trap; returns a status."""
        status: int = self.exports.thumbnail(self.columns, self.rows)
        return status

    @property
    def image(self) -> Image:
        """What the program knows of the picture now."""
        return Image(*self.memory.unpack(self.exports.image.value, "5I"))

    def pixels(self) -> list[list[tuple[int, int, int]]]:
        """The thumbnail as it is now."""
        start = self.exports.result() & 0xFFFF_FFFF
        data = self.memory.read(start, 4 * self.columns * self.rows)
        flat = [pixel[:3] for pixel in struct.iter_unpack("4B", data)]
        return [flat[row * self.columns : (row + 1) * self.columns] for row in range(self.rows)]
