"""The real programs of the corpus, run as commands with their folder as `.`: output and errors equal wasmtime's."""

from __future__ import annotations

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


@pytest.mark.parametrize("level", ["full", "live"])
@pytest.mark.parametrize("name", SCALAR)
def test_program(shared: Path, name: str, level: str) -> None:
    folder = shared / "corpus" / name
    engine = Engine(Config(debug=level))
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
        code = wasi.run(linker.instantiate(Store(engine), module))
    assert (code, wasi.stdout) == (0, (folder / "expected.stdout").read_bytes())
    assert wasi.stderr == (folder / "expected.stderr").read_bytes()
