"""The debug level as a setting, `-D level=live`, of every command that compiles."""

from __future__ import annotations

from typing import Final

from trapline.cli.options import Setting

__all__ = ["LEVEL"]

LEVEL: Final = Setting(
    "level",
    "keep every value for debuggers (full, the default), or what the code needs (live)",
    choices=("full", "live"),
)
