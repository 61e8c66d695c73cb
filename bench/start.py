"""How long does a whole process take, from the command line to its exit? `trapline run` next to wasmtime's package.

Each program of the corpus (TRAPLINE_SHARED), and one that does nothing, runs to its end in a process of its own, output
to nowhere; what it prints was compared with what it must print before. The ways take turns:

    python    the interpreter alone: what both sides start with
    wasmtime  a script that does the same by the package of wasmtime, with its WASI; compiles all of the program
    kept      the same with wasmtime's cache
    cold      `trapline run -C cache=n`: compiles the functions that are called
    warm      `trapline run` with what an earlier run left in the cache
    artifact  `trapline run` of what `trapline compile` wrote

Byte code of Python's modules is kept, as it is for whoever installed the packages.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from bench.corpus import corpus_folder
from bench.plot import bars

TITLE = "Whole processes, next to wasmtime"

ROUNDS: Final = 15
LONGEST_S: Final = 60.0
"""What one program may take in all, unless three rounds take longer."""
WAYS: Final = ("python", "wasmtime", "kept", "cold", "warm", "artifact")
NOTHING: Final = bytes.fromhex("0061736d 01000000 010401600000 03020100 070a01065f73746172740000 0a040102000b")
"""A module with a _start that returns."""

SCRIPT: Final = """
import sys
import wasmtime
config = wasmtime.Config()
if sys.argv[2] == "kept":
    config.cache = sys.argv[3]
engine = wasmtime.Engine(config)
module = wasmtime.Module.from_file(engine, sys.argv[1])
store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
wasi = wasmtime.WasiConfig()
wasi.argv = [sys.argv[1]]
wasi.preopen_dir(".", ".")
wasi.inherit_stdout()
wasi.inherit_stderr()
store.set_wasi(wasi)
linker.define_wasi()
for name in ("start", "end"):
    linker.define_func("bench", name, wasmtime.FuncType([], []), lambda: None)
try:
    linker.instantiate(store, module).exports(store)["_start"](store)
except wasmtime.ExitTrap as ended:
    sys.exit(ended.code)
"""


class Program(NamedTuple):
    """`folder` is where it runs, and what it may read."""

    name: str
    path: Path
    folder: Path


@dataclass(frozen=True, slots=True)
class StartRow:
    """One program: the median of each way in milliseconds, and of the rounds' ratios of warm to wasmtime."""

    program: str
    python_ms: float
    wasmtime_ms: float
    kept_ms: float
    cold_ms: float
    warm_ms: float
    artifact_ms: float
    warm_ratio: float
    rounds: int


def _programs(own: Path) -> list[Program]:
    """One that does nothing, then every scalar program of the corpus."""
    nothing = own / "nothing.wasm"
    nothing.write_bytes(NOTHING)
    found = [Program("nothing", nothing, own)]
    for folder in sorted(corpus_folder().glob("*/")):
        path = folder / f"{folder.name}.wasm"
        if path.exists() and not folder.name.startswith("sodium-") and folder.name != "blake3-simd":
            found.append(Program(folder.name, path, folder))
    return found


def _commands(program: Program, own: Path) -> dict[str, list[str]]:
    """The command of each way."""
    settings = own / "wasmtime.toml"
    settings.write_text(f'[cache]\ndirectory = "{own / "wasmtime"}"\n', encoding="utf-8")
    artifact = own / f"{program.name}.cwasm"
    run = [sys.executable, "-m", "trapline", "run", "--dir", ".", "-W", "unknown-imports-default"]
    kept = ["-C", f"cache-dir={own / 'cache'}"]
    script = [sys.executable, "-c", SCRIPT, str(program.path)]
    return {
        "python": [sys.executable, "-c", "pass"],
        "wasmtime": [*script, "fresh", ""],
        "kept": [*script, "kept", str(settings)],
        "cold": [*run, "-C", "cache=n", str(program.path)],
        "warm": [*run, *kept, str(program.path)],
        "artifact": [*run, "-C", "cache=n", str(artifact)],
    }


