"""What modules are compiled with: options, CPU features, and the thunks between Python and compiled code."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final, TypeVar

from trapline import tuning
from trapline.arch.x86_64.features import Features, host_features
from trapline.compile.x86_64.thunks import entry_thunk, host_thunk
from trapline.errors import FiberError
from trapline.runtime.code import CodeImage, choose
from trapline.runtime.weak import fork_lock
from trapline.wasm.limits import DEFAULT_LIMITS, ImplementationLimits
from trapline.wasm.types import MAX_PAGES, FuncType

__all__ = ["Config", "Engine", "thunks", "type_number"]

LEVELS: Final = {"live": 0, "full": 1}
Kind = TypeVar("Kind")
_MEMORIES: Final = {"reserved": 0, "checked": 1}


def expected(what: str, found: object, kind: type[Kind]) -> Kind:
    """`found`, when it is of this kind. Raises TypeError: what takes an engine is often given a store, and so on."""
    if not isinstance(found, kind):
        raise TypeError(f"{what}: found {type(found).__name__}, expected {kind.__name__}")
    return found


def first_time(item: object, attribute: str) -> None:
    """Requires of an `__init__` that it runs once. Raises FiberError: code holds addresses of what it made."""
    if hasattr(item, attribute):
        raise FiberError(f"{type(item).__name__}: found one that is initialised already, expected a new one")


@dataclass(frozen=True, slots=True)
class Config:
    """How an engine compiles and runs modules.

    debug            ``full`` (the default): every local and operand has its exact value at every opcode; ``live``:
                     exact pcs, traps and backtraces, values where the code still needs them
    stack_bytes      stack that a call can use before it traps with "call stack exhausted"
    max_stack_bytes  address space reserved for it, which a trap handler may grow it into
    path, gil        those of `Fiber`
    memories         ``reserved`` (the default): memories reserve 6 GiB of address space, so that accesses need no
                     check; where the system refuses, and always with ``checked``, accesses compare with the size
    max_memory_pages no memory grows beyond so many pages of 64 KiB
    limits           sizes of modules that are accepted
    cache            keep compiled code on disk: True for the user's cache folder, or a folder; False (the default) not
    features         instruction set extensions that code may use; those of this machine

    Raises FiberError for a name that is none of these.
    """

    debug: str = "full"
    stack_bytes: int = tuning.WASM_STACK_BYTES
    max_stack_bytes: int = tuning.WASM_MAX_STACK_BYTES
    path: str = "inject"
    gil: str = "lazy"
    memories: str = "reserved"
    max_memory_pages: int = MAX_PAGES
    limits: ImplementationLimits = DEFAULT_LIMITS
    features: Features = field(default_factory=host_features)
    cache: bool | str | os.PathLike[str] = False

    def __post_init__(self) -> None:
        choose(LEVELS, self.debug, "debug")
        choose(tuning.PATHS, self.path, "path")
        choose(tuning.GIL_MODES, self.gil, "gil")
        choose(_MEMORIES, self.memories, "memories")
        stacks = (self.stack_bytes, self.max_stack_bytes)
        if not all(isinstance(size, int) for size in stacks) or not 65536 <= stacks[0] <= stacks[1] <= 1 << 40:
            raise FiberError(f"found stacks of {stacks} bytes, expected 65536 <= stack_bytes <= max_stack_bytes")
        if not isinstance(self.max_memory_pages, int) or not 0 <= self.max_memory_pages <= MAX_PAGES:
            raise FiberError(f"max_memory_pages: found {self.max_memory_pages!r}, expected 0 .. {MAX_PAGES}")


class Engine:
    """Options that modules and stores share; immutable, usable from every thread.

    >>> import trapline
    >>> trapline.Engine(trapline.Config(debug="live")).config.debug
    'live'
    """

    __slots__ = ("config",)

    def __init__(self, config: Config | None = None) -> None:
        self.config = Config() if config is None else expected("config", config, Config)

    @property
    def full(self) -> bool:
        """Whether every state is exact (`debug="full"`)."""
        return self.config.debug == "full"

    def __repr__(self) -> str:
        return f"<Engine debug={self.config.debug!r}>"


class Thunks:
    """Code between Python and compiled functions, one of each kind for a type; the process has one of these."""

    def __init__(self) -> None:
        self._lock = fork_lock()
        self._entries: dict[FuncType, int] = {}
        self._hosts: dict[FuncType, int] = {}
        self._images: list[CodeImage] = []

    def _place(self, code: bytes) -> int:
        """The address of code that has joined an image."""
        if not self._images or self._images[-1].size_bytes + len(code) + 16 > self._images[-1].capacity_bytes:
            self._images.append(CodeImage(name="thunks", capacity_bytes=max(tuning.THUNKS_BYTES, len(code) + 16)))
        return self._images[-1].base + self._images[-1].append(code)

    def entry(self, type_: FuncType) -> int:
        """Address of the code that Python calls a function of this type through."""
        with self._lock:
            found = self._entries.get(type_)
            if found is None:
                found = self._entries[type_] = self._place(entry_thunk(type_).code)
            return found

    def host(self, type_: FuncType) -> int:
        """Address of the code that a function of this type in Python is entered by."""
        with self._lock:
            found = self._hosts.get(type_)
            if found is None:
                found = self._hosts[type_] = self._place(host_thunk(type_).code)
            return found


thunks: Final = Thunks()

_numbers: dict[FuncType, int] = {}
_numbers_lock = fork_lock()


def type_number(type_: FuncType) -> int:
    """The number that function records and indirect calls give a type: the same for equal types in all modules."""
    number = _numbers.get(type_)
    if number is None:
        with _numbers_lock:
            number = _numbers.setdefault(type_, len(_numbers) + 1)
    return number
