"""The command line: `trapline COMMAND`, also `python -m trapline COMMAND`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from trapline.cli import compile, demo, dump
from trapline.errors import TraplineError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for an error (said on stderr), 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="trapline", description="Run native code, stop it anywhere, mend it, go on.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo.add_command(commands)
    compile.add_command(commands)
    dump.add_command(commands)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except TraplineError as error:
        print(f"trapline: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone
        return 1
    return status
