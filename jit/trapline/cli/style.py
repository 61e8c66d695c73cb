"""Colours of a terminal, or none: of a stream that is no terminal, and where NO_COLOR is set (no-color.org)."""

from __future__ import annotations

import os
from typing import TextIO

__all__ = ["Style"]


class Style:
    """Paints texts by what they are; a plain one gives them back as they are.

    >>> Style(False).bold("x"), Style(True).bold("x")
    ('x', '\\x1b[1mx\\x1b[0m')
    """

    __slots__ = ("colours",)

    def __init__(self, colours: bool) -> None:
        self.colours = colours

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """What suits a stream."""
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(not plain and stream.isatty())

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and text else text

    def bold(self, text: str) -> str:
        return self._paint("1", text)

    def dim(self, text: str) -> str:
        return self._paint("2", text)

    def head(self, text: str) -> str:
        """A heading."""
        return self._paint("1;33", text)

    def error(self, text: str) -> str:
        """What went wrong."""
        return self._paint("1;31", text)

    def name(self, text: str) -> str:
        """A function."""
        return self._paint("1;36", text)

    def place(self, text: str) -> str:
        """A file and a line."""
        return self._paint("32", text)

    def mark(self, text: str) -> str:
        """The very spot."""
        return self._paint("1;31", text)
