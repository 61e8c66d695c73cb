"""The client of the keystone worker: `encode_lines` and the life of the worker process.

One worker per process, started when first needed and ended at exit. A request that kills the worker, or takes
too long, is halved and sent again until the line at fault stands alone; that line's answer is an `Refusal`.
A forked child drops its parent's worker without touching it and starts its own.

Not done: keystone in this process. It ends the process (`exit(1)`, SIGSEGV) on some lines of plain text.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from trapline.errors import AssemblyError

REQUEST_TIMEOUT_S: Final = 20.0
START_TIMEOUT_S: Final = 60.0
LINES_PER_REQUEST: Final = 4000
_MAX_FRAME_BYTES: Final = 1 << 28
_CHUNK_BYTES: Final = 1 << 16
INSTALL_HINT: Final = (
    "trapline.assemble needs keystone: pip install keystone-engine"
    " (no wheel exists for Linux on aarch64 or for musl: build it from its source there)"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why keystone gave no bytes for a line."""

    reason: str


class _WorkerDied(Exception):
    """The worker ended or was ended while it worked on a request."""


class Worker:
    """One worker process. Not thread-safe: `_Client` holds the lock."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keystone_worker.py")
        if not sys.executable:
            raise AssemblyError("no Python interpreter to run keystone in: sys.executable is empty")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                close_fds=True,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise AssemblyError(f"the keystone worker could not be started: {error}") from error
        try:
            # Absolute, because the worker's working directory is not ours.
            path = [os.path.abspath(entry) for entry in sys.path]
            answer = self.ask({"path": path, "timeout_s": timeout_s}, START_TIMEOUT_S)
        except _WorkerDied as error:
            raise AssemblyError(f"the keystone worker did not start: {error}") from None
        except BaseException:
            self.stop()
            raise
        if "missing" in answer:
            self.stop()
            raise AssemblyError(f"keystone cannot be loaded ({answer['missing']}); {INSTALL_HINT}")

    def ask(self, request: object, timeout_s: float | None = None) -> Any:
        """Send one frame and return the answer. Raises _WorkerDied; the worker is gone then."""
        deadline = time.monotonic() + (self._timeout_s + 2.0 if timeout_s is None else timeout_s)
        body = json.dumps(request).encode("ascii")
        try:
            self._write(len(body).to_bytes(4, "little") + body, deadline)
            count = int.from_bytes(self._read(4, deadline), "little")
            if count > _MAX_FRAME_BYTES:
                raise _WorkerDied("answered with nonsense")
            return json.loads(self._read(count, deadline))
        except (_WorkerDied, OSError, ValueError) as error:
            raise _WorkerDied(self._last_words(str(error))) from None
        except BaseException:
            self.stop()  # an answer that nobody reads would be taken for the next one
            raise

    def _write(self, data: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)
        sent = 0
        poller = select.poll()
        poller.register(descriptor, select.POLLOUT)
        while sent < len(data):
            self._wait(poller, deadline)
            try:
                sent += os.write(descriptor, data[sent : sent + _CHUNK_BYTES])
            except BlockingIOError:
                continue

    def _read(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        parts: list[bytes] = []
        while count:
            self._wait(poller, deadline)
            part = os.read(descriptor, min(count, _CHUNK_BYTES))
            if not part:
                raise _WorkerDied("ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    @staticmethod
    def _wait(poller: select.poll, deadline: float) -> None:
        left_ms = int((deadline - time.monotonic()) * 1000)
        if left_ms <= 0 or not poller.poll(left_ms):
            raise _WorkerDied("took too long")

    def _last_words(self, reason: str) -> str:
        """End the process and say how it ended, with what it printed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5 if reason == "ended" else 0.0)
        code = self._process.returncode
        said = b""
        if self._process.stderr is not None and code is not None:
            os.set_blocking(self._process.stderr.fileno(), False)
            with contextlib.suppress(OSError):
                said = os.read(self._process.stderr.fileno(), 4096)
        self.stop()
        if code is None:
            return reason
        ending = f"died of signal {-code}" if code < 0 else f"ended with status {code}"
        text = " ".join(said.decode("ascii", "replace").split())
        return f"{ending}: {text}" if text else ending

    def stop(self) -> None:
        """End the worker and collect it."""
        process = self._process
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.kill()
        process.wait()

    def disown(self) -> None:
        """Forget a worker that belongs to the parent of this forked process."""
        process = self._process
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.returncode = 0  # not ours to wait for

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid


class Client:
    """The one worker of this process and the lock around it."""

    def __init__(self, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    def encode(self, lines: Sequence[str], arch: str) -> list[bytes | Refusal]:
        """Encode each line alone; answers stand in the order of `lines`."""
        out: list[bytes | Refusal] = []
        with self._lock:
            for start in range(0, len(lines), LINES_PER_REQUEST):
                out.extend(self._encode(list(lines[start : start + LINES_PER_REQUEST]), arch))
        return out

    def _encode(self, lines: list[str], arch: str) -> list[bytes | Refusal]:
        fresh = self._worker is None
        if self._worker is None:
            if importlib.util.find_spec("keystone") is None:
                raise AssemblyError(f"keystone is not installed; {INSTALL_HINT}")
            self._worker = Worker(self.timeout_s)
        try:
            answer = self._worker.ask({"arch": arch, "lines": lines})
        except _WorkerDied as death:
            self._worker = None
            if len(lines) == 1:
                # An idle worker may have been killed from outside; only a fresh one convicts its line.
                return [Refusal(f"keystone {death}")] if fresh else self._encode(lines, arch)
            middle = len(lines) // 2
            return self._encode(lines[:middle], arch) + self._encode(lines[middle:], arch)
        except BaseException:
            self._worker = None
            raise
        results = answer["results"]
        if len(results) != len(lines):
            raise AssemblyError(f"keystone worker: found {len(results)} answers, expected {len(lines)}")
        return [Refusal(text[1:]) if text.startswith("!") else bytes.fromhex(text) for text in results]

    @property
    def worker_pid(self) -> int | None:
        """Process id of the running worker, if there is one."""
        return self._worker.pid if self._worker is not None else None

    def close(self) -> None:
        """End the worker; the next request starts another."""
        with self._lock:
            if self._worker is not None:
                self._worker.stop()
                self._worker = None

    def after_fork(self) -> None:
        """In a forked child: another lock, no worker."""
        self._lock = threading.Lock()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.disown()


CLIENT: Final = Client()
atexit.register(CLIENT.close)
os.register_at_fork(after_in_child=CLIENT.after_fork)


def encode_lines(lines: Sequence[str], *, arch: str) -> list[bytes | Refusal]:
    """Encode instructions with keystone, each alone, and return the bytes or a `Refusal` for each.

    `lines` are single instructions made by this package (never text from elsewhere): no labels, no
    directives. Raises AssemblyError where keystone or its worker cannot be started.
    """
    return CLIENT.encode(lines, arch)
