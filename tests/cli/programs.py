"""Programs for the tests of the command line: in the text format, and in C, compiled by zig where that is installed."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

__all__ = ["FUNCTIONS", "GREETING", "compiled"]

FUNCTIONS = """
(module
  (memory (export "memory") 1)
  (func $inner (param $p i32) (param $n i64) (result i32) (local $half f64)
    (local.set $half (f64.const 2.5))
    (i32.load offset=8 (local.get $p)))
  (func $outer (export "outer") (param i32) (result i32)
    (call $inner (i32.mul (local.get 0) (i32.const 4096)) (i64.const -5)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "pair") (param f32 i64) (result f32 f64 i64) (local.get 0) (f64.const 3) (local.get 1))
  (func (export "null") (param externref) (result externref) (local.get 0))
  (func $divide (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func $down (export "down") (param i32) (result i32) (call $down (i32.add (local.get 0) (i32.const 1)))))
"""

GREETING = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00")
  (data (i32.const 16) "hello\\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) {end}))
"""
"""Prints `hello`, then does what stands at {end}."""


@functools.cache
def _zig() -> list[str] | None:
    """The command that runs zig."""
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang"]
    found = shutil.which("zig")
    return None if found is None else [found]


def compiled(source: Path, *options: str) -> Path:
    """A program of WASI from a source in C or C++, kept under build/; the test skips where there is no zig."""
    zig = _zig()
    if zig is None:
        pytest.skip("zig is not installed (pip install ziglang)")
    key = hashlib.sha256(b"\0".join([source.read_bytes(), bytes(source), *map(str.encode, options)])).hexdigest()[:16]
    path = ROOT / "build" / "programs" / f"{source.stem}-{key}.wasm"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.wasm")
        front = "c++" if source.suffix == ".cpp" else "cc"
        command = [*zig, front, "-target", "wasm32-wasi", "-g", *options, str(source), "-o", str(beside)]
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(ROOT / "build" / "zig-cache")}
        subprocess.run(command, check=True, env=environment, timeout=280)
        os.replace(beside, path)
    return path
