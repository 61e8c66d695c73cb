"""`trapline compile`: compiles every function of a module into an artifact that `trapline run` starts at once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from trapline.cli import program
from trapline.cli.module_file import DEBUG, FILE, is_full, read_module
from trapline.cli.options import Command, Kind, Option, Parsed
from trapline.errors import TraplineError

if TYPE_CHECKING:
    from trapline.wasm.module import Module

__all__ = ["COMMAND"]

_LONGEST: Final = 10


class _Measured(NamedTuple):
    """One function that was compiled."""

    function: int
    opcodes: int
    code_bytes: int
    spent_s: float


def _measure(module: Module, full: bool) -> list[_Measured]:
    from trapline.compile.instance import InstanceLayout
    from trapline.compile.pipeline import compile_defined
    from trapline.compile.x86_64.target import Target

    out = []
    first = module.imported_functions
    target = Target(InstanceLayout(module))
    for defined_index in range(len(module.code)):
        start = time.perf_counter()
        compiled = compile_defined(module, defined_index, full, target)
        spent_s = time.perf_counter() - start
        opcodes = len(compiled.func.stack_at) - 1
        out.append(_Measured(first + defined_index, opcodes, len(compiled.emitted.code), spent_s))
    return out


def _statistics(module: Module, functions: Sequence[_Measured], longest: int) -> str:
    opcodes = sum(one.opcodes for one in functions)
    code_bytes = sum(one.code_bytes for one in functions)
    spent_s = sum(one.spent_s for one in functions)
    speed = f", {opcodes / spent_s:,.0f} opcodes/s" if spent_s else ""
    made = f"{len(functions):,} functions, {opcodes:,} opcodes -> {code_bytes:,} bytes of code"
    lines = [f"{made} in {spent_s:.2f} s{speed}"]
    shown = sorted(functions, key=lambda one: -one.spent_s)[:longest]
    if shown:
        lines += ["", f"{'index':>6} {'opcodes':>8} {'bytes':>8} {'ms':>9}  name"]
    for one in shown:
        name = module.function_name(one.function) or ""
        lines.append(f"{one.function:6} {one.opcodes:8,} {one.code_bytes:8,} {one.spent_s * 1e3:9.2f}  {name}")
    return "\n".join(lines)


def _run(parsed: Parsed) -> int:
    file = parsed.text("file") or ""
    longest = parsed.number("longest")
    if parsed.flag("stats") or longest is not None:
        module = read_module(file)
        try:
            print(_statistics(module, _measure(module, is_full(parsed)), _LONGEST if longest is None else longest))
        except TraplineError as error:
            raise TraplineError(f"{file}: {error}") from None
        return 0
    return _write(file, parsed.text("output") or _beside(file), is_full(parsed))


def _beside(file: str) -> str:
    """The artifact's name where none is given: in this folder, with its own suffix."""
    return (Path(file).stem if file != "-" else "stdin") + program.ARTIFACT_SUFFIX


def _write(file: str, output: str, full: bool) -> int:
    from trapline.runtime.engine import Config, Engine

    start = time.perf_counter()
    if os.path.exists(output) and os.path.exists(file) and os.path.samefile(output, file):
        raise TraplineError(f"{output}: found the module itself, expected another file to write to")
    module = program.load(Engine(Config(debug="full" if full else "live")), file)
    try:
        data = module.serialize()
    except TraplineError as error:
        raise TraplineError(f"{file}: {error}") from None
    target = Path(output)
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        beside.write_bytes(data)
        os.replace(beside, target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise TraplineError(f"{output}: {error.strerror}") from None
    spent_s = time.perf_counter() - start
    count = len(module.decoded.code)
    sizes = f"{len(module.bytecode()):,} bytes -> {len(data):,} bytes"
    print(f"{output}: {count:,} function{'s' * (count != 1)}, {sizes} in {spent_s:.2f} s")
    return 0


COMMAND: Final = Command(
    "compile",
    "compile a module ahead of time, into an artifact that starts at once",
    _run,
    positionals=(FILE,),
    options=(
        Option(
            ("-o", "--output"),
            f"the artifact to write (default: the module's name with {program.ARTIFACT_SUFFIX})",
            Kind.FILE,
        ),
        DEBUG,
        Option(("--stats",), "write nothing; print how fast it went and which functions took longest", Kind.FLAG),
        Option(("--longest",), f"how many of those (default: {_LONGEST}); implies --stats", Kind.NUMBER),
    ),
    description=(
        "Validate and compile every function of a module, and write the native code with the module to a file that "
        "trapline run starts without compiling. An artifact is for this version of trapline and this processor; "
        "elsewhere it is compiled anew from the module that it holds. Run only artifacts that you trust: their code is "
        "run as it is."
    ),
    examples=(
        ("trapline compile app.wasm", "writes app.cwasm"),
        ("trapline compile -o fast.cwasm -D live app.wasm", "with less kept for debuggers"),
        ("trapline compile --stats app.wasm", "where the compiler's time goes"),
    ),
)
