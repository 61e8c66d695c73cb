"""Files of tests/disas: a module in the text format, directives on top, and below it what is expected of it.

    ;;; what the file shows
    ;;! show STAGE FUNCTION full|live [checked]     the text that a stage makes of a function
    ;;! loops FUNCTION N                            the function has N innermost loops, which stay in registers

Expected texts are comments behind the module, from the first line that begins with `;; ==`; `make bless` writes them.
They are made for the oldest processor that is supported, so that they are the same everywhere.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

from trapline.arch.x86_64.features import Features
from trapline.compile.instance import InstanceLayout
from trapline.compile.pipeline import Compiled, compile_defined
from trapline.compile.x86_64.target import Target
from trapline.dump import Stage, Watch, named
from trapline.wasm.decode import decode
from trapline.wasm.module import Module
from trapline.wasm.text import parse_text
from trapline.wasm.validate import validate

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.wat"))
EXPECTED = ";; =="


class Show(NamedTuple):
    """One directive `show`."""

    stage: Stage
    function: str
    full: bool
    checked: bool

    @property
    def title(self) -> str:
        return ", ".join(["full" if self.full else "live", *(["checked"] if self.checked else [])])


class Golden:
    """One file."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        first = next((number for number, line in enumerate(lines) if line.startswith(EXPECTED)), len(lines))
        self.path = path
        self.source = "\n".join(lines[:first]).rstrip() + "\n"
        self.expected = "\n".join(lines[first:])
        self.shows: list[Show] = []
        self.loops: dict[str, int] = {}
        for number, line in enumerate(lines[:first], 1):
            if line.startswith(";;!"):
                self._directive(line[3:].split(), f"{path.name}:{number}")
        self._module: Module | None = None

    def _directive(self, words: list[str], where: str) -> None:
        match words:
            case ["show", stage, function, ("full" | "live") as level, *rest] if rest in ([], ["checked"]):
                self.shows.append(Show(Stage(stage), function, level == "full", bool(rest)))
            case ["loops", function, count]:
                self.loops[function] = int(count)
            case _:
                raise AssertionError(f"{where}: found {' '.join(words)!r}, expected a directive of {__file__}")

    @property
    def module(self) -> Module:
        if self._module is None:
            self._module = decode(parse_text(self.source))
            validate(self._module)
        return self._module

    def compile(self, show: Show, stream: io.StringIO | None = None) -> Compiled:
        """Compile a function, with what `show` asks for written to a stream."""
        module = self.module
        indices = [
            index for index in range(len(module.function_types)) if module.function_name(index) == show.function
        ]
        assert len(indices) == 1, f"{self.path.name}: {len(indices)} functions are called {show.function}"
        heading = f"{named(indices[0], show.function)}, {show.title}"
        watch = Watch([show.stage], heading, stream) if stream is not None else None
        target = Target(InstanceLayout(module), Features(), show.checked)
        return compile_defined(module, indices[0] - module.imported_functions, show.full, watch, target)

    def text(self) -> str:
        """What the file shows now, as comments."""
        stream = io.StringIO()
        for show in self.shows:
            self.compile(show, stream)
        return "\n".join([f";; {line}".rstrip() for line in stream.getvalue().splitlines()])
