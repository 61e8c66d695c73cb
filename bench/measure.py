"""How every question is measured: cases in turn, many batches, medians and minima, the machine beside them.

A case is a function of n that does its work n times. All cases of a question alternate in one run, so that a
machine that slows down slows down all of them; ratios are of medians in one run.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BATCH_NS = 4_000_000
ROUNDS = 61


@dataclass
class Case:
    """One row: `run(n)` does the work n times. `floor` names the case that it cannot be faster than."""

    name: str
    run: Callable[[int], object]
    floor: str | None = None
    reports_ns: bool = False
    """`run(n)` returns nanoseconds per operation by itself (a latency), not to be timed from outside."""


@dataclass
class Row:
    """Nanoseconds per operation over all batches."""

    name: str
    floor: str | None
    minimum_ns: float
    median_ns: float
    batches: int
    per_batch: int
    ratio_to_floor: float | None = field(default=None)


def _once(case: Case, n: int) -> float:
    if case.reports_ns:
        reported = case.run(n)
        assert isinstance(reported, float)
        return reported
    start = time.perf_counter_ns()
    case.run(n)
    return (time.perf_counter_ns() - start) / n


def _calibrate(case: Case) -> int:
    n = 1
    while True:
        start = time.perf_counter_ns()
        case.run(n)
        spent = time.perf_counter_ns() - start
        if spent >= BATCH_NS or n >= 1 << 22:
            return n
        n = max(n * 2, int(n * BATCH_NS / max(spent, 1) * 0.7))


def measure(cases: Sequence[Case], rounds: int = ROUNDS) -> list[Row]:
    """Every case in turn, `rounds` times over."""
    counts = [_calibrate(case) for case in cases]
    samples: list[list[float]] = [[] for _ in cases]
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for case, count, sample in zip(cases, counts, samples, strict=True):
                sample.append(_once(case, count))
    finally:
        gc.enable()
    rows = [
        Row(case.name, case.floor, min(sample), statistics.median(sample), rounds, count)
        for case, count, sample in zip(cases, counts, samples, strict=True)
    ]
    medians = {row.name: row.median_ns for row in rows}
    for row in rows:
        if row.floor is not None:
            row.ratio_to_floor = row.median_ns / medians[row.floor]
    return rows


def machine() -> dict[str, Any]:
    """What a reader must know to compare: processor, kernel, interpreter, compiler."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part")):
            cpu = line.split(":", 1)[1].strip()
            break
    flags = Path("/proc/cpuinfo").read_text()
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "virtual machine": "hypervisor" in flags,
        "avx512": "avx512f" in flags,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
    }


def table(title: str, rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [f"### {title}", "", "| case | min ns | median ns | floor | times the floor |", "|---|---:|---:|---|---:|"]
    for row in rows:
        ratio = "" if row.ratio_to_floor is None else f"{row.ratio_to_floor:.2f}"
        lines.append(f"| {row.name} | {row.minimum_ns:,.0f} | {row.median_ns:,.0f} | {row.floor or ''} | {ratio} |")
    return "\n".join(lines)


def save(question: str, title: str, rows: Sequence[Any]) -> None:
    """Write bench/results/<question>.json; rows are dataclasses."""
    RESULTS.mkdir(exist_ok=True)
    body = {
        "title": title,
        "machine": machine(),
        "command": f"python -m bench {question}",
        "rows": [asdict(row) for row in rows],
    }
    (RESULTS / f"{question}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def pin() -> None:
    """Stay on one processor where there are two: migrations are not what is measured."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[-1]})


if __name__ == "__main__":
    json.dump(machine(), sys.stdout, indent=1)
