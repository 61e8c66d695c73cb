"""How fast do programs run, next to wasmtime? The timed sections of real programs, and eight kernels.

A program of the corpus (TRAPLINE_SHARED, by default `../shared` beside the checkout) marks its section by calling
bench.start and bench.end; a kernel of bench/kernels is one call of `run`. Every program is measured in a process of
its own, in which wasmtime, level `full` and level `live` take turns; a ratio is the median of the ratios of the rounds.
What a program prints, and what a kernel returns, must be right each time. The first run of each engine counts apart:
it includes making the module and compiling, which trapline does function by function when they are called.

    python -m bench.corpus PROGRAM SECONDS      measures one program and prints its row as JSON
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from bench.measure import pin

TITLE = "Programs, next to wasmtime"

KERNELS: Final = {
    "fib": 36,
    "interpreter": 32768,
    "matmul": 16,
    "nbody": 1 << 20,
    "quicksort": 8,
    "scan": 1024,
    "sha256": 1 << 18,
    "sieve": 32,
}
"""Argument of each kernel's `run`, for some 50 ms."""

SECONDS: Final = 8.0
"""What one program may take, unless three rounds take longer."""
ROUNDS: Final = range(3, 62)
LEVELS: Final = ("full", "live")
SHORTEST_MS: Final = 0.2
"""Sections below this are shown and not counted."""


class Program(NamedTuple):
    """`folder` is what a program of the corpus may read, `argument` what a kernel is called with."""

    name: str
    path: Path
    folder: Path | None
    argument: int


@dataclass(frozen=True, slots=True)
class ProgramRow:
    """One program: milliseconds of the section, and the median of the rounds' ratios to wasmtime."""

    program: str
    wasmtime_ms: float
    full_ms: float
    live_ms: float
    full_ratio: float
    live_ratio: float
    full_to_live: float
    wasmtime_first_ms: float
    full_first_ms: float
    live_first_ms: float
    rounds: int


