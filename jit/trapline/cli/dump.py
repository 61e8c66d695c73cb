"""`trapline dump`: what each stage of the compiler makes of a module's functions."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

from trapline.cli.module_file import add_level, add_module, find_function, read_module
from trapline.compile.instance import InstanceLayout
from trapline.compile.pipeline import compile_defined
from trapline.compile.x86_64.target import Target
from trapline.dump import ALL, Stage, Watch, legend, named
from trapline.errors import TraplineError

__all__ = ["add_command"]

_STAGES: Final = tuple(list(Stage)[: list(Stage).index(Stage.PLACE)])
"""What there is to see without running anything."""

_EPILOG: Final = f"""\
stages, in the order in which they run:

{legend()}

The last four are of code that runs: set TRAPLINE_DUMP=stage[@function],... in the environment of a program
that uses trapline; that works for every stage, but for switch and packet, which print nothing yet.
TRAPLINE_ONLY=first..stop limits optimisation to some functions, TRAPLINE_CHECK=1 checks every function.
"""


def run(arguments: argparse.Namespace) -> int:
    """Print the stages of one function or of all; returns the exit status."""
    module = read_module(arguments.file)
    words = arguments.stage or ["emit"]
    stages = _STAGES if ALL in words else tuple(Stage(word) for word in words)
    first = module.imported_functions
    target = Target(InstanceLayout(module))
    if arguments.function is not None:
        indices = [find_function(module, arguments.function)]
    else:
        indices = list(range(first, first + len(module.code)))
    target = Target(InstanceLayout(module))
    for index in indices:
        watch = Watch(stages, named(index, module.function_name(index)), sys.stdout)
        try:
            compile_defined(module, index - first, arguments.debug == "full", target, watch)
        except TraplineError as error:
            raise TraplineError(f"{arguments.file}: {error}") from None
    return 0


def add_command(commands: Any) -> None:
    """Add `dump` to the command line."""
    parser = commands.add_parser(
        "dump",
        help="what each stage of the compiler makes of a module",
        description="Print what the stages of the compiler make of a module's functions; nothing is run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_module(parser)
    parser.add_argument(
        "--stage",
        action="append",
        choices=[*(stage.value for stage in _STAGES), ALL],
        metavar="STAGE",
        help="one of those below, or all; may be given several times (default: emit)",
    )
    parser.add_argument("--function", metavar="NAME|INDEX", help="only this function (default: every one)")
    add_level(parser)
    parser.set_defaults(run=run)
