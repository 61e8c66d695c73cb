"""Every Python block of the README runs as it stands and prints what its comments say."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
EXPECTED = [
    ["42", "integer division by zero or overflow at average+0x3 (pc 0x", "126 0", "42"],
    ["interrupt at spin", "rounds"],
    ["177 55 55"],
    ["42"],
    ["imul eax, edi 6", "ret 42", "None 42", "-> 0x"],
]


def test_there_is_an_expectation_for_each_block() -> None:
    assert len(BLOCKS) == len(EXPECTED)


@pytest.mark.parametrize(("block", "expected"), list(zip(BLOCKS, EXPECTED, strict=True)))
def test_block(block: str, expected: list[str], run_python) -> None:
    ending = run_python(block)
    assert ending.returncode == 0, ending
    position = 0
    for text in expected:
        found = ending.stdout.find(text, position)
        assert found >= 0, f"{text!r} is not behind {ending.stdout[:position]!r} in {ending.stdout!r}"
        position = found + len(text)


def test_the_first_example_is_twenty_lines_long() -> None:
    assert len(BLOCKS[0].strip().splitlines()) <= 20
