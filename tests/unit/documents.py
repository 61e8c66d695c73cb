"""Python blocks of Markdown files, as scripts, with what they are said to print.

A block that imports trapline stands alone; any other goes on where the block before it ended. What a block prints
is said by the comments behind its calls of `print`, and by a block marked `text` that follows it. Both may leave
things out with `...`, and are looked for in the output in the order in which they stand.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOT", "Block", "blocks", "compare", "module_of", "with_dumps"]

ROOT = Path(__file__).resolve().parents[2]
_FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_DUMP = re.compile(r"^```dump (\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """One block: where it is, the script that ends with it, what that shall print in turn."""

    name: str
    code: str
    script: str
    expected: tuple[str, ...]


def _said(code: str) -> list[str]:
    """The comments behind calls of `print`."""
    found = []
    printed = False
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NAME and token.string == "print":
            printed = True
        elif token.type == tokenize.COMMENT and printed:
            found.append(token.string.removeprefix("#").strip())
        elif token.type == tokenize.NEWLINE:
            printed = False
    return found


def blocks(path: Path) -> list[Block]:
    """Every Python block of a file."""
    text = path.read_text(encoding="utf-8")
    found: list[Block] = []
    script, expected = "", ()
    fenced = list(_FENCED.finditer(text))
    for number, match in enumerate(fenced):
        if match[1] != "python":
            continue
        code = match[2]
        said = _said(code)
        if number + 1 < len(fenced) and fenced[number + 1][1] == "text":
            said += [line.strip() for line in fenced[number + 1][2].splitlines() if line.strip()]
        alone = re.search(r"^(import|from) (\w+, )*trapline\b", code, re.MULTILINE) is not None
        script = code if alone else script + code
        expected = (*(() if alone else expected), *said)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(f"{path.relative_to(ROOT)}:{line}", code, script, expected))
    return found


def module_of(path: Path) -> str:
    """The first module in a file's Python blocks, in the text format."""
    found = re.search(r'"""\n(\(module.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, f"{path.name} has no module"
    return found[1]


def with_dumps(text: str, dump: Callable[[str], str]) -> str:
    """A file's text with its blocks marked `dump STAGE` replaced by what `dump` gives for the stage."""
    return _DUMP.sub(lambda match: f"```dump {match[1]}\n{dump(match[1])}```", text)


def compare(block: Block, output: str) -> None:
    """Fails unless the output has everything that is said, in turn."""
    position = 0
    for words in block.expected:
        for piece in filter(None, (piece.strip() for piece in words.split("..."))):
            found = output.find(piece, position)
            assert found >= 0, f"{block.name}: {piece!r} is not behind {output[:position]!r} in {output!r}"
            position = found + len(piece)
