"""The real programs of the corpus, run as commands with their folder as `.`: output and errors equal wasmtime's."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from trapline import Config, Engine, Linker, Module, Store, WasiConfig

SCALAR = (
    "blake3-scalar",
    "bz2",
    "pulldown-cmark",
    "quicksort",
    "richards",
    "rust-json",
    "shootout-ackermann",
    "shootout-base64",
    "shootout-ed25519",
    "shootout-fib2",
    "shootout-keccak",
    "shootout-matrix",
    "shootout-minicsv",
    "shootout-nestedloop",
    "shootout-random",
    "shootout-sieve",
    "shootout-switch",
    "sqlite3",
)


def run(folder: Path, name: str, level: str, cache: Path) -> tuple[int, bytes, bytes, int]:
    """Exit code, stdout and stderr; how many of the program's functions the cache had."""
    engine = Engine(Config(debug=level, cache=cache))
    linker = Linker(engine)
    config = WasiConfig()
    config.argv = [f"{name}.wasm"]
    config.capture_stdout()
    config.capture_stderr()
    config.preopen_dir(folder, ".", fs_mutable=False)
    with linker.define_wasi(config) as wasi:
        for mark in ("start", "end"):
            linker.define_func("bench", mark, None, lambda: None)
        module = Module(engine, (folder / f"{name}.wasm").read_bytes(), name=name)
        found = len(module.code(checked=False).ready)
        code = wasi.run(linker.instantiate(Store(engine), module))
    del module, linker
    gc.collect()  # what was compiled goes to the cache with the module
    return code, wasi.stdout, wasi.stderr, found


@pytest.mark.parametrize("level", ["full", "live"])
@pytest.mark.parametrize("name", SCALAR)
def test_program(shared: Path, tmp_path: Path, name: str, level: str) -> None:
    """Cold, and again with the code from the cache."""
    folder = shared / "corpus" / name
    expected = 0, (folder / "expected.stdout").read_bytes(), (folder / "expected.stderr").read_bytes()
    *cold, compiled_before = run(folder, name, level, tmp_path)
    assert (tuple(cold), compiled_before) == (expected, 0)
    *warm, from_cache = run(folder, name, level, tmp_path)
    assert tuple(warm) == expected
    assert from_cache > 0
