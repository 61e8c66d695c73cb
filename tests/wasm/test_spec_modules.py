"""The official test scripts as far as they concern decoding and validation: every module, malformed and invalid one.

An assertion holds if the error is of the right class and its text begins with the words of the script. Which scripts
belong to what is supported stands in tests/spec/files.py; here every script is read.
"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from tests.spec.files import LATER, PARTLY, SUPPORTED
from tests.spec.scripts import Command, ScriptsAbsent, load
from trapline.errors import DecodeError, ModuleError, UnsupportedError, ValidationError
from trapline.wasm.decode import decode
from trapline.wasm.validate import validate

# Assertions that an error begins with other words, by script and line. All these modules are refused as malformed.
# Bodies are decoded when all sections have been found; in these modules a section or body is shorter than what its
# contents say, and the words are those of the other end of the contradiction.
OTHER_WORDS: dict[tuple[str, int], str] = {
    ("binary", 55): "unexpected end of section or function",
    ("binary", 92): "unexpected end of section or function",
    ("binary", 737): "unexpected end of section or function",
    ("binary-leb128", 404): "malformed section id",
    ("binary-leb128", 461): "malformed section id",
    ("binary-leb128", 730): "malformed section id",
    ("binary-leb128", 749): "malformed section id",
    ("binary-leb128", 843): "malformed section id",
    ("binary-leb128", 862): "malformed section id",
}

# Invalid modules in scripts of supported features, by line, that need another proposal to get as far as their fault.
OTHER_PROPOSALS: dict[str, set[int]] = {
    "align": {948},
    "br_if": {667},
    "elem": {516, 524},
    "exports": {70},
    "func": {659},
    "global": {674},
    "local_tee": {612},
    "memory_size3": {3, 14},
    "select": {383},
    "table": {54, 58, 62, 66, 70, 74, 78, 119, 127, 135},
    "unreached-invalid": {697, 763, 773},
}

# Copies of scripts above in a proposal's folder, with other line numbers or from times with other rules.
COPIES = {
    "proposals/custom-descriptors/binary",
    "proposals/custom-page-sizes/binary",
    "proposals/threads/imports",
}

MODULES = {
    "module",
    "module_definition",
    "assert_unlinkable",
    "assert_uninstantiable",
    "assert_malformed_custom",
    "assert_invalid_custom",
}


def check(name: str, command: Command) -> str:
    """What became of one command: "passed", "refused" by the name of a proposal, "other" or, if it failed, a text."""
    kind = command["type"]
    if "content" not in command or (kind == "assert_malformed" and command["module_type"] != "binary"):
        return "other"  # the module text was refused, or a command that has no module
    expected = command.get("text", "")
    try:
        validate(decode(command["content"]), bodies=True)
    except ModuleError as error:
        if tells_place(error) and holds(name, command, error):
            return "refused" if isinstance(error, UnsupportedError) else "passed"
        return f"{name}.wast:{command['line']}: {kind} {expected!r}: {error}"
    if kind in ("assert_malformed", "assert_invalid"):
        return f"{name}.wast:{command['line']}: accepted, {kind} {expected!r}"
    assert kind in MODULES, kind
    return "passed"


def tells_place(error: ModuleError) -> bool:
    return error.offset is not None and (error.section is not None or error.offset <= 8)


def holds(name: str, command: Command, error: ModuleError) -> bool:
    """Whether a command may or shall end in this error."""
    text = str(error)
    if isinstance(error, UnsupportedError):
        return ": not supported" in text
    if name in LATER["custom page sizes"] and text.startswith("malformed limits flags"):
        return True  # so say the tests of the core specification
    if command["type"] == "assert_malformed":
        expected = OTHER_WORDS.get((name, command["line"]), command["text"])
        return isinstance(error, DecodeError) and text.startswith(expected)
    return (
        command["type"] == "assert_invalid" and isinstance(error, ValidationError) and text.startswith(command["text"])
    )


def run(name: str) -> tuple[Counter[str], set[int]]:
    """Counts of the results of a script's commands and the lines of refused modules; fails if any command does."""
    try:
        commands = load(name)
    except ScriptsAbsent as absent:
        pytest.skip(str(absent))
    results = [(command["line"], check(name, command)) for command in commands]
    failures = [result for _, result in results if result not in ("passed", "refused", "other")]
    assert not failures, "\n".join(failures)
    return Counter(result for _, result in results), {line for line, result in results if result == "refused"}


@pytest.mark.parametrize("name", sorted(itertools.chain(*SUPPORTED.values())))
def test_supported(name: str) -> None:
    _, refused = run(name)
    assert refused == OTHER_PROPOSALS.get(name, set())


@pytest.mark.parametrize("name", sorted(PARTLY))
def test_partly(name: str) -> None:
    _, refused = run(name)
    assert refused <= PARTLY[name] | OTHER_PROPOSALS.get(name, set())


@pytest.mark.parametrize("name", sorted(set(itertools.chain(*LATER.values())) - COPIES))
def test_later(name: str) -> None:
    """What another proposal needs is refused by its name; the rest of its scripts passes."""
    run(name)
