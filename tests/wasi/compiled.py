"""Programs in C, C++ and Zig, compiled for WASI by the Zig of PyPI, and for this machine; kept under build/."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["PROGRAMS", "needs_zig", "program"]

PROGRAMS = Path(__file__).resolve().parent / "programs"
BUILD = Path(__file__).resolve().parents[2] / "build"

needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed: no compiler for WASI"
)


def _command(source: Path, target: str | None, level: str, out: Path) -> list[str]:
    zig = [sys.executable, "-m", "ziglang"]
    if source.suffix == ".zig":
        chosen = ["-target", target] if target else []
        mode = {"-O0": "Debug", "-O2": "ReleaseSafe"}[level]
        return [*zig, "build-exe", *chosen, "-O", mode, "-lc", str(source), f"-femit-bin={out}"]
    language, options = ("c++", ["-fno-exceptions", "-std=c++17"]) if source.suffix == ".cc" else ("cc", ["-std=gnu11"])
    if target:
        compiler = [*zig, language, f"--target={target}"]
    else:  # the machine's own compiler is quicker, and need not build a C library first
        compiler = [language] if shutil.which(language) else [*zig, language]
    return [*compiler, *options, level, "-w", str(source), "-o", str(out)]


@functools.cache
def program(name: str, level: str = "-O2", *, native: bool = False) -> Path:
    """A program of the folder `programs`, compiled at "-O0" or "-O2"."""
    source = PROGRAMS / name
    version = importlib.metadata.version("ziglang")
    about = f"{version} {level} {native} {_command(Path(source.name), None, level, Path('out'))}".encode()
    key = hashlib.sha256(about + source.read_bytes()).hexdigest()[:16]
    out = BUILD / "wasi" / f"{source.stem}-{key}{'' if native else '.wasm'}"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        # Workers may compile the same program at once; each to a file of its own.
        partial = out.with_name(f"{os.getpid()}-{out.name}")
        cache = str(BUILD / "zig-cache")
        env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        command = _command(source, None if native else "wasm32-wasi", level, partial)
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        partial.replace(out)
    return out