def corpus_folder() -> Path:
    """Where the corpus is, by TRAPLINE_SHARED."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("TRAPLINE_SHARED", beside)) / "corpus"


def programs() -> list[Program]:
    """Every scalar program of the corpus, then the kernels."""
    found = []
    for folder in sorted(corpus_folder().glob("*/")):
        path = folder / f"{folder.name}.wasm"
        if path.exists() and not folder.name.startswith("sodium-") and folder.name != "blake3-simd":
            found.append(Program(folder.name, path, folder, 0))
    kernels = Path(__file__).parent / "kernels"
    found += [Program(f"kernel {name}", kernels / f"{name}.wasm", None, n) for name, n in KERNELS.items()]
    return found


class Runner(Protocol):
    """An engine with one program compiled in it, as far as it compiles ahead."""

    def run(self) -> tuple[float, object]:
        """(seconds of the timed section, what came out) of one run in a new instance."""
        ...


class Stopwatch:
    """bench.start and bench.end."""

    def __init__(self) -> None:
        self._start_ns = 0
        self.spent_ns = 0

    def start(self) -> None:
        self._start_ns = time.perf_counter_ns()

    def end(self) -> None:
        self.spent_ns += time.perf_counter_ns() - self._start_ns

    @property
    def spent_s(self) -> float:
        assert self.spent_ns, "the program never called bench.end"
        return self.spent_ns / 1e9


class Wasmtime:
    """wasmtime with its own WASI; output goes to files."""

    def __init__(self, program: Program) -> None:
        import wasmtime

        self._api: Any = wasmtime
        self._program = program
        self._engine = wasmtime.Engine()
        self._module = wasmtime.Module(self._engine, program.path.read_bytes())
        self._output = tempfile.TemporaryDirectory()

    def run(self) -> tuple[float, object]:
        api, program = self._api, self._program
        store = api.Store(self._engine)
        if program.folder is None:
            run = api.Instance(store, self._module, []).exports(store)["run"]
            start = time.perf_counter_ns()
            result = run(store, program.argument)
            return (time.perf_counter_ns() - start) / 1e9, result
        paths = [Path(self._output.name) / name for name in ("stdout", "stderr")]
        config = api.WasiConfig()
        config.preopen_dir(str(program.folder), ".")
        config.stdout_file, config.stderr_file = map(str, paths)
        store.set_wasi(config)
        linker, watch = api.Linker(self._engine), Stopwatch()
        linker.define_wasi()
        nothing = api.FuncType([], [])
        linker.define_func("bench", "start", nothing, watch.start)
        linker.define_func("bench", "end", nothing, watch.end)
        exports = linker.instantiate(store, self._module).exports(store)
        exports["_start"](store)
        return watch.spent_s, tuple(path.read_bytes() for path in paths)


class Trapline:
    """trapline at one debug level, with its own WASI."""

    def __init__(self, program: Program, level: str) -> None:
        from trapline import Config, Engine, Module

        self._program = program
        self._engine = Engine(Config(debug=level))
        self._module = Module(self._engine, program.path.read_bytes())

    def run(self) -> tuple[float, object]:
        from trapline import Linker, Store, WasiConfig

        program = self._program
        store, linker = Store(self._engine), Linker(self._engine)
        if program.folder is None:
            run = linker.instantiate(store, self._module).exports["run"]
            start = time.perf_counter_ns()
            result = run(program.argument)
            return (time.perf_counter_ns() - start) / 1e9, result
        config, watch = WasiConfig(), Stopwatch()
        config.preopen_dir(program.folder, ".", fs_mutable=False)
        config.capture_stdout()
        config.capture_stderr()
        linker.define_func("bench", "start", None, watch.start)
        linker.define_func("bench", "end", None, watch.end)
        with linker.define_wasi(config) as wasi:
            code = wasi.run(linker.instantiate(store, self._module))
        assert code == 0, f"{program.name}: exit code {code}"
        return watch.spent_s, (wasi.stdout, wasi.stderr)


def expected_of(program: Program) -> object:
    """What a program of the corpus must print; None for a kernel, whose results are only compared."""
    if program.folder is None:
        return None
    return tuple((program.folder / f"expected.{name}").read_bytes() for name in ("stdout", "stderr"))


def measure_program(program: Program, seconds: float) -> ProgramRow:
    """Measure one program in this process. Raises AssertionError for a wrong result."""
    makers: dict[str, Callable[[], Runner]] = {
        "wasmtime": lambda: Wasmtime(program),
        "full": lambda: Trapline(program, "full"),
        "live": lambda: Trapline(program, "live"),
    }
    importlib.import_module("trapline")
    importlib.import_module("wasmtime")
    wanted = expected_of(program)
    runners: dict[str, Runner] = {}
    first_s: dict[str, float] = {}

    def checked(name: str) -> float:
        nonlocal wanted
        spent_s, result = runners[name].run()
        if wanted is None:
            wanted = result
        assert result == wanted, f"{program.name}: {name} came out with {result!r:.200}, expected {wanted!r:.200}"
        return spent_s

    begun = time.perf_counter()
    for name, make in makers.items():
        start = time.perf_counter()
        runners[name] = make()
        checked(name)
        first_s[name] = time.perf_counter() - start
    start = time.perf_counter()
    samples: dict[str, list[float]] = {name: [checked(name)] for name in runners}
    round_s = time.perf_counter() - start
    left_s = seconds - (time.perf_counter() - begun)
    rounds = min(max(int(left_s / round_s), ROUNDS.start), ROUNDS.stop - 1)
    order = list(runners)
    for number in range(1, rounds):
        turned = order[number % 3 :] + order[: number % 3]
        for name in turned:
            samples[name].append(checked(name))
    ratio = {
        pair: statistics.median([a / b for a, b in zip(samples[pair[0]], samples[pair[1]], strict=True)])
        for pair in (("full", "wasmtime"), ("live", "wasmtime"), ("full", "live"))
    }
    median_ms = {name: 1e3 * statistics.median(found) for name, found in samples.items()}
    return ProgramRow(
        program.name,
        median_ms["wasmtime"],
        median_ms["full"],
        median_ms["live"],
        ratio["full", "wasmtime"],
        ratio["live", "wasmtime"],
        ratio["full", "live"],
        1e3 * first_s["wasmtime"],
        1e3 * first_s["full"],
        1e3 * first_s["live"],
        rounds,
    )


def rows(quick: bool) -> list[ProgramRow]:
    """Every program, each in a process of its own. A program that fails is told about on stderr and left out."""
    found = []
    for program in programs():
        command = [sys.executable, "-m", "bench.corpus", program.name, str(SECONDS / 10 if quick else SECONDS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"died with status {done.returncode}"])[-1]
            print(f"{program.name}: {reason}", file=sys.stderr, flush=True)
            continue
        found.append(ProgramRow(**json.loads(done.stdout)))
    return found


def mean_ratio(found: Sequence[ProgramRow], name: str) -> float:
    """The geometric mean of a ratio over the rows that are long enough to count."""
    ratios = [getattr(row, name) for row in found if row.wasmtime_ms >= SHORTEST_MS]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan


def _cells(found: Sequence[ProgramRow]) -> list[tuple[str, ...]]:
    """Both tables' rows: program, wasmtime's ms, the two ratios, the two first runs."""
    out: list[tuple[str, ...]] = []
    for name in ("corpus", "kernels"):
        part = [row for row in found if row.program.startswith("kernel ") == (name == "kernels")]
        for row in part:
            counted = row.wasmtime_ms >= SHORTEST_MS
            ratios = [f"{ratio:.2f}" if counted else "-" for ratio in (row.full_ratio, row.live_ratio)]
            firsts = [f"{first_ms:,.0f}" for first_ms in (row.wasmtime_first_ms, row.full_first_ms)]
            out.append((row.program, f"{row.wasmtime_ms:,.2f}", *ratios, *firsts))
        if part:
            means = [f"**{mean_ratio(part, ratio):.2f}**" for ratio in ("full_ratio", "live_ratio")]
            out.append((f"**geometric mean, {name}**", "", *means, "", ""))
    return out


def table(title: str, found: Sequence[ProgramRow]) -> str:
    """The rows as Markdown."""
    heading = "| program | wasmtime, ms | full, times that | live, times that | first run: wasmtime, ms | full, ms |"
    rows = ["| " + " | ".join(cells) + " |" for cells in _cells(found)]
    return "\n".join([f"### {title}", "", heading, "|---|---:|---:|---:|---:|---:|", *rows])


def readme(found: Sequence[ProgramRow]) -> list[str]:
    """The lines of the README's table."""
    heading = "| program | wasmtime, ms | `full`, times that | `live`, times that |"
    return [heading, "|---|---:|---:|---:|", *("| " + " | ".join(cells[:4]) + " |" for cells in _cells(found))]


def main(name: str, seconds: str) -> int:
    """Measure one program and print its row."""
    program = next((found for found in programs() if found.name == name), None)
    if program is None:
        print(f"found no program {name!r}, expected one of {[found.name for found in programs()]}", file=sys.stderr)
        return 2
    with contextlib.suppress(OSError):
        pin()
    print(json.dumps(asdict(measure_program(program, float(seconds)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
