"""`trapline demo`: a C program that traps on a damaged file, is looked into, mended, and goes on.

The parts: `play` is the demo; `any_file` runs the same program on any other file; `core` shows the native trap core,
without WebAssembly; `build.py` makes the program and the pictures.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path
from typing import Any

from trapline.cli.demo import core
from trapline.cli.demo.any_file import read_any
from trapline.cli.demo.play import play
from trapline.cli.demo.screen import Screen

__all__ = ["add_command"]


def run(arguments: argparse.Namespace) -> int:
    """Play the demo; returns the exit status."""
    screen = Screen()
    path: Path | None = arguments.input
    if arguments.core:
        return core.run(screen, path)
    if platform.machine() != "x86_64":
        print("trapline demo: WebAssembly is compiled for x86-64 only; here is the native core.", file=sys.stderr)
        return core.run(screen, path)
    return play(screen) if path is None else read_any(screen, path)


def add_command(commands: Any) -> None:
    """Add `demo` to the command line."""
    parser = commands.add_parser(
        "demo",
        help="a C program that traps on a damaged file, is looked into, mended, and goes on",
        description="Run an image decoder with three bugs, compiled to WebAssembly, on a file that finds them all.",
    )
    parser.add_argument(
        "--core", action="store_true", help="show the native trap core instead: registers, breakpoints, steps"
    )
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="another file for the decoder (any bytes will do); with --core, what the checksum runs over",
    )
    parser.set_defaults(run=run)
