"""Builds the kernels: every .c here to the .wasm beside it, with the C compiler that the package `ziglang` brings.

    python -m pip install ziglang==0.17.0 && python bench/kernels/build.py

The modules are kept in the repository, so that everybody times the same code.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMMAND = (
    *(sys.executable, "-m", "ziglang", "cc", "--target=wasm32-freestanding", "-std=c11", "-O2", "-nostdlib"),
    *(
        "-fno-vectorize",
        "-fno-slp-vectorize",
        "-Wall",
        "-Wextra",
        "-Wl,--no-entry",
        "-Wl,--export=run",
        "-Wl,--strip-all",
    ),
)


def main() -> None:
    """Build them all; the first failure ends it."""
    for source in sorted(Path(__file__).parent.glob("*.c")):
        subprocess.run([*COMMAND, str(source), "-o", str(source.with_suffix(".wasm"))], check=True)


if __name__ == "__main__":
    main()
