"""What every test may use: fixtures, the markers `client` and `limit`, and the limit on a test's time.

Fixtures
    client      client("gdb") is the path of an external tool; the test skips where the tool is absent.
    run_python  runs a script in another process, and shows where it died or hung.
    shared      the folder of large inputs kept outside the repository; the test skips where it is absent.
    golden      compares a text with a file of expected text; `make bless` rewrites the file.
    blessing    whether the run shall rewrite expected texts, for tests that keep them in their own form.

Markers
    @pytest.mark.client("gdb", "node")  the whole test needs these tools.
    @pytest.mark.limit(900)             the test may take so many seconds, not `faulthandler_timeout`.

With TRAPLINE_REQUIRE_CLIENTS=1 no test that needs a tool named in `.ci/required-clients` can skip: it fails.
"""

import difflib
import faulthandler
import functools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

ROOT = Path(__file__).resolve().parent.parent
REQUIRE_CLIENTS = os.environ.get("TRAPLINE_REQUIRE_CLIENTS", "") not in ("", "0")
GDB_TIMEOUT_S = 60

# Processes that tests start need not compile every source again, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / "build" / "pycache"))
# Every function that a test compiles is proved; trapline reads this when it is imported.
os.environ.setdefault("TRAPLINE_CHECK", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bless",
        action="store_true",
        help="run only the tests that compare with expected texts, and write what they got over those texts",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "client(*names): needs these external tools")
    config.addinivalue_line("markers", "limit(seconds): may take so long, in place of faulthandler_timeout")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--bless"):
        kept = [item for item in items if "blessing" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@functools.cache
def required_clients() -> frozenset[str]:
    """The commands in `.ci/required-clients`, of which each must be there when REQUIRE_CLIENTS."""
    lines = (ROOT / ".ci" / "required-clients").read_text(encoding="utf-8").splitlines()
    return frozenset(line.split("#")[0].strip() for line in lines) - {""}


@functools.cache
def find_client(name: str) -> Path | None:
    """The path of a command, or of the folder of an npm package from `make clients`; None if absent."""
    if command := shutil.which(name):
        return Path(command)
    package = ROOT / ".clients" / "node_modules" / name
    return package if package.is_dir() else None


def need_client(name: str) -> Path:
    """The path of a tool; where it is absent the test skips, or fails if the tool is required."""
    path = find_client(name)
    if path is not None:
        return path
    if REQUIRE_CLIENTS and name in required_clients():
        pytest.fail(f"{name} is in .ci/required-clients and not installed (make clients)", pytrace=False)
    pytest.skip(f"{name} is not installed (make clients)")


@pytest.fixture(scope="session")
def client() -> Callable[[str], Path]:
    """client("gdb") is the path of the tool; the test skips, or fails where the tool is required."""
    return need_client


def clients_of(item: pytest.Item) -> set[str]:
    return {name for mark in item.iter_markers("client") for name in mark.args}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in sorted(clients_of(item)):
        need_client(name)
    for mark in item.iter_markers("limit"):
        limit_s = float(mark.args[0])
        # The copy of stderr that pytest's own plugin made before it began to capture.
        stderr = item.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(limit_s, exit=True, file=stderr)  # replaces that plugin's timer
        break


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and REQUIRE_CLIENTS and not hasattr(report, "wasxfail"):
        named = clients_of(item)
        optional_absent = [name for name in named - required_clients() if find_client(name) is None]
        if named & required_clients() and not optional_absent:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            report.outcome = "failed"
            report.longrepr = (
                f"TRAPLINE_REQUIRE_CLIENTS=1, but this test of {sorted(named)} was left out: {reason}"
            )
    if report.failed:
        for finished in item.stash.get(RUNS, []):
            if finished.returncode < 0:
                report.sections.append((f"a script died of {finished.died_of}", finished.backtrace))
    return report


class Ending(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Finished(Ending):
    """How a script ended: (returncode, stdout, stderr). `assert run.returncode == 0, run` shows all of it.

    folder: where it ran, with whatever it wrote there.
    """

    folder: Path

    @property
    def died_of(self) -> str:
        """The name of the signal that killed the process, or an empty text."""
        if self.returncode >= 0:
            return ""
        try:
            return signal.Signals(-self.returncode).name
        except ValueError:
            return f"signal {-self.returncode}"

    @property
    def backtrace(self) -> str:
        """The stacks of all threads at death, from the core file, or why there are none."""
        cores = sorted(self.folder.glob("core*"))
        if not cores:
            pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
            return f"(no core file; core_pattern is {pattern!r})"
        return gdb(sys.executable, str(cores[0]))

    def __str__(self) -> str:
        parts = [f"returncode {self.returncode} {self.died_of}".rstrip()]
        parts += [f"--- stdout ---\n{self.stdout}", f"--- stderr ---\n{self.stderr}"]
        if self.died_of:
            parts.append(f"--- stacks ---\n{self.backtrace}")
        return "\n".join(parts)


RUNS = pytest.StashKey[list[Finished]]()


def gdb(*arguments: str) -> str:
    """The stacks of all threads of a core file or of a running process, as gdb tells them."""
    if shutil.which("gdb") is None:
        return "(no gdb to read the stacks)"
    commands = ("set pagination off", "info registers", "x/4i $pc")
    options = [text for command in (*commands, "thread apply all bt 60") for text in ("-ex", command)]
    try:
        done = subprocess.run(
            ["gdb", "-nx", "-batch", "-iex", "set auto-load python-scripts off", *options, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=GDB_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"(gdb gave no stacks in {GDB_TIMEOUT_S} s)"
    return done.stdout.decode(errors="replace")


class RunPython:
    """The fixture `run_python`."""

    def __init__(self, folder: Path, runs: list[Finished]) -> None:
        self._folder = folder
        self._runs = runs

    def __call__(
        self,
        script: str,
        *arguments: str,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        core: bool = True,
    ) -> Finished:
        """Runs a script to its end, in a folder of its own under tmp_path.

        script: Python text, indented as you like. arguments: its sys.argv[1:]. timeout: seconds until it is
        killed and the test fails with its stacks. env: variables set besides those of this process. options:
        of the interpreter. core: False where death is expected, to save the time of writing a core file.
        """
        folder = self._folder / f"run{len(self._runs)}"
        folder.mkdir()
        path = folder / "script.py"
        path.write_text(textwrap.dedent(script), encoding="utf-8")
        # The shell raises the limit for the child alone, and exec keeps the process id.
        raise_limit = f'ulimit -c {"$(ulimit -H -c)" if core else 0} 2>/dev/null; exec "$@"'
        process = subprocess.Popen(
            ["/bin/sh", "-c", raise_limit, "sh", sys.executable, *options, str(path), *arguments],
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        stacks = ""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            stacks = gdb("-p", str(process.pid))
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        finished = Finished(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        finished.folder = folder
        if stacks:
            text = f"a script did not end in {timeout} s\n{finished}\n--- stacks then ---\n{stacks}"
            pytest.fail(text, pytrace=False)
        self._runs.append(finished)
        return finished


@pytest.fixture
def run_python(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunPython]:
    """run_python(script, ...) -> Finished; a failing test shows the stacks of a script killed by a signal."""
    runs = request.node.stash.setdefault(RUNS, [])
    yield RunPython(tmp_path, runs)
    for finished in runs:
        for core in finished.folder.glob("core*"):
            core.unlink()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder named by TRAPLINE_SHARED, by default `../shared` beside the checkout."""
    folder = Path(os.environ.get("TRAPLINE_SHARED", ROOT.parent / "shared")).resolve()
    if not folder.is_dir():
        pytest.skip("the folder of shared inputs is not here (TRAPLINE_SHARED)")
    return folder


@pytest.fixture
def blessing(request: pytest.FixtureRequest) -> bool:
    """Whether this run rewrites expected texts, by `make bless`."""
    return bool(request.config.getoption("--bless"))


@pytest.fixture
def golden(request: pytest.FixtureRequest, blessing: bool) -> Callable[[str | Path, str], None]:
    """golden(path, text) fails unless the file holds that text; path is relative to the test's own folder."""

    def compare(path: str | Path, text: str) -> None:
        file = request.path.parent / path
        if blessing:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        assert file.exists(), f"no expected text {file} yet: make bless writes it"
        expected = file.read_text(encoding="utf-8")
        if text != expected:
            lines = (expected.splitlines(), text.splitlines(), str(path), "what came out")
            diff = "\n".join(difflib.unified_diff(*lines, lineterm=""))
            pytest.fail(f"not the expected text (make bless accepts it):\n{diff}", pytrace=False)

    return compare
