"""`trapline demo`: a C program that traps on a damaged file, is looked into, mended, and goes on.

The parts: `play` is the demo; `any_file` runs the same program on any other file; `core` shows the native trap core,
without WebAssembly; `build.py` makes the program and the pictures.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from trapline.cli.demo import core
from trapline.cli.demo.any_file import read_any
from trapline.cli.demo.play import play
from trapline.cli.demo.screen import Screen
from trapline.cli.options import Command, Kind, Option, Parsed

__all__ = ["COMMAND"]


def run(parsed: Parsed) -> int:
    """Play the demo; returns the exit status."""
    screen = Screen()
    given = parsed.text("input")
    path = None if given is None else Path(given)
    if parsed.flag("core"):
        return core.run(screen, path)
    if platform.machine() != "x86_64":
        print("trapline demo: WebAssembly is compiled for x86-64 only; here is the native core.", file=sys.stderr)
        return core.run(screen, path)
    return play(screen) if path is None else read_any(screen, path)


COMMAND = Command(
    "demo",
    "a C program that traps on a damaged file, is looked into, mended and resumed",
    run,
    options=(
        Option(
            ("--input",),
            "another file for the program; any bytes will do (with --core: what the checksum runs over)",
            Kind.FILE,
        ),
        Option(("--core",), "show the native trap core instead: registers, breakpoints, steps", Kind.FLAG),
    ),
    description="Run an image decoder with three bugs, compiled to WebAssembly, on a file that finds all of them.",
    examples=(
        ("trapline demo", "the whole story, in about a second"),
        ("trapline demo --input picture.qoi", "the same program on a file of your own"),
    ),
)
