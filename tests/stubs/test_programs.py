"""The stubs and the core under C programs without Python: each case of each program is one test, natively here.

Each `tests/stubs/<program>.c` with a `CASE(name)` is a program: it is compiled together with the core and the stubs
and run as `program case seed`. It prints its seed and PASS, SKIP or FAIL. To repeat a failure:
`TRAPLINE_SEED=0x... python -m pytest tests/stubs -k case`. `tests/aarch64` runs the same cases in an emulator.
"""

import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SKIPPED = 77  # must match TEST_SKIPPED of check.h
CORE = ("fiber", "signals", "threads", "code", "ranges", "breakpoints", "reserve")  # what does without Python.h
FLAGS = ("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer", "-pthread")
TIMEOUT_S = 120


def cases() -> list[tuple[str, str]]:
    """Each (program, case), by the text of the programs."""
    found = []
    for source in sorted(HERE.glob("*.c")):
        found += [(source.stem, name) for name in re.findall(r"^CASE\((\w+)\)", source.read_text(), re.M)]
    return found


def build(program: str, arch: str, compiler: str, folder: Path, flags: Sequence[str] = ()) -> Path:
    """Compiles a program for an arch into a folder, once; fails on any warning."""
    binary = folder / f"{program}-{arch}"
    if binary.exists():
        return binary
    sources = [
        HERE / f"{program}.c",
        HERE / f"machine_{arch}.c",
        HERE / f"code_{arch}.S",
        *(ROOT / "native" / f"{name}.c" for name in (*CORE, f"context_{arch}")),
        *sorted((ROOT / "stubs" / arch).glob("*.S")),
    ]
    include = [f"-I{ROOT / name}" for name in ("native", "stubs", "tests/stubs")]
    made = subprocess.run(
        [compiler, *FLAGS, *flags, *include, "-o", str(binary), *map(str, sources), "-ldl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
    )
    assert made.returncode == 0, made.stdout.decode(errors="replace")
    return binary


def run(command: Sequence[str], env: dict[str, str] | None = None) -> None:
    """Runs one case; its output is the reason of a failure or skip."""
    seed = [os.environ["TRAPLINE_SEED"]] if "TRAPLINE_SEED" in os.environ else []
    done = subprocess.run(
        [*command, *seed],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        env={**os.environ, **(env or {})},
    )
    text = done.stdout.decode(errors="replace")
    if done.returncode == SKIPPED:
        pytest.skip(text.strip().splitlines()[-1])
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}\n{text}"


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stubs")


@pytest.mark.client("gcc")
@pytest.mark.parametrize(("program", "case"), cases())
def test_case(program: str, case: str, binaries: Path, client: Callable[[str], Path]) -> None:
    arch = {"x86_64": "x86_64", "aarch64": "aarch64"}.get(platform.machine())
    if arch is None:
        pytest.skip(f"no stubs for {platform.machine()}")
    run([str(build(program, arch, str(client("gcc")), binaries)), case])
