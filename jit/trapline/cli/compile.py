"""`trapline compile`: compiles every function of a module and says what came of it; nothing is run."""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

from trapline.cli.module_file import add_level, add_module, read_module
from trapline.compile.instance import InstanceLayout
from trapline.compile.pipeline import compile_defined
from trapline.compile.x86_64.target import Target
from trapline.errors import TraplineError
from trapline.wasm.module import Module

__all__ = ["add_command"]


class _Measured(NamedTuple):
    """One function that was compiled."""

    function: int
    opcodes: int
    code_bytes: int
    spent_s: float


def _compile(module: Module, full: bool) -> list[_Measured]:
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


def run(arguments: argparse.Namespace) -> int:
    """Compile a module and print the sums; returns the exit status."""
    module = read_module(arguments.file)
    try:
        functions = _compile(module, arguments.debug == "full")
    except TraplineError as error:
        raise TraplineError(f"{arguments.file}: {error}") from None
    opcodes = sum(one.opcodes for one in functions)
    code_bytes = sum(one.code_bytes for one in functions)
    spent_s = sum(one.spent_s for one in functions)
    speed = f", {opcodes / spent_s:,.0f} opcodes/s" if spent_s else ""
    made = f"{len(functions):,} functions, {opcodes:,} opcodes -> {code_bytes:,} bytes of code"
    print(f"{made} in {spent_s:.2f} s{speed}")
    longest = sorted(functions, key=lambda one: -one.spent_s)[: arguments.longest]
    if longest:
        print(f"\n{'index':>6} {'opcodes':>8} {'bytes':>8} {'ms':>9}  name")
    for one in longest:
        name = module.function_name(one.function) or ""
        print(f"{one.function:6} {one.opcodes:8,} {one.code_bytes:8,} {one.spent_s * 1e3:9.2f}  {name}")
    return 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected how many")
    return int(text)


def add_command(commands: Any) -> None:
    """Add `compile` to the command line."""
    parser = commands.add_parser(
        "compile",
        help="compile a module and say how much code that made, and how fast",
        description="Validate and compile every function of a module; nothing is run.",
    )
    add_module(parser)
    add_level(parser)
    parser.add_argument("--longest", type=_count, default=0, metavar="N", help="show the N functions that took longest")
    parser.set_defaults(run=run)
