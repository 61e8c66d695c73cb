"""One guest's system: `Wasi`, its state and the functions that modules import."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final

from trapline.errors import ExitTrap, WasiError
from trapline.runtime.func import Func
from trapline.runtime.instance import Instance
from trapline.wasi.abi import PREVIEW0, PREVIEW1, Version
from trapline.wasi.config import WasiConfig
from trapline.wasi.descriptor import Table
from trapline.wasi.files import Files
from trapline.wasi.in_memory import MemoryDirectory, Tree
from trapline.wasi.paths import Paths
from trapline.wasi.poll import Poll
from trapline.wasi.process import Process
from trapline.wasi.sockets import Sockets
from trapline.wasi.streams import CaptureStream

__all__ = ["Wasi"]

_VERSIONS: Final = {version.module: version for version in (PREVIEW1, PREVIEW0)}


class Wasi(Mapping[str, Mapping[str, Callable[..., Any]]]):
    """One guest's WASI preview 1: its open files and everything else that its functions know.

    A mapping of imports, for `Instance` or merged with others: the functions by name, under the module names
    `wasi_snapshot_preview1` and `wasi_unstable` (the older version of the same functions). Belongs to no store; one
    thread at a time may use it. Mistakes of the guest are answered with errnos, bad pointers with EFAULT; proc_exit
    raises `ExitTrap`. `close` gives back what the host holds for it, and so does the end of a ``with`` block.

    >>> import trapline
    >>> store = trapline.Store()
    >>> module = trapline.Module(store.engine, trapline.parse_text('''
    ...     (module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    ...             (memory (export "memory") 1)
    ...             (func (export "_start") (call $exit (i32.const 3))))'''))
    >>> wasi = trapline.Wasi()
    >>> wasi.run(trapline.Instance(store, module, wasi))
    3
    """

    def __init__(self, config: WasiConfig | None = None) -> None:
        config = WasiConfig() if config is None else config
        args, env = config.arguments()
        self._clocks, random = config.sources()
        files = config.open_files()
        self._table = Table(files)
        self._streams = files[:3]
        self._mounted = {
            file.guest_path.decode(): file.node
            for file in files
            if isinstance(file, MemoryDirectory) and file.guest_path is not None
        }
        self._process = Process(args, env, self._clocks, random)
        self._functions: dict[str, dict[str, Callable[..., Any]]] = {}
        self._close = self._table.close_all

    # ---- imports ----

    def __getitem__(self, module: str) -> Mapping[str, Callable[..., Any]]:
        found = self._functions.get(module)
        if found is None:
            found = self._functions[module] = self._made(_VERSIONS[module])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_VERSIONS)

    def __len__(self) -> int:
        return len(_VERSIONS)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def _made(self, version: Version) -> dict[str, Callable[..., Any]]:
        table, clocks = self._table, self._clocks
        parts = (
            self._process,
            Files(table, clocks, version),
            Paths(table, clocks, version),
            Poll(table, clocks, version),
            Sockets(table),
        )
        functions = {
            name: getattr(part, name)
            for part in parts
            for name, item in vars(type(part)).items()
            if inspect.isfunction(item) and not name.startswith("_")
        }
        if version is PREVIEW0:
            del functions["sock_accept"]  # came with preview 1
        return functions

    def as_wasi(self) -> Wasi:
        """Itself: what `Linker.define_wasi` asks for."""
        return self

    # ---- running ----

    def run(self, instance: Instance) -> int:
        """Call the instance's `_start`; returns its exit code, 0 where it just ends.

        Raises WasiError where there is none, WasmTrap, and whatever a host function raises.
        """
        start = instance.exports.get("_start")
        if not isinstance(start, Func):
            raise WasiError(f"{instance.module.name} exports no _start: found no program to run")
        try:
            start()
        except ExitTrap as end:
            return end.code
        return 0

    @property
    def stdout(self) -> bytes:
        """What was written to stdout, if the config captures it. Raises WasiError."""
        return self._captured(1, "stdout")

    @property
    def stderr(self) -> bytes:
        """What was written to stderr, if the config captures it. Raises WasiError."""
        return self._captured(2, "stderr")

    def _captured(self, number: int, name: str) -> bytes:
        stream = self._streams[number]
        if not isinstance(stream, CaptureStream):
            raise WasiError(f"{name} is not captured: the config was not told to (capture_{name})")
        return bytes(stream.data)

    def files(self, guest_path: str) -> dict[str, bytes | Tree]:
        """What is in a directory that the config mounts, now. Raises WasiError."""
        node = self._mounted.get(guest_path)
        if node is None:
            raise WasiError(f"found no directory in memory at {guest_path!r}, expected one of {list(self._mounted)}")
        return node.tree()

    # ---- the end ----

    def close(self) -> None:
        """Close every file that the guest has open; what was captured stays."""
        self._close()

    def __enter__(self) -> Wasi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Wasi with {len(self._table)} open files>"
