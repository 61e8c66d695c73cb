"""``python -m bench [--quick] [question ...]``: measures and writes bench/results.

Questions are the files of this folder; without names, all of them run. --quick takes a tenth of the batches and
writes nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os

from bench.measure import RESULTS, ROUNDS, Row, machine, measure, pin, save, table

QUESTIONS = ("traps", "calls", "switches", "patches", "steps", "interrupts")


def run(question: str, rounds: int) -> tuple[str, list[Row]]:
    """Measure one question in this process."""
    module = importlib.import_module(f"bench.{question}")
    if getattr(module, "PIN", True):
        pin()
    return module.TITLE, measure(module.cases(), rounds)


def report() -> str:
    """Every saved result as one Markdown page."""
    parts = ["# Results", "", "Written by `python -m bench`: nanoseconds per operation.", ""]
    for question in QUESTIONS:
        path = RESULTS / f"{question}.json"
        if not path.exists():
            continue
        saved = json.loads(path.read_text(encoding="utf-8"))
        where = saved["machine"]
        parts += [
            table(saved["title"], [Row(**row) for row in saved["rows"]]),
            "",
            f"{where['cpu']}{' (virtual machine)' if where['virtual machine'] else ''}, {where['cores']} cores, "
            f"Linux {where['kernel']}, Python {where['python']}; `python -m bench {question}`",
            "",
        ]
    return "\n".join(parts)


README_ROWS = {
    "calls": ("trapline: nothing()", "trapline: i64(i64, i64)", "cffi: call of an empty C function"),
    "traps": (
        "C: int3, empty handler, sigreturn",
        "inject: int3, callback",
        "direct: int3, callback",
        "check: call of the stub, callback",
        "call that traps, to the caught exception",
    ),
    "steps": ("breakpoint hit and stepped past, inject", "step by the stepping copy"),
    "interrupts": ("C: pthread_kill to a handler in a spinning thread", "interrupt() to the event in Python"),
}
START, STOP = "<!-- written by python -m bench -->", "<!-- end -->"


def update_readme() -> None:
    """Put the medians of README_ROWS between the README's markers."""
    lines = ["| | median ns |", "|---|---:|"]
    for question, names in README_ROWS.items():
        path = RESULTS / f"{question}.json"
        if path.exists():
            rows = {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
            lines += [f"| {name} | {rows[name]['median_ns']:,.0f} |" for name in names]
    readme = RESULTS.parent.parent / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(STOP)[1]
    readme.write_text(f"{before}{START}\n\n" + "\n".join(lines) + f"\n\n{STOP}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the batches, nothing written")
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], metavar="question", help=", ".join(QUESTIONS))
    arguments = parser.parse_args()
    for question in arguments.questions or QUESTIONS:
        cores = os.sched_getaffinity(0)
        title, rows = run(question, ROUNDS // 10 if arguments.quick else ROUNDS)
        os.sched_setaffinity(0, cores)
        print(table(title, rows), end="\n\n", flush=True)
        if not arguments.quick:
            save(question, title, rows)
    if not arguments.quick:
        (RESULTS / "README.md").write_text(report(), encoding="utf-8")
        update_readme()
    print(machine())


if __name__ == "__main__":
    main()