def _environment(own: Path) -> dict[str, str]:
    """Byte code of modules is kept, and found again."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {"PYTHONPYCACHEPREFIX": str(own / "pycache"), "PYTHONPATH": os.pathsep.join(sys.path)}


def _expected(program: Program) -> tuple[bytes, bytes]:
    """What it must print. Raises OSError where the corpus does not say."""
    if program.name == "nothing":
        return b"", b""
    out, error = (program.folder / f"expected.{name}" for name in ("stdout", "stderr"))
    return out.read_bytes(), error.read_bytes()


def _measure(program: Program, own: Path, rounds: int) -> StartRow:
    """Raises AssertionError for a wrong output or status."""
    environment = _environment(own)
    commands = _commands(program, own)
    artifact = own / f"{program.name}.cwasm"
    compiling = [sys.executable, "-m", "trapline", "compile", "-o", str(artifact), str(program.path)]
    subprocess.run(compiling, check=True, capture_output=True, env=environment)
    wanted = _expected(program)
    for way, command in commands.items():
        done = subprocess.run(command, cwd=program.folder, env=environment, capture_output=True, check=False)
        if way != "python":
            found = done.returncode, done.stdout, done.stderr
            assert found == (0, *wanted), f"{program.name}: {way} ended with {found!r:.300}, expected {wanted!r:.200}"
    samples: dict[str, list[float]] = {way: [] for way in WAYS}
    begun = time.perf_counter()
    for number in range(rounds):
        if number >= 3 and time.perf_counter() - begun > LONGEST_S:
            break
        for way in (*WAYS[number % len(WAYS) :], *WAYS[: number % len(WAYS)]):
            start = time.perf_counter()
            subprocess.run(
                commands[way],
                cwd=program.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            samples[way].append(time.perf_counter() - start)
    ratio = statistics.median([a / b for a, b in zip(samples["warm"], samples["wasmtime"], strict=True)])
    median_ms = {way: 1e3 * statistics.median(found) for way, found in samples.items()}
    return StartRow(
        program.name,
        median_ms["python"],
        median_ms["wasmtime"],
        median_ms["kept"],
        median_ms["cold"],
        median_ms["warm"],
        median_ms["artifact"],
        ratio,
        len(samples["python"]),
    )


def rows(quick: bool) -> list[StartRow]:
    """Every program. One that fails is told about on stderr and left out."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder)
        (own / "cache").mkdir(mode=0o700)
        for program in _programs(own):
            try:
                found.append(_measure(program, own, max(ROUNDS // 10, 2) if quick else ROUNDS))
            except (AssertionError, OSError, subprocess.CalledProcessError) as error:
                print(f"{program.name}: {error}", file=sys.stderr, flush=True)
    return found


def table(title: str, found: Sequence[StartRow]) -> str:
    """The rows as Markdown."""
    heading = (
        "| program | python, ms | wasmtime, ms | with its cache, ms | trapline cold, ms | warm, ms | artifact, ms "
        "| warm, times wasmtime |"
    )
    lines = [f"### {title}", "", "![whole processes](start.svg)", "", heading, "|---|" + "---:|" * 7]
    for row in found:
        times = [getattr(row, f"{way}_ms") for way in WAYS]
        lines.append(f"| {row.program} | " + " | ".join(f"{ms:,.0f}" for ms in times) + f" | {row.warm_ratio:.2f} |")
    return "\n".join(lines)


def plot(title: str, found: Sequence[StartRow]) -> str:
    """The rows as SVG."""
    series = {
        "wasmtime": [row.wasmtime_ms for row in found],
        "wasmtime, its cache": [row.kept_ms for row in found],
        "trapline cold": [row.cold_ms for row in found],
        "trapline warm": [row.warm_ms for row in found],
    }
    return bars(title, "milliseconds", [row.program for row in found], series)
