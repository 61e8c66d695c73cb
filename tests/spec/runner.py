"""Runs the commands of a script on an engine, and counts what held and what was left out.

A command is one of the script's: a module, an action or an assertion. Each either passes, or is left out for a reason
that is counted, or ends up in `failures`; the three add up to all of the script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tests.spec.embedder import Embedder, HostModule, LinkFailed, Refused, Trapped, TypedValue
from tests.spec.scripts import Command

__all__ = ["SPECTEST", "Failure", "Outcome", "Runner", "run"]

# The module that the scripts import as "spectest": the specification's interpreter/README.md, "Spectest host module".
SPECTEST = HostModule(
    functions={
        "print": (),
        "print_i32": ("i32",),
        "print_i64": ("i64",),
        "print_f32": ("f32",),
        "print_f64": ("f64",),
        "print_i32_f32": ("i32", "f32"),
        "print_f64_f64": ("f64", "f64"),
    },
    globals={
        "global_i32": TypedValue("i32", 666),
        "global_i64": TypedValue("i64", 666),
        "global_f32": TypedValue("f32", 0x4426A666),  # 666.6
        "global_f64": TypedValue("f64", 0x4084D4CCCCCCCCCD),  # 666.6
    },
    tables={"table": (10, 20)},
    memories={"memory": (1, 2)},
)

# Why a command was left out.
TEXT = "malformed or invalid text, which the converter refuses or repairs"
NO_VALIDATOR = "the engine does not validate"
OTHER_FEATURE = "of a module that needs a feature not supported yet"

CANONICAL_NAN = {"f32": 0x7FC0_0000, "f64": 0x7FF8_0000_0000_0000}
WIDTH = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "f32": 32, "f64": 64}


class Failure(Exception):
    """A command did not hold."""


class LeftOut(Exception):
    """A command is not for this engine, with the reason."""


@dataclass
class Outcome:
    """passed: commands by kind. left_out: commands by (kind, reason). failures: (line, kind, what was wrong)."""

    passed: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.passed.total() + self.left_out.total() + len(self.failures)


class Runner:
    """The state of a script that runs on one engine; commands may be run one by one, beside another engine's.

    left_out_lines: the lines of modules that the engine shall not see; commands on them are left out too.
    """

    def __init__(self, embedder: Embedder, left_out_lines: Collection[int] = ()) -> None:
        self.embedder = embedder
        self.left_out_lines = frozenset(left_out_lines)
        self.outcome = Outcome()
        self.current: Any = None  # the latest module's instance; None if it is left out
        self.named: dict[str, Any] = {}
        self.definitions: dict[str | None, bytes] = {}
        self.imports: dict[tuple[str, str], Any] = {}
        self._register("spectest", embedder.host_module(SPECTEST))

    def run(self, command: Command) -> None:
        """Runs one command and counts it."""
        kind: str = command["type"]
        if kind == "action":
            kind = command["action"]["type"]
        try:
            self._run(command)
        except LeftOut as reason:
            self.outcome.left_out[kind, str(reason)] += 1
        except Failure as failure:
            self.outcome.failures.append((command["line"], kind, str(failure)))
        except (Trapped, LinkFailed, Refused) as error:
            self.outcome.failures.append((command["line"], kind, f"{type(error).__name__}: {error}"))
        except Exception as error:
            error.add_note(f"in the {kind} of line {command['line']}")
            raise
        else:
            self.outcome.passed[kind] += 1

    def _run(self, command: Command) -> None:
        kind = command["type"]
        if kind in ("module", "module_instance"):
            self._module(command)
        elif kind == "module_definition":
            content = self._content(command)
            if self.embedder.validates:
                self.embedder.validate(content)
            self.definitions[command.get("name")] = self.definitions[None] = content
        elif kind == "register":
            self._register(command["as"], self._instance(command.get("name")))
        elif kind == "action":
            self.act(command["action"])
        elif kind == "assert_return":
            self._returns(command)
        elif kind in ("assert_trap", "assert_exhaustion"):
            self._traps(command)
        elif kind in ("assert_malformed", "assert_invalid"):
            self._refused(command)
        elif kind in ("assert_unlinkable", "assert_uninstantiable"):
            self._not_instantiated(command)
        else:
            raise LeftOut(OTHER_FEATURE)

    # Modules

    def _content(self, command: Command) -> bytes:
        if "content" not in command:
            raise Failure(f"the converter refused the module: {command.get('error')}")
        content: bytes = command["content"]
        return content

    def _module(self, command: Command) -> None:
        self.current = None
        name = command.get("instance" if command["type"] == "module_instance" else "name")
        if name:
            self.named.pop(name, None)
        if command["line"] in self.left_out_lines:
            raise LeftOut(OTHER_FEATURE)
        if command["type"] == "module_instance":
            if command.get("module") not in self.definitions:
                raise LeftOut(OTHER_FEATURE)
            content = self.definitions[command.get("module")]
        else:
            content = self._content(command)
        self.current = self.embedder.instantiate(content, self.imports)
        if name:
            self.named[name] = self.current

    def _instance(self, name: str | None) -> Any:
        instance = self.named.get(name) if name else self.current
        if instance is None:
            raise LeftOut(OTHER_FEATURE)
        return instance

    def _register(self, name: str, instance: Any) -> None:
        for export, extern in self.embedder.exports(instance).items():
            self.imports[name, export] = extern

    # Actions and assertions

    def act(self, action: dict[str, Any]) -> list[TypedValue]:
        """Does a script's `invoke` or `get`."""
        instance = self._instance(action.get("module"))
        if action["type"] == "get":
            return [self.embedder.get_global(instance, action["field"])]
        return self.embedder.invoke(instance, action["field"], [argument(value) for value in action["args"]])

    def _returns(self, command: Command) -> None:
        results = self.act(command["action"])
        expected = command["expected"]
        if len(results) != len(expected) or not all(map(matches, results, expected)):
            raise Failure(f"{command['action']} gave {results}, expected {expected}")

    def _traps(self, command: Command) -> None:
        expected = command["text"]
        try:
            results = self.act(command["action"])
        except Trapped as trap:
            if not same_words(trap.words, expected):
                raise Failure(f"trapped with {trap.words!r}, expected {expected!r}") from trap
        else:
            raise Failure(f"gave {results}, expected the trap {expected!r}")

    def _refused(self, command: Command) -> None:
        if "content" not in command or (
            command["type"] == "assert_malformed" and command["module_type"] != "binary"
        ):
            raise LeftOut(TEXT)
        if command["line"] in self.left_out_lines:
            raise LeftOut(OTHER_FEATURE)
        if not self.embedder.validates:
            raise LeftOut(NO_VALIDATOR)
        try:
            self.embedder.validate(command["content"])
        except Refused:
            return
        raise Failure(f"accepted, expected {command['text']!r}")

    def _not_instantiated(self, command: Command) -> None:
        if command["line"] in self.left_out_lines:
            raise LeftOut(OTHER_FEATURE)
        expected = command["text"]
        try:
            self.embedder.instantiate(self._content(command), self.imports)
        except LinkFailed as error:
            if command["type"] == "assert_unlinkable" and str(error).startswith(expected):
                return
            raise
        except Trapped as trap:
            if command["type"] == "assert_uninstantiable" and same_words(trap.words, expected):
                return
            raise
        raise Failure(f"instantiated, expected {expected!r}")


