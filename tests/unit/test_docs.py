"""Every Python block of the README and of the guide runs as it stands and prints what is said beside it."""

import re
from pathlib import Path

import pytest

from tests.unit.documents import ROOT, Block, blocks, compare, module_of, with_dumps
from trapline.cli import main

README = ROOT / "README.md"
GUIDE = sorted((ROOT / "docs").glob("*.md"))
BLOCKS = [block for path in (README, *GUIDE) for block in blocks(path)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block(block: Block, run_python) -> None:
    ending = run_python(block.script)
    assert ending.returncode == 0, ending
    compare(block, ending.stdout)


def test_dumps_are_what_the_compiler_makes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], blessing: bool
) -> None:
    """`make bless` writes them anew."""
    page = ROOT / "docs" / "inside.md"
    file = tmp_path / "module.wat"
    file.write_text(module_of(page), encoding="utf-8")

    def dump(stage: str) -> str:
        assert main(["dump", str(file), "--stage", stage]) == 0
        return capsys.readouterr().out.partition("\n")[2]

    text = page.read_text(encoding="utf-8")
    found = with_dumps(text, dump)
    if blessing:
        page.write_text(found, encoding="utf-8")
    assert found == text or blessing


@pytest.mark.parametrize("path", [README, *GUIDE], ids=lambda path: path.name)
def test_something_is_said_of_what_is_printed(path: Path) -> None:
    found = blocks(path)
    assert found
    assert any(block.expected for block in found)


def test_the_first_examples_of_the_readme_are_short() -> None:
    for block in blocks(README)[:2]:
        assert len(block.code.strip().splitlines()) <= 26


@pytest.mark.parametrize("path", [README, *GUIDE, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        assert (path.parent / target).exists(), target


def test_the_readme_leads_to_every_page_of_the_guide() -> None:
    text = README.read_text(encoding="utf-8")
    assert [path.name for path in GUIDE if f"docs/{path.name}" not in text] == []
