"""The unwind information of the stubs: from every instruction gdb finds who called tl_stub_enter or tl_stub_resume."""

import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stubs.test_programs import HERE, TIMEOUT_S, build

STUBS = {"enter", "exit", "inject", "resume", "check", "host", "resume_host", "unwind", "leave_handler"}


@pytest.mark.client("gdb", "gcc")
def test_every_instruction_of_every_stub(tmp_path: Path, client: Callable[[str], Path]) -> None:
    arch = platform.machine()
    binary = build("transitions", arch, str(client("gcc")), tmp_path)
    done = subprocess.run(
        [str(client("gdb")), "-nx", "-batch", "-x", str(HERE / "unwinding_steps.py"), str(binary)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
    )
    text = done.stdout.decode(errors="replace")
    places = re.findall(r"^place (0x[0-9a-f]+) (\w+) (.*)$", text, re.M)
    assert {stub for _, stub, _ in places} == STUBS, text
    assert len(places) > 200, text
    assert [place for place in places if place[2] != "ok"] == []
