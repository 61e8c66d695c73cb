"""What the demo prints with: colours on a terminal, plain text elsewhere, pictures in half blocks or in letters."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

__all__ = ["Pixels", "Screen"]

Pixels = Sequence[Sequence[tuple[int, int, int]]]
"""Rows of red, green, blue; an even number of rows."""

_STYLES: Final = {"title": "1;36", "bad": "1;31", "good": "1;32", "dim": "2", "bold": "1", "code": "33", "name": "36"}
_RAMP: Final = " .:-=+*#%@"


class Screen:
    """Prints to stdout, in colour where that is a terminal and NO_COLOR is not set (https://no-color.org)."""

    def __init__(self) -> None:
        self.colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._exact = os.environ.get("COLORTERM", "") in ("truecolor", "24bit")
        self._acts = 0

    def paint(self, style: str, text: str) -> str:
        """The text in a style of _STYLES."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.colour and text else text

    def act(self, title: str) -> None:
        """Begin a numbered part."""
        self._acts += 1
        print(f"\n{self.paint('title', f'{self._acts}. {title}')}\n")

    def say(self, text: str = "", style: str | None = None) -> None:
        """A line, indented."""
        print(f"   {self.paint(style, text) if style else text}".rstrip(), flush=True)

    def _colour(self, pixel: tuple[int, int, int]) -> str:
        if self._exact:
            return "2;{};{};{}".format(*pixel)
        # The 6 x 6 x 6 cube of the 256 colours of xterm: levels 0, 95, 135, 175, 215, 255.
        red, green, blue = (0 if level < 48 else min(5, (level - 35) // 40) for level in pixel)
        return f"5;{16 + 36 * red + 6 * green + blue}"

    def picture(self, rows: Pixels) -> list[str]:
        """A picture as lines of text, two rows of pixels a line."""
        out = []
        for upper, lower in zip(rows[::2], rows[1::2], strict=True):
            if self.colour:
                cells = [f"\x1b[38;{self._colour(u)};48;{self._colour(d)}m▀" for u, d in zip(upper, lower, strict=True)]
                out.append("".join(cells) + "\x1b[0m")
            else:
                light = [sum(u) + sum(d) for u, d in zip(upper, lower, strict=True)]
                out.append("".join(_RAMP[each * len(_RAMP) // 1531] for each in light))
        return out
