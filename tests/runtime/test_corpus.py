"""Real programs print what they print under wasmtime, at both debug levels."""

from __future__ import annotations

import platform

import pytest

from bench.corpus import Program, Trapline, expected_of, programs

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")

PROGRAMS = [program for program in programs() if program.folder is not None]


def test_there_are_programs() -> None:
    if not PROGRAMS:
        pytest.skip("the folder of shared inputs is not here (TRAPLINE_SHARED)")
    assert len(PROGRAMS) == 18


@pytest.mark.parametrize("level", ["full", "live"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_output(program: Program, level: str) -> None:
    """Twice: the second instance finds the code compiled."""
    runner = Trapline(program, level)
    for _ in range(1 if "ed25519" in program.name else 2):
        _, output = runner.run()
        assert output == expected_of(program)
