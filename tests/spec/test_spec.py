"""The official test scripts, on every engine of `embedders.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.spec.embedder import TypedValue
from tests.spec.embedders import EMBEDDERS
from tests.spec.files import LATER, PARTLY, SUPPORTED
from tests.spec.runner import OTHER_FEATURE, Runner, matches, run, same_words
from tests.spec.scripts import Command, ScriptsAbsent, from_text, load

RUN = [name for group in SUPPORTED.values() for name in group] + list(PARTLY)


def commands_of(name: str) -> list[Command]:
    try:
        return load(name)
    except ScriptsAbsent as absent:
        pytest.skip(str(absent))


@pytest.mark.parametrize("engine", EMBEDDERS)
@pytest.mark.parametrize("name", RUN)
def test_script(name: str, engine: str, record_property: Callable[[str, object], None]) -> None:
    commands = commands_of(name)
    left_out_lines = PARTLY.get(name, frozenset())
    outcome = run(commands, EMBEDDERS[engine](), left_out_lines)
    for kind, count in outcome.passed.items():
        record_property(kind, count)
    for (kind, reason), count in outcome.left_out.items():
        record_property(f"{kind}: {reason}", count)
    assert outcome.total == len(commands)
    assert not outcome.failures, "\n".join(
        f"{name}.wast:{line}: {kind}: {what}" for line, kind, what in outcome.failures
    )
    if not left_out_lines:
        of_other_features = [kind for kind, reason in outcome.left_out if reason == OTHER_FEATURE]
        assert not of_other_features, "this script is listed as run whole"


def test_every_script_is_listed_once(shared: Path) -> None:
    suite = shared / "testsuite"
    if not suite.is_dir():
        pytest.skip("the official test suite is not here")
    listed = RUN + [name for group in LATER.values() for name in group]
    assert len(listed) == len(set(listed))
    there = {path.relative_to(suite).with_suffix("").as_posix() for path in suite.rglob("*.wast")}
    assert there - set(listed) == set(), "new scripts: add them to tests/spec/files.py"
    assert set(listed) - there == set(), "listed, and not in the test suite"


@pytest.mark.parametrize("name", PARTLY)
def test_lines_left_out_are_those_of_modules(name: str) -> None:
    """A line that moved in a newer suite is noticed, in place of leaving out nothing or something else."""
    kinds = ("module", "module_definition", "assert_unlinkable", "assert_uninstantiable")
    lines = {command["line"] for command in commands_of(name) if command["type"] in kinds}
    assert lines >= PARTLY[name]


# The runner itself: it must be able to fail.


def script(text: str) -> list[Command]:
    try:
        return from_text("made-here", text.encode())
    except ScriptsAbsent as absent:
        pytest.skip(str(absent))


ONE = '(module (func (export "one") (result i32) i32.const 1) (func (export "trap") unreachable))'


@pytest.mark.parametrize(
    ("assertion", "holds"),
    [
        ('(assert_return (invoke "one") (i32.const 1))', True),
        ('(assert_return (invoke "one") (i32.const 2))', False),
        ('(assert_return (invoke "one") (i64.const 1))', False),
        ('(assert_return (invoke "one"))', False),
        ('(assert_return (invoke "trap"))', False),
        ('(assert_trap (invoke "trap") "unreachable")', True),
        ('(assert_trap (invoke "trap") "integer overflow")', False),
        ('(assert_trap (invoke "one") "unreachable")', False),
        ('(assert_exhaustion (invoke "one") "call stack exhausted")', False),
        ('(assert_unlinkable (module (import "spectest" "none" (func))) "unknown import")', True),
        ('(assert_unlinkable (module (import "spectest" "print" (func))) "unknown import")', False),
        ('(assert_unlinkable (module (import "spectest" "print" (global i32))) "incompatible import type")', True),
        ('(assert_trap (module (func $f unreachable) (start $f)) "unreachable")', True),
        ('(assert_trap (module (func $f) (start $f)) "unreachable")', False),
        ('(module (import "spectest" "none" (func)))', False),
        ('(module (func $f unreachable) (start $f))', False),
        ('(invoke "trap")', False),
    ],
)
@pytest.mark.parametrize("engine", EMBEDDERS)
def test_the_runner_tells_what_holds(engine: str, assertion: str, holds: bool) -> None:
    runner = Runner(EMBEDDERS[engine]())
    for command in script(ONE + assertion):
        runner.run(command)
    assert bool(runner.outcome.failures) is not holds, runner.outcome
    assert runner.outcome.passed.total() == 1 + holds


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (TypedValue("f32", 0x7FC00000), {"type": "f32", "value": "nan:canonical"}, True),
        (TypedValue("f32", 0xFFC00000), {"type": "f32", "value": "nan:canonical"}, True),
        (TypedValue("f32", 0x7FC00001), {"type": "f32", "value": "nan:canonical"}, False),
        (TypedValue("f32", 0x7FC00001), {"type": "f32", "value": "nan:arithmetic"}, True),
        (TypedValue("f32", 0x7FA00000), {"type": "f32", "value": "nan:arithmetic"}, False),
        (TypedValue("f64", 0x7FF8000000000000), {"type": "f64", "value": "nan:canonical"}, True),
        (TypedValue("f64", 0x7FF0000000000000), {"type": "f64", "value": "nan:arithmetic"}, False),
        (TypedValue("f64", 1 << 63), {"type": "f64", "value": "0"}, False),
        (TypedValue("externref", 3), {"type": "ref.extern", "value": "3"}, True),
        (TypedValue("externref", 0), {"type": "ref.null", "value": "extern"}, False),
        (TypedValue("externref", None), {"type": "ref.null", "value": "extern"}, True),
        (TypedValue("funcref", None), {"type": "ref.func", "value": None}, False),
        (TypedValue("funcref", object()), {"type": "ref.func", "value": None}, True),
        (TypedValue("v128", 7 << 96), {"type": "v128", "lane_type": "i32", "value": ["0", "0", "0", "7"]}, True),
        (TypedValue("v128", 7 << 64), {"type": "v128", "lane_type": "i32", "value": ["0", "0", "0", "7"]}, False),
    ],
)
def test_patterns_of_results(found: TypedValue, expected: dict[str, object], same: bool) -> None:
    assert matches(found, expected) is same


def test_words_of_traps() -> None:
    assert same_words("uninitialized element", "uninitialized element 2")
    assert same_words("undefined element", "undefined")
    assert not same_words("integer overflow", "integer divide by zero")
