"""python -m tests.spec [--engine NAME] [SCRIPT ...]: runs official test scripts and prints what was counted."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.spec.embedders import EMBEDDERS
from tests.spec.files import PARTLY, SUPPORTED
from tests.spec.runner import run
from tests.spec.scripts import load


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.spec", description=__doc__)
    parser.add_argument("--engine", choices=list(EMBEDDERS), default="reference")
    parser.add_argument("scripts", nargs="*", help="paths below the test suite without .wast; by default all supported")
    options = parser.parse_args()
    scripts = options.scripts or [*(name for group in SUPPORTED.values() for name in group), *PARTLY]
    passed: Counter[str] = Counter()
    left_out: Counter[tuple[str, str]] = Counter()
    failed = 0
    for name in scripts:
        commands = load(name)
        started = time.perf_counter()
        outcome = run(commands, EMBEDDERS[options.engine](), PARTLY.get(name, frozenset()))
        elapsed = time.perf_counter() - started
        print(f"{name:28} {outcome.passed.total():6} passed {outcome.left_out.total():5} left out {elapsed:6.2f} s")
        for line, kind, what in outcome.failures:
            print(f"  FAILED {name}.wast:{line}: {kind}: {what}")
        passed += outcome.passed
        left_out += outcome.left_out
        failed += len(outcome.failures)
    print(f"{len(scripts)} scripts, {passed.total()} commands passed, {failed} failed; passed by kind:")
    for kind, count in passed.most_common():
        print(f"  {kind:24} {count:6}")
    print("left out:")
    for (kind, reason), count in left_out.most_common():
        print(f"  {kind:24} {count:6}  {reason}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
