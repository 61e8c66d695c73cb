"""What a machine must define: its registers and where a fiber's record keeps them.

Asymmetries between machines live in the modules of this package and nowhere else in Python. Native code has the
same line: native/context_<arch>.c and stubs/<arch>.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from trapline.errors import TrapCode, TraplineError

__all__ = ["Arch", "Fault", "Piece", "Register", "host"]


class Fault(NamedTuple):
    """What the signal frame said of a fault: struct tl_fault of native/fiber.h, without what only C needs."""

    signal: int
    code: int
    vector: int
    error: int
    address: int
    fetch: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive bytes of a register inside a fiber's saved state.

    `component` is the number of the extended-state component that holds them, or -1 where the bytes always count.
    """

    offset: int
    size_bytes: int
    component: int = -1


@dataclass(frozen=True, slots=True)
class Register:
    """A register, or a part of one that has a name of its own.

    `pieces` from the least significant byte up; the value is `bits` wide and starts `shift` bits into them.
    `group` is one of general, flag, control, float, vector, mask.
    """

    name: str
    group: str
    pieces: tuple[Piece, ...]
    bits: int
    shift: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.size_bytes for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Arch:
    """One machine.

    `registers` in the order in which a person reads them; `shown` names those a short report prints. `aliases` are
    further names. `trap_code` is the breakpoint instruction, and `trap_behind_bytes` how far behind its start the
    machine reports it. `classify` names a fault; its second argument reads the bytes at the pc, as many as can be read.
    `initial` is what an extended-state component holds while its bit in the state's header is clear (its first bytes);
    every other byte is zero. `present_offset` is where that header lies, or -1 where every component is always present.
    """

    name: str
    registers: Mapping[str, Register]
    aliases: Mapping[str, str]
    shown: tuple[str, ...]
    pc: str
    sp: str
    fp: str
    trap_code: bytes
    trap_behind_bytes: int
    classify: Callable[[Fault, Callable[[], bytes]], TrapCode]
    present_offset: int = -1
    components: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    initial: Mapping[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.shown, *self.aliases.values(), self.pc, self.sp, self.fp):
            assert name in self.registers, f"{self.name}: {name} is not a register"
        for name, register in self.registers.items():
            assert name == register.name, f"{self.name}: {name} is called {register.name}"
            assert register.shift + register.bits <= 8 * register.size_bytes, f"{self.name}: {name} is too wide"

    def register(self, name: str) -> Register:
        """The register of that name or alias. Raises KeyError."""
        return self.registers[self.aliases.get(name, name)]


@cache
def host(components: tuple[tuple[int, int, int], ...]) -> Arch:
    """The machine this process runs on.

    `components` lists the extended-state components that the native core found: (number, offset, bytes). Raises
    TraplineError on a machine that trapline does not know.
    """
    from trapline.arch import aarch64, x86_64

    machine = platform.machine()
    found = {number: (offset, size_bytes) for number, offset, size_bytes in components}
    if machine in ("x86_64", "AMD64"):
        return x86_64.describe(found)
    if machine in ("aarch64", "arm64"):
        return aarch64.describe()
    raise TraplineError(f"found a machine of type {machine!r}, expected x86_64 or aarch64")
