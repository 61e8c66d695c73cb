"""The worker: the only process that loads keystone.

It is run as a script by `keystone_client`, so it imports nothing but the standard library and keystone. Its
death, by whatever keystone does, costs nothing but the request it died on.

Protocol, on stdin and stdout. A frame is a 4-byte little-endian length and that many bytes of JSON.

1. The client sends ``{"path": [...], "timeout_s": n}``; the worker answers ``{"ready": true}`` or
   ``{"missing": "why keystone cannot be imported"}``.
2. The client sends ``{"arch": "x86_64" | "aarch64", "lines": [...]}``, each line one instruction without
   labels; the worker answers ``{"results": [...]}``, for each line its bytes in hexadecimal, or ``"!" + reason``.

Between any two lines the worker puts a marker of 8 data bytes that counts up. So the bytes of each line are
known exactly, and a line that keystone drops without a word is seen as one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
from typing import Any

MARKER_HIGH = 0xE9C3_5A17
MARKER_BYTES = 8
MAX_INSTRUCTION_BYTES = 15
_IDLE_POLL_MS = 1000
_MEMORY_LIMIT_BYTES = 4 << 30


def read_exactly(descriptor: int, count: int, parent: int) -> bytes | None:
    """Read `count` bytes, or None when the other end is closed or the parent process is gone."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    parts: list[bytes] = []
    while count:
        if not poller.poll(_IDLE_POLL_MS):
            if os.getppid() != parent:
                return None
            continue
        part = os.read(descriptor, count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_frame(descriptor: int, parent: int) -> Any | None:
    """Read one frame, or None when there will be no more."""
    head = read_exactly(descriptor, 4, parent)
    if head is None:
        return None
    body = read_exactly(descriptor, int.from_bytes(head, "little"), parent)
    return None if body is None else json.loads(body)


def write_frame(descriptor: int, value: object) -> None:
    """Write one frame."""
    body = json.dumps(value).encode("ascii")
    view = memoryview(len(body).to_bytes(4, "little") + body)
    while view:
        view = view[os.write(descriptor, view) :]


class Encoder:
    """One keystone engine and what is asked of it."""

    def __init__(self, keystone: Any, arch: str) -> None:
        if arch == "x86_64":
            self._engine = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)
        else:
            self._engine = keystone.Ks(keystone.KS_ARCH_ARM64, keystone.KS_MODE_LITTLE_ENDIAN)
        self._error = keystone.KsError

    def _batch(self, lines: list[str]) -> list[bytes] | str:
        """The bytes of each line, or why the batch as a whole gave none."""
        source = "\n".join(f"{line}\n.quad {MARKER_HIGH << 32 | index:#x}" for index, line in enumerate(lines))
        try:
            code, _count = self._engine.asm(source + "\n", 0, as_bytes=True)
        except self._error as error:
            return str(error)
        if code is None:
            return "keystone gave no bytes and no reason"
        out: list[bytes] = []
        offset = 0
        for index in range(len(lines)):
            marker = (MARKER_HIGH << 32 | index).to_bytes(MARKER_BYTES, "little")
            stop = code.find(marker, offset, offset + MAX_INSTRUCTION_BYTES + 1 + MARKER_BYTES)
            if stop < 0:
                return "keystone gave more than one instruction"
            out.append(code[offset:stop])
            offset = stop + MARKER_BYTES
        if offset != len(code):
            return "keystone gave more bytes than were asked for"
        return out

    def encode(self, lines: list[str]) -> list[str]:
        """Encode each of `lines`; a batch that fails is halved until the lines at fault stand alone."""
        found = self._batch(lines)
        if isinstance(found, list):
            return [code.hex() if code else "!keystone dropped the instruction" for code in found]
        if len(lines) == 1:
            return ["!" + found]
        middle = len(lines) // 2
        return self.encode(lines[:middle]) + self.encode(lines[middle:])


def main() -> None:
    """Serve requests until the client goes away."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    parent = os.getppid()
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever keystone prints must not get between the frames
    hello = read_frame(0, parent)
    if hello is None:
        return
    sys.path[:] = hello["path"]
    try:
        import keystone
    except Exception as error:  # a broken installation raises whatever its loader raises
        write_frame(answers, {"missing": f"{type(error).__name__}: {error}"})
        return
    write_frame(answers, {"ready": True})
    encoders: dict[str, Encoder] = {}
    while True:
        request = read_frame(0, parent)
        if request is None:
            return
        signal.setitimer(signal.ITIMER_REAL, float(hello["timeout_s"]))
        arch = request["arch"]
        if arch not in encoders:
            encoders[arch] = Encoder(keystone, arch)
        results = encoders[arch].encode(request["lines"])
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        write_frame(answers, {"results": results})


if __name__ == "__main__":
    main()
