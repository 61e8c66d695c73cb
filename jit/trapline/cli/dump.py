"""`trapline dump`: what each stage of the compiler makes of a module's functions."""

from __future__ import annotations

import sys
from typing import Final

from trapline.cli.module_file import DEBUG, FILE, FUNCTION, find_function, is_full, read_module
from trapline.cli.options import Command, Option, Parsed
from trapline.dump import ALL, Stage, Watch, legend, named
from trapline.errors import TraplineError

__all__ = ["COMMAND"]

_STAGES: Final = tuple(list(Stage)[: list(Stage).index(Stage.PLACE)])
"""What there is to see without running anything."""

_EPILOG: Final = f"""\
stages, in the order in which they run:

{legend()}

The last four are of code that runs: set TRAPLINE_DUMP=stage[@function],... in the environment of a program
that uses trapline; that works for every stage, but for switch and packet, which print nothing yet.
TRAPLINE_ONLY=first..stop limits optimisation to some functions, TRAPLINE_CHECK=1 checks every function.
"""


def _run(parsed: Parsed) -> int:
    from trapline.compile.instance import InstanceLayout
    from trapline.compile.pipeline import compile_defined
    from trapline.compile.x86_64.target import Target

    file = parsed.text("file") or ""
    module = read_module(file)
    words = parsed.texts("stage") or ["emit"]
    stages = _STAGES if ALL in words else tuple(Stage(word) for word in words)
    first = module.imported_functions
    wanted = parsed.text("function")
    indices = range(first, first + len(module.code)) if wanted is None else [find_function(module, wanted)]
    target = Target(InstanceLayout(module))
    for index in indices:
        watch = Watch(stages, named(index, module.function_name(index)), sys.stdout)
        try:
            compile_defined(module, index - first, is_full(parsed), target, watch)
        except TraplineError as error:
            raise TraplineError(f"{file}: {error}") from None
    return 0


COMMAND: Final = Command(
    "dump",
    "what each stage of the compiler makes of a module",
    _run,
    positionals=(FILE,),
    options=(
        Option(
            ("-s", "--stage"),
            "one of those below, or all; may be given several times (default: emit)",
            metavar="STAGE",
            choices=(*(stage.value for stage in _STAGES), ALL),
            repeats=True,
        ),
        FUNCTION,
        DEBUG,
    ),
    description="Print what the stages of the compiler make of a module's functions; nothing is run.",
    examples=(
        ("trapline dump --stage lower --stage emit -f fib fib.wasm", "SSA form and machine code of one function"),
    ),
    epilog=lambda: _EPILOG,
)
