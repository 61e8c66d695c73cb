"""How fast does the compiler compile? Every function of each corpus program, from its bytes to machine code.

Opcodes a second of the whole pipeline, validation included, at both debug levels, and how many bytes of code an opcode
becomes. Beside it what wasmtime takes for the module: its compiler is native code and uses every processor.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.corpus import Program, programs
from bench.measure import pin

TITLE = "Compiling every function"
SECONDS: Final = 2.0
"""What is spent on one program and level, unless one round takes longer."""


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One program; times are the least of the rounds."""

    program: str
    functions: int
    opcodes: int
    full_s: float
    live_s: float
    full_bytes: int
    live_bytes: int
    wasmtime_s: float


def _compile(program: Program, full: bool, seconds: float) -> tuple[float, int, int, int]:
    """(seconds, functions, opcodes, bytes of code) of the fastest round."""
    from trapline.compile.instance import InstanceLayout
    from trapline.compile.pipeline import compile_defined
    from trapline.compile.x86_64.target import Target
    from trapline.wasm.decode import decode
    from trapline.wasm.validate import validate

    content = program.path.read_bytes()
    best_s, opcodes, code_bytes, functions = float("inf"), 0, 0, 0
    stop = time.perf_counter() + seconds
    while True:
        opcodes = code_bytes = 0
        gc.collect()
        start = time.perf_counter()
        module = decode(content)
        validate(module)
        functions = len(module.code)
        target = Target(InstanceLayout(module))
        for index in range(functions):
            compiled = compile_defined(module, index, full, target)
            opcodes += len(compiled.func.stack_at) - 1
            code_bytes += len(compiled.emitted.code)
        best_s = min(best_s, time.perf_counter() - start)
        if time.perf_counter() >= stop:
            return best_s, functions, opcodes, code_bytes


def _wasmtime(program: Program, seconds: float) -> float:
    import wasmtime

    engine, content = wasmtime.Engine(), program.path.read_bytes()
    best_s = float("inf")
    stop = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        wasmtime.Module(engine, content)
        best_s = min(best_s, time.perf_counter() - start)
        if time.perf_counter() >= stop:
            return best_s


def rows(quick: bool) -> list[SpeedRow]:
    """Every program of the corpus."""
    seconds = 0.0 if quick else SECONDS
    corpus = [program for program in programs() if program.folder is not None]
    wasmtime_s = {program.name: _wasmtime(program, seconds / 4) for program in corpus}  # before pinning: it has threads
    with contextlib.suppress(OSError):
        pin()
    out = []
    for program in corpus:
        full_s, functions, opcodes, full_bytes = _compile(program, True, seconds)
        live_s, _, _, live_bytes = _compile(program, False, seconds)
        spent_s = wasmtime_s[program.name]
        out.append(SpeedRow(program.name, functions, opcodes, full_s, live_s, full_bytes, live_bytes, spent_s))
    return out


def _sum(found: Sequence[SpeedRow]) -> SpeedRow:
    numbers = {name: sum(getattr(row, name) for row in found) for name in SpeedRow.__slots__ if name != "program"}
    return SpeedRow(program="**all**", **numbers)


def table(title: str, found: Sequence[SpeedRow]) -> str:
    """The rows as Markdown."""
    lines = [
        f"### {title}",
        "",
        "| program | functions | opcodes | full: opcodes/s | bytes/opcode | s | live: opcodes/s | wasmtime: s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.program} | {row.functions:,} | {row.opcodes:,} | {row.opcodes / row.full_s:,.0f} "
        f"| {row.full_bytes / row.opcodes:.1f} | {row.full_s:.2f} | {row.opcodes / row.live_s:,.0f} "
        f"| {row.wasmtime_s:.2f} |"
        for row in (*found, _sum(found))
    ]
    return "\n".join(lines)


def readme(found: Sequence[SpeedRow]) -> list[str]:
    """The line of the README."""
    total = _sum(found)
    return [
        f"All {total.functions:,} functions of the corpus, {total.opcodes:,} opcodes, compile in {total.full_s:.1f} s",
        f"at `full`: {total.opcodes / total.full_s:,.0f} opcodes a second,",
        f"{total.full_bytes / total.opcodes:.1f} bytes of code each",
        f"({total.opcodes / total.live_s:,.0f} and {total.live_bytes / total.opcodes:.1f} at `live`).",
    ]
