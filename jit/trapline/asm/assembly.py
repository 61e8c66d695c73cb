"""`assemble`: text to machine code. What comes out is here; how it is made is in assembling.py."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trapline.errors import AssemblyError

__all__ = ["Assembly", "Statement", "assemble", "host_arch"]

ARCHS: Final = ("x86_64", "aarch64")


@dataclass(frozen=True, slots=True)
class Statement:
    """What one statement became: `size_bytes` at `offset` of the code, from the 1-based `line` of the source."""

    offset: int
    size_bytes: int
    line: int
    text: str
    is_data: bool


@dataclass(frozen=True, slots=True)
class Assembly:
    """Machine code and where it came from.

    `labels` maps each label to its offset in `code`; the code was laid out for the address `base`.
    `statements` are in order, do not overlap and cover `code`; those that are not data are one instruction each.
    """

    arch: str
    code: bytes
    base: int
    labels: Mapping[str, int]
    statements: tuple[Statement, ...]


def host_arch() -> str:
    """The architecture of this machine, "x86_64" or "aarch64". Raises AssemblyError on any other."""
    machine = platform.machine().lower()
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if arch not in ARCHS:
        raise AssemblyError(f"no assembler for this machine: found {machine!r}, expected x86_64 or aarch64")
    return arch


def assemble(
    text: str, *, arch: str | None = None, base: int = 0, symbols: Mapping[str, int] | None = None
) -> Assembly:
    """Assemble `text` for the address `base`.

    Intel syntax on x86-64, the architecture's own on aarch64; one statement a line, or several with ``;`` between.
    Comments: ``//`` on both, ``#`` at the start of a line on both and anywhere on x86-64. Labels: ``name:``, several
    on a line, before a statement or alone. Data: .byte .short .long .quad .ascii .asciz .zero .skip .balign
    .p2align (.word is 2 bytes on x86-64 and 4 on aarch64). `symbols` gives names to numbers, usable wherever a
    number or a branch target is. A number as a branch target is an absolute address, as in a disassembly;
    ``.`` is the start of the statement. ``[rip + label]`` is the label's address, ``[rip + 8]`` a distance.

    `arch` is "x86_64" or "aarch64", by default this machine's. `base` is an address of 64 bits, on aarch64 a
    multiple of 4. Raises AssemblyError with the line, its text, what was found and what was expected; also
    where keystone is not installed.

    >>> assemble("top: dec rdi\\n jnz top\\n ret", arch="x86_64").code.hex()
    '48ffcf75fbc3'

    Sources: Intel SDM volume 2; Arm ARM (DDI 0487) part C; the directives are those of the GNU assembler.
    """
    from trapline.asm.assembling import assembled  # much code, which only programs that assemble need

    return assembled(text, arch, base, symbols)
