"""The programs of tests/stubs, compiled for aarch64 and run in an emulator.

The CPU is one with large-system atomics; each program is linked statically, so that no library of that machine is
needed. Skips where the cross compiler or the emulator is absent.

Left out: a copy patched while a thread runs it. qemu 7.2 does not see a write by an alias to code that it has
translated; the test of every instruction changes the page's protection after each patch to make it look again. And
the hook under Python's handlers, which asks dladdr: it finds nothing in a static program.
"""

import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stubs.test_programs import build, cases, run

EMULATOR = "qemu-aarch64-static"
COMPILER = "aarch64-linux-gnu-gcc"


LEFT_OUT = {
    ("patching", "while_running"),
    ("interrupts", "python_signals"),
    ("interrupts", "python_signals_direct"),
}


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stubs_aarch64")


@pytest.mark.skipif(platform.machine() == "aarch64", reason="tests/stubs runs them natively here")
@pytest.mark.client(EMULATOR, COMPILER)
@pytest.mark.parametrize(("program", "case"), [row for row in cases() if row not in LEFT_OUT])
def test_case(program: str, case: str, binaries: Path, client: Callable[[str], Path]) -> None:
    binary = build(program, "aarch64", str(client(COMPILER)), binaries, ["-static"])
    command = [str(client(EMULATOR)), "-cpu", "neoverse-n1", str(binary), case]
    run(command, {"TEST_EMULATED": "1"})
