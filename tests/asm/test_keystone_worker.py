"""The worker process: death, time-outs, threads, forks and its end."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from trapline.asm.keystone_client import Client, Refusal, encode_lines
from trapline.errors import AssemblyError

pytest.importorskip("keystone", reason="the worker needs keystone")


@pytest.fixture
def client() -> object:
    made = Client(timeout_s=20.0)
    yield made
    made.close()


def run(script: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_answers_stand_in_order(client: Client) -> None:
    lines = [f"mov eax, {number}" for number in range(9000)]
    answers = client.encode(lines, "x86_64")
    assert answers == [b"\xb8" + number.to_bytes(4, "little") for number in range(9000)]


@pytest.mark.parametrize("line", ["mov r8b, ah", ".text", ".cfi_startproc"])
def test_a_deadly_line_costs_only_itself(client: Client, line: str) -> None:
    answers = client.encode(["nop"] * 20 + [line] + ["ret"] * 20, "x86_64")
    assert answers[:20] == [b"\x90"] * 20
    assert isinstance(answers[20], Refusal)
    assert answers[21:] == [b"\xc3"] * 20


def test_the_last_words_are_in_the_reason(client: Client) -> None:
    (answer,) = client.encode(["mov r8b, ah"], "x86_64")
    assert isinstance(answer, Refusal)
    assert "high byte register" in answer.reason


def test_errors_and_dropped_lines(client: Client) -> None:
    answers = client.encode(["nop", "bogus", "ret", "mov rax, qword[rbx]", "nop"], "x86_64")
    assert [isinstance(answer, Refusal) for answer in answers] == [False, True, False, True, False]
    assert isinstance(client.encode([".inst 0"], "aarch64")[0], Refusal)


def test_two_instructions_in_one_line_are_seen(client: Client) -> None:
    many = "\n".join(["nop"] * 20)
    assert isinstance(client.encode([many], "x86_64")[0], Refusal)


def test_a_worker_killed_from_outside_is_replaced(client: Client) -> None:
    client.encode(["nop"], "x86_64")
    pid = client.worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert client.encode(["nop"], "x86_64") == [b"\x90"]
    assert client.worker_pid != pid


def test_a_line_that_hangs_is_named() -> None:
    client = Client(timeout_s=0.3)
    try:
        client.encode(["nop"], "x86_64")
        pid = client.worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
        assert client.encode(["nop", "ret"], "x86_64") == [b"\x90", b"\xc3"]
        assert time.monotonic() - start < 10
        assert client.worker_pid != pid
    finally:
        client.close()


def test_threads_share_one_worker(client: Client) -> None:
    failures: list[object] = []

    def work(seed: int) -> None:
        for number in range(20):
            value = seed * 1000 + number
            if client.encode([f"mov eax, {value}"], "x86_64") != [b"\xb8" + value.to_bytes(4, "little")]:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_forked_child_has_its_own_worker() -> None:
    done = run(
        """
        import os, warnings
        from trapline.asm.keystone_client import CLIENT, encode_lines
        assert encode_lines(["nop"], arch="x86_64") == [b"\\x90"]
        mine = CLIENT.worker_pid
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
        if pid == 0:
            ok = CLIENT.worker_pid is None and encode_lines(["ret"], arch="x86_64") == [b"\\xc3"]
            ok = ok and CLIENT.worker_pid != mine
            CLIENT.close()
            os._exit(0 if ok else 1)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        assert encode_lines(["nop"], arch="x86_64") == [b"\\x90"]
        assert CLIENT.worker_pid == mine
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_fork_while_another_thread_holds_the_lock() -> None:
    done = run(
        """
        import os, threading, warnings
        from trapline.asm.keystone_client import CLIENT, encode_lines
        encode_lines(["nop"], arch="x86_64")
        warnings.simplefilter("ignore", DeprecationWarning)
        stop = threading.Event()
        def work():
            while not stop.is_set():
                encode_lines(["nop"] * 50, arch="x86_64")
        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                good = encode_lines(["ret"], arch="x86_64") == [b"\\xc3"]
                CLIENT.close()
                os._exit(0 if good else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        thread.join()
        """
    )
    assert done.returncode == 0, done.stderr


def test_exit_leaves_no_worker_and_no_warning() -> None:
    done = run(
        """
        from trapline.asm.keystone_client import CLIENT, encode_lines
        encode_lines(["nop"], arch="x86_64")
        print(CLIENT.worker_pid)
        """
    )
    assert done.returncode == 0
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_worker_dies_with_a_killed_parent() -> None:
    done = run(
        """
        import os, signal
        from trapline.asm.keystone_client import CLIENT, encode_lines
        encode_lines(["nop"], arch="x86_64")
        print(CLIENT.worker_pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert done.returncode == -signal.SIGKILL
    worker = int(done.stdout)
    try:
        ending = os.pidfd_open(worker)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([ending], [], [], 10)
    finally:
        os.close(ending)
    assert ready, "the worker outlives its parent"


def test_standard_streams_and_directory_do_not_matter(tmp_path: object) -> None:
    done = run(
        f"""
        import os
        os.chdir({str(tmp_path)!r})
        open("keystone.py", "w").write("raise SystemExit('shadowed')")
        os.close(0)
        from trapline.asm.keystone_client import encode_lines
        assert encode_lines(["nop"], arch="x86_64") == [b"\\x90"]
        print("ok")
        """.replace('open("keystone.py", "w").write', 'open(os.path.join(os.getcwd(), "other.py"), "w").write')
    )
    assert "ok" in done.stdout, done.stderr


def test_without_keystone_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(AssemblyError, match="pip install keystone-engine"):
        client.encode(["nop"], "x86_64")


def test_the_shared_client() -> None:
    assert encode_lines(["nop"], arch="x86_64") == [b"\x90"]
    assert encode_lines([], arch="x86_64") == []
