"""``python -m bench [--quick] [question ...]``: measures and writes bench/results.

Questions are the files of this folder; without names, all of them run. --quick takes a tenth of the batches and
writes nothing.

A question is a module with a TITLE and `cases()`, whose rows are nanoseconds an operation; or one with `rows(quick)`
and `table(title, rows)`, which measures in its own way. `readme(rows)` is what goes between its markers in the README,
`plot(title, rows)` the SVG that is kept beside the results.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import typing
from typing import Any

from bench.measure import RESULTS, ROUNDS, Row, machine, measure, pin, save, table

QUESTIONS = (
    *("traps", "calls", "switches", "patches", "steps", "interrupts"),
    *("wasm_calls", "compile_speed", "corpus", "start"),
)


def _module(question: str) -> Any:
    return importlib.import_module(f"bench.{question}")


def run(question: str, quick: bool) -> tuple[str, list[Any]]:
    """Measure one question."""
    module = _module(question)
    if hasattr(module, "rows"):
        return module.TITLE, module.rows(quick)
    if getattr(module, "PIN", True):
        pin()
    return module.TITLE, measure(module.cases(), ROUNDS // 10 if quick else ROUNDS)


def saved_rows(question: str, saved: dict[str, Any]) -> list[Any]:
    """The rows of a file of results as they were measured."""
    module = _module(question)
    row_type = typing.get_args(typing.get_type_hints(module.rows)["return"])[0] if hasattr(module, "rows") else Row
    return [row_type(**row) for row in saved["rows"]]


def shown(question: str, title: str, rows: list[Any]) -> str:
    """The rows as Markdown."""
    module = _module(question)
    text: str = module.table(title, rows) if hasattr(module, "rows") else table(title, rows)
    return text


def report() -> str:
    """Every saved result as one Markdown page."""
    parts = ["# Results", "", "Written by `python -m bench`: nanoseconds per operation where nothing else is said.", ""]
    for question in QUESTIONS:
        path = RESULTS / f"{question}.json"
        if not path.exists():
            continue
        saved = json.loads(path.read_text(encoding="utf-8"))
        where = saved["machine"]
        parts += [
            shown(question, saved["title"], saved_rows(question, saved)),
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


def _between(text: str, start: str, lines: list[str]) -> str:
    """A text with the lines between two of its markers changed."""
    before, rest = text.split(start)
    _, after = rest.split(STOP, 1)
    return f"{before}{start}\n\n" + "\n".join(lines) + f"\n\n{STOP}{after}"


def update_readme() -> None:
    """Put the medians of README_ROWS between the README's markers, and the tables of the questions that have one."""
    readme = RESULTS.parent.parent / "README.md"
    text = readme.read_text(encoding="utf-8")
    lines = ["| | median ns |", "|---|---:|"]
    for question, names in README_ROWS.items():
        path = RESULTS / f"{question}.json"
        if path.exists():
            rows = {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
            lines += [f"| {name} | {rows[name]['median_ns']:,.0f} |" for name in names]
    for question in QUESTIONS:
        path = RESULTS / f"{question}.json"
        marker = f"<!-- written by python -m bench {question} -->"
        if marker in text and path.exists():
            saved = json.loads(path.read_text(encoding="utf-8"))
            text = _between(text, marker, _module(question).readme(saved_rows(question, saved)))
    readme.write_text(_between(text, START, lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the batches, nothing written")
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], metavar="question", help=", ".join(QUESTIONS))
    arguments = parser.parse_args()
    for question in arguments.questions or QUESTIONS:
        cores = os.sched_getaffinity(0)
        title, rows = run(question, arguments.quick)
        os.sched_setaffinity(0, cores)
        print(shown(question, title, rows), end="\n\n", flush=True)
        if not arguments.quick:
            save(question, title, rows)
            if hasattr(_module(question), "plot"):
                (RESULTS / f"{question}.svg").write_text(_module(question).plot(title, rows), encoding="utf-8")
    if not arguments.quick:
        (RESULTS / "README.md").write_text(report(), encoding="utf-8")
        update_readme()
    print(machine())


if __name__ == "__main__":
    main()
