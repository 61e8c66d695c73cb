"""The external tools that `make clients` installs answer; what they do is tested beside this file."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = [
    "gdb",
    "valgrind",
    "qemu-aarch64-static",
    "aarch64-linux-gnu-gcc",
    "lldb-22",
    "clang-22",
    "node",
]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.client(name)) for name in TOOLS])
def test_tool_answers(client: Callable[[str], Path], name: str) -> None:
    done = subprocess.run([client(name), "--version"], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.client("node", "@vscode/debugadapter-testsupport")
def test_debug_adapter_client_loads(client: Callable[[str], Path]) -> None:
    package = client("@vscode/debugadapter-testsupport")
    script = f"console.log(typeof require({str(package)!r}).DebugClient)"
    done = subprocess.run([client("node"), "-e", script], capture_output=True, timeout=60)
    assert done.stdout == b"function\n", done.stderr


def test_the_required_tools_are_tested_here() -> None:
    listed = (Path(__file__).parents[2] / ".ci" / "required-clients").read_text(encoding="utf-8").splitlines()
    assert {line for line in listed if line and not line.startswith("#")} <= set(TOOLS)
