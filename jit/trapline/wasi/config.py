"""What a guest is given of the world: `WasiConfig`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from trapline.errors import WasiError
from trapline.wasi.clocks import Clocks, HostClocks, RandomBytes, SteppedClocks, host_random, seeded_random
from trapline.wasi.descriptor import Descriptor, Directory
from trapline.wasi.host import HostDirectory
from trapline.wasi.in_memory import FolderNode, MemoryDirectory, Tree
from trapline.wasi.sockets import Socket
from trapline.wasi.streams import CallbackStream, CaptureStream, HostStream, InputBytes, NullStream

if TYPE_CHECKING:
    from trapline.wasi.system import Wasi

__all__ = ["WasiConfig"]

StrPath: TypeAlias = "str | bytes | os.PathLike[str]"


class WasiConfig:
    """What a guest is given: at first no arguments, no environment, no files, an empty stdin, and nowhere to write.

    Set attributes and call methods, then hand it to `Wasi` or `Linker.define_wasi`; each of these makes a guest of its
    own, and the config may be used again. Methods raise WasiError for what the host does not have.

    >>> import trapline
    >>> config = trapline.WasiConfig()
    >>> config.argv = ["greet", "--loud"]
    >>> config.env = {"LANG": "C"}
    >>> config.stdin_bytes = b"some input"
    >>> config.capture_stdout()
    >>> config.mount("/data", {"words.txt": b"one two", "empty": {}})
    >>> wasi = trapline.Wasi(config)
    >>> wasi.stdout
    b''
    """

    def __init__(self) -> None:
        self._argv: list[bytes] = []
        self._env: list[bytes] = []
        self._streams: list[Callable[[], Descriptor]] = [InputBytes, NullStream, NullStream]
        self._preopened: list[tuple[bytes, Callable[[], Directory]]] = []
        self._sockets: list[socket.socket] = []
        self._clocks: Callable[[], Clocks] = HostClocks
        self._random: Callable[[], RandomBytes] = lambda: host_random

    # ---- arguments and environment ----

    @property
    def argv(self) -> list[str]:
        """The arguments, the program's name first."""
        return [os.fsdecode(text[:-1]) for text in self._argv]

    @argv.setter
    def argv(self, argv: Iterable[str | bytes]) -> None:
        self._argv = [_string(text, "an argument") for text in argv]

    def inherit_argv(self) -> None:
        """The arguments of this process."""
        self.argv = list(sys.argv)

    @property
    def env(self) -> dict[str, str]:
        """The environment; set it from a mapping or from pairs."""
        pairs = (os.fsdecode(text[:-1]).partition("=") for text in self._env)
        return {name: value for name, _, value in pairs}

    @env.setter
    def env(self, env: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        pairs = env.items() if isinstance(env, Mapping) else env
        self._env = [_variable(name, value) for name, value in pairs]

    def inherit_env(self) -> None:
        """The environment of this process."""
        self.env = dict(os.environ)

    # ---- streams ----

    def _set_bytes(self, data: bytes) -> None:
        kept = bytes(data)
        self._streams[0] = lambda: InputBytes(kept)

    def _set_stdin_file(self, path: StrPath) -> None:
        _open(path, os.O_RDONLY, True)
        self._streams[0] = lambda: HostStream(_open(path, os.O_RDONLY, False), False, True)

    def _set_output_file(self, number: int, path: StrPath) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        _open(path, flags, True)
        self._streams[number] = lambda: HostStream(_open(path, flags, False), True, True)

    def _set_callback(self, number: int, callback: Callable[[bytes], int | None]) -> None:
        if not callable(callback):
            raise WasiError(f"found {callback!r}, expected something to call with bytes")
        self._streams[number] = lambda: CallbackStream(callback)

    stdin_bytes = property(None, _set_bytes, doc="Bytes to read from stdin.")
    stdin_file = property(None, _set_stdin_file, doc="A file of the host to read from stdin.")
    stdout_file = property(
        None, lambda self, path: self._set_output_file(1, path), doc="A file of the host that stdout is written to."
    )
    stderr_file = property(
        None, lambda self, path: self._set_output_file(2, path), doc="A file of the host that stderr is written to."
    )
    stdout_custom = property(
        None,
        lambda self, callback: self._set_callback(1, callback),
        doc="A function called with the bytes of each write; it may return how many it took.",
    )
    stderr_custom = property(
        None,
        lambda self, callback: self._set_callback(2, callback),
        doc="A function called with the bytes of each write; it may return how many it took.",
    )

    def inherit_stdin(self) -> None:
        """This process's stdin."""
        self._streams[0] = lambda: HostStream(0, False, False)

    def inherit_stdout(self) -> None:
        """This process's stdout."""
        self._streams[1] = lambda: _inherited(1)

    def inherit_stderr(self) -> None:
        """This process's stderr."""
        self._streams[2] = lambda: _inherited(2)

    def inherit_stdio(self) -> None:
        """All three."""
        self.inherit_stdin()
        self.inherit_stdout()
        self.inherit_stderr()

    def capture_stdout(self) -> None:
        """Keep what is written to stdout: it is the `stdout` of the `Wasi` object."""
        self._streams[1] = CaptureStream

    def capture_stderr(self) -> None:
        """Keep what is written to stderr: it is the `stderr` of the `Wasi` object."""
        self._streams[2] = CaptureStream

    # ---- files and sockets ----

    def preopen_dir(self, path: StrPath, guest_path: str | None = None, fs_mutable: bool = True) -> None:
        """A directory of the host, which the guest knows as `guest_path` (by default the same path).

        The guest cannot leave it: not by `..`, absolute paths or symbolic links. Whoever else may write there can put
        anything in, though, and hard links are files like others. fs_mutable: False lets nothing in it be changed.
        """
        name = os.fsencode(path).decode() if guest_path is None else guest_path
        kept = os.path.abspath(path)
        try:
            HostDirectory.at(kept, fs_mutable).close()
        except OSError as error:
            raise WasiError(f"preopen_dir: found {path!r} ({error.strerror}), expected a directory") from error
        self._preopened.append((_guest_path(name), lambda: HostDirectory.at(kept, fs_mutable)))

    def mount(self, guest_path: str, tree: Tree, fs_mutable: bool = True) -> None:
        """A directory that lives in memory: names with the content of files, as bytes, and of directories, as dicts.

        Each guest gets a copy; `Wasi.files` reads back what has become of it.
        """
        try:
            FolderNode(tree)
        except (ValueError, TypeError, AttributeError) as error:
            raise WasiError(f"mount: {error}") from None
        self._preopened.append((_guest_path(guest_path), lambda: MemoryDirectory(FolderNode(tree), fs_mutable)))

    def preopen_socket(self, listening: socket.socket) -> None:
        """A socket of the host, whose file descriptor follows those of the directories."""
        self._sockets.append(listening)

    # ---- time and chance ----

    def deterministic_clock(self, start_ns: int = 0, step_ns: int = 1_000_000) -> None:
        """Clocks that go on by a step each time they are looked at; sleeping takes no time.

        start_ns: nanoseconds since 1970 at the start. Times of files in the host stay true.
        """
        if start_ns < 0 or step_ns < 0:
            raise WasiError(f"found a clock from {start_ns} by {step_ns}, expected nothing negative")
        self._clocks = lambda: SteppedClocks(start_ns, step_ns)

    def deterministic_random(self, seed: int = 0) -> None:
        """Random bytes that are the same in each run."""
        self._random = lambda: seeded_random(seed)

    # ---- for Wasi ----

    def arguments(self) -> tuple[list[bytes], list[bytes]]:
        """Arguments and environment, each string with its zero byte."""
        return list(self._argv), list(self._env)

    def sources(self) -> tuple[Clocks, RandomBytes]:
        """The clocks and the source of random bytes for one guest."""
        return self._clocks(), self._random()

    def open_files(self) -> list[Descriptor]:
        """The files that one guest starts with, in the order of their descriptors. Raises WasiError."""
        files: list[Descriptor] = []
        try:
            files += [stream() for stream in self._streams]
            for name, make in self._preopened:
                directory = make()
                directory.guest_path = name
                files.append(directory)
            files += [Socket.of(listening) for listening in self._sockets]
        except OSError as error:
            for file in files:
                file.close()
            raise WasiError(f"a file of the guest cannot be opened: {error}") from error
        return files

    def as_wasi(self) -> Wasi:
        """One guest with what this says."""
        from trapline.wasi.system import Wasi

        return Wasi(self)


def _string(text: str | bytes, what: str) -> bytes:
    data = os.fsencode(text) if isinstance(text, str) else bytes(text)
    if 0 in data:
        raise WasiError(f"found {text!r} as {what}, expected no zero byte in it")
    return data + b"\0"


def _variable(name: str, value: str) -> bytes:
    if not name or "=" in name:
        raise WasiError(f"found {name!r} as the name of a variable, expected a name without `=`")
    return _string(f"{name}={value}", "a variable")


def _guest_path(path: str) -> bytes:
    data = path.encode()
    if 0 in data:
        raise WasiError(f"found {path!r} as the path of a directory, expected no zero byte in it")
    return data


def _open(path: StrPath, flags: int, only_try: bool) -> int:
    """A file of the host. Raises WasiError."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise WasiError(f"found {path!r} ({error.strerror}), expected a file that can be opened") from error
    if only_try:
        os.close(fd)
    return fd


def _inherited(number: int) -> HostStream:
    stream = sys.stdout if number == 1 else sys.stderr
    if stream is not None:
        stream.flush()  # what the host has printed comes first
    return HostStream(number, True, False)
