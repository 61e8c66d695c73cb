"""What the compiler makes of small modules, compared line by line; and that inner loops hold nothing superfluous."""

from __future__ import annotations

import difflib
import re

import pytest

from tests.disas.goldens import FILES, FOLDER, Golden, Show
from trapline.compile.print_code import print_code
from trapline.dump import Stage
from trapline.wasm.body import decode_body

pytest.importorskip("wasmtime", reason="the text format needs wasmtime")

GOLDENS = [Golden(path) for path in FILES]


@pytest.mark.parametrize("golden_file", GOLDENS, ids=lambda found: found.path.stem)
def test_what_the_stages_make(golden_file: Golden, blessing: bool) -> None:
    assert golden_file.shows, "the file shows nothing"
    text = golden_file.text()
    if blessing:
        golden_file.path.write_text(f"{golden_file.source}\n{text}\n", encoding="utf-8")
    elif text != golden_file.expected:
        name = str(golden_file.path.relative_to(FOLDER))
        lines = (golden_file.expected.splitlines(), text.splitlines(), name, "what came out")
        pytest.fail(
            "not the expected text (make bless accepts it):\n" + "\n".join(difflib.unified_diff(*lines, lineterm="")),
            pytrace=False,
        )


class Flow:
    """The basic blocks of a disassembly: lines from a label or a jump to the next, and where control goes from each."""

    def __init__(self, lines: list[str]) -> None:
        self.blocks: list[list[str]] = [[]]
        starts: dict[str, int] = {}
        for line in lines:
            text = line.strip()
            if re.fullmatch(r"\w+:", text):
                if self.blocks[-1]:
                    self.blocks.append([])
                starts[text[:-1]] = len(self.blocks) - 1
                continue
            self.blocks[-1].append(text)
            if re.match(r"j|ret|hlt", text):
                self.blocks.append([])
        self.ways: list[list[int]] = []
        for number, block in enumerate(self.blocks):
            last = block[-1] if block else ""
            jump = re.fullmatch(r"j\w+ ([Lb]\d+)", last)
            ways = [starts[jump[1]]] if jump else []
            if not re.match(r"jmp|ret|hlt", last) and number + 1 < len(self.blocks):
                ways.append(number + 1)
            self.ways.append(ways)

    def _reached(self, start: int, among: set[int]) -> set[int]:
        """What is reached from a block by at least one step, without leaving `among`."""
        found: set[int] = set()
        work = [start]
        while work:
            for way in self.ways[work.pop()]:
                if way in among and way not in found:
                    found.add(way)
                    work.append(way)
        return found

    def inner_loops(self, among: set[int]) -> list[set[int]]:
        """The innermost loops among some blocks, in order."""
        reached = {number: self._reached(number, among) for number in among}
        loops = []
        for number in sorted(among):
            loop = {other for other in reached[number] if number in reached[other]}
            if number != min(loop, default=-1):
                continue
            outside = [other for other in range(len(self.blocks)) if other not in loop]
            headers = {way for other in outside for way in self.ways[other] if way in loop}
            loops += self.inner_loops(loop - headers) or [loop]
        return loops

    def superfluous(self, loop: set[int]) -> list[str]:
        """Accesses to the frame, and jumps to a trap, which is what a bounds check ends in."""
        lines = [line for number in sorted(loop) for line in self.blocks[number]]
        found = [line for line in lines if re.search(r"\[(rbp|rsp)|\b(push|pop)\b", line)]
        traps = {number for number, block in enumerate(self.blocks) if block and block[0].startswith("hlt")}
        return found + [self.blocks[number][-1] for number in sorted(loop) if traps & set(self.ways[number])]


@pytest.mark.parametrize("level", ["full", "live"])
@pytest.mark.parametrize("golden_file", [found for found in GOLDENS if found.loops], ids=lambda found: found.path.stem)
def test_inner_loops_stay_in_registers(golden_file: Golden, level: str) -> None:
    for function, count in golden_file.loops.items():
        compiled = golden_file.compile(Show(Stage.EMIT, function, level))
        module = golden_file.module
        body = decode_body(module, compiled.func.index - module.imported_functions)
        text = print_code(compiled.emitted, (), body)
        flow = Flow(text.splitlines()[1:])
        loops = flow.inner_loops(set(range(len(flow.blocks))))
        assert len(loops) == count, f"{function} has {len(loops)} innermost loops:\n{text}"
        for loop in loops:
            assert not flow.superfluous(loop), text


def test_superfluous_is_found() -> None:
    """The test above fails where it should: a loop with its back edge out of line, around it another."""
    text = """
        xor eax, eax
    L0:
        mov rcx, qword ptr [rbp - 8]
    L1:
        cmp eax, 4
        ja L3
        mov rcx, qword ptr [rbp - 0x10]
        test ecx, ecx
        je L2
        cmp eax, ecx
        jne L0
        ret
    L2:
        add eax, 1
        jmp L1
    L3:
        hlt                                 ; memory, opcode 7
    """
    flow = Flow(text.strip().splitlines())
    (loop,) = flow.inner_loops(set(range(len(flow.blocks))))
    assert flow.superfluous(loop) == ["mov rcx, qword ptr [rbp - 0x10]", "ja L3"]