def same_words(found: str, expected: str) -> bool:
    """Scripts shorten ("undefined") and lengthen ("uninitialized element 2") the words for a trap."""
    return found.startswith(expected) or expected.startswith(found)


def argument(value: dict[str, Any]) -> TypedValue:
    kind = value["type"]
    if kind == "ref.null":
        return TypedValue("externref" if value["value"] == "extern" else "funcref", None)
    if kind in ("ref.extern", "ref.host"):
        return TypedValue("externref", int(value["value"]))
    if kind == "v128":
        width = WIDTH[value["lane_type"]]
        return TypedValue(kind, sum(int(lane) << width * at for at, lane in enumerate(value["value"])))
    return TypedValue(kind, int(value["value"]))


def matches(found: TypedValue, expected: dict[str, Any]) -> bool:
    """Whether a result is what a script expects; NaN patterns and kinds of reference stand for many values."""
    kind = expected["type"]
    if kind == "either":
        return any(matches(found, one) for one in expected["values"])
    if kind == "ref.null":
        return found.bits is None and found.type.endswith("ref")
    if kind in ("ref.extern", "ref.host"):
        if expected["value"] is None:
            return found.type == "externref" and found.bits is not None
        return found == TypedValue("externref", int(expected["value"]))
    if kind == "ref.func":
        return found.type == "funcref" and found.bits is not None
    if found.type != kind:
        return False
    if kind == "v128":
        lane_type, texts = expected["lane_type"], expected["value"]
        width = WIDTH[lane_type]
        lanes = [found.bits >> width * at & (1 << width) - 1 for at in range(128 // width)]
        return all(same_number(lane_type, lane, text) for lane, text in zip(lanes, texts, strict=True))
    return same_number(kind, found.bits, expected["value"])


def same_number(kind: str, bits: int, expected: str) -> bool:
    if expected == "nan:canonical":
        return bits & (1 << WIDTH[kind] - 1) - 1 == CANONICAL_NAN[kind]
    if expected == "nan:arithmetic":
        return bits & CANONICAL_NAN[kind] == CANONICAL_NAN[kind]
    return bits == int(expected)


def run(commands: list[Command], embedder: Embedder, left_out_lines: Collection[int] = ()) -> Outcome:
    """Runs a whole script on a new engine."""
    runner = Runner(embedder, left_out_lines)
    for command in commands:
        runner.run(command)
    return runner.outcome
