"""The registers of a stopped fiber by name: read from its saved state, written to it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from trapline import native
from trapline.arch import Arch, Piece, Register
from trapline.errors import FiberError
from trapline.native import HOST

__all__ = ["Registers", "whole_words"]

_LANES: Final = {"i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q"} | {
    "f32": "f",
    "f64": "d",
}


def whole_words(arch: Arch) -> dict[str, int]:
    """Offset of each register, alias included, that is one whole word of the record: what C reads by itself."""
    out = {}
    for name in (*arch.registers, *arch.aliases):
        register = arch.register(name)
        if register.bits == 64 and register.shift == 0 and len(register.pieces) == 1:
            piece = register.pieces[0]
            if piece.component < 0 and piece.size_bytes == 8:
                out[name] = piece.offset
    return out


class Registers(native.Registers):
    """Every register of one fiber, valid whenever it is stopped.

    ``registers["rax"]`` and ``registers.rax`` are the same; values are unsigned integers as wide as the register
    (a flag's is 0 or 1, a vector's has its lane 0 in the low bits). Negative values are taken modulo the width;
    writing a part (``eax``, ``al``) leaves the rest of the register alone. Names are the manuals', and ``pc``, ``sp``
    and ``fp`` on every machine. Iterating gives all names.

    Raises FiberError for an unknown name, a value that does not fit, or a fiber that is not stopped.

    >>> import trapline
    >>> code = trapline.CodeImage(trapline.assemble("int3; ret"))
    >>> event = trapline.Fiber(code[0], (7,)).resume()
    >>> event.registers.rdi
    7
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...
        def __setattr__(self, name: str, value: int) -> None: ...

    def _find(self, name: str) -> Register:
        try:
            return HOST.register(name)
        except KeyError:
            raise FiberError(f"found no register {name!r} on {HOST.name}; expected one such as {HOST.pc}") from None

    def read_register(self, name: str) -> int:
        """The value of any register; ``registers[name]`` comes here where it is not one whole word."""
        register = self._find(name)
        value = int.from_bytes(b"".join(map(self._read, register.pieces)), "little")
        return (value >> register.shift) & ((1 << register.bits) - 1)

    def write_register(self, name: str, value: int) -> None:
        """Write any register; ``registers[name] = value`` comes here where it is not one whole word."""
        register = self._find(name)
        if not isinstance(value, int) or not -(1 << (register.bits - 1)) <= value < 1 << register.bits:
            raise FiberError(f"register {name}: found {value!r}, expected an integer of {register.bits} bits")
        mask = (1 << register.bits) - 1
        pieces = register.pieces
        size_bytes = register.size_bytes
        if register.bits != 8 * size_bytes:
            old = int.from_bytes(b"".join(map(self._read, pieces)), "little")
            value = old & ~(mask << register.shift) | (value & mask) << register.shift
        data = (value & ((1 << 8 * size_bytes) - 1)).to_bytes(size_bytes, "little")
        for piece in pieces:
            self._write(piece, data[: piece.size_bytes])
            data = data[piece.size_bytes :]

    def __iter__(self) -> Iterator[str]:
        return iter(HOST.registers)

    def __len__(self) -> int:
        return len(HOST.registers)

    def __contains__(self, name: object) -> bool:
        return name in HOST.registers or name in HOST.aliases

    def lanes(self, name: str, lane: str) -> tuple[Any, ...]:
        """A vector register as lanes of a type (i8 .. u64, f32, f64), lane 0 first.

        >>> registers.lanes("xmm0", "f64")   # doctest: +SKIP
        (1.5, 0.0)
        """
        register, form = self._lane_form(name, lane)
        size_bytes = struct.calcsize(form)
        data = self[name].to_bytes(register.bits // 8, "little")
        return struct.unpack(f"<{register.bits // 8 // size_bytes}{form}", data)

    def set_lanes(self, name: str, lane: str, values: tuple[int | float, ...]) -> None:
        """Write all lanes of a vector register. Raises FiberError when the number or a value does not fit."""
        register, form = self._lane_form(name, lane)
        count = register.bits // 8 // struct.calcsize(form)
        if len(values) != count:
            raise FiberError(f"register {name}: found {len(values)} lanes, expected {count} of {lane}")
        try:
            self[name] = int.from_bytes(struct.pack(f"<{count}{form}", *values), "little")
        except (struct.error, OverflowError) as error:
            raise FiberError(f"register {name}: found {values!r}, expected {count} of {lane}: {error}") from None

    def _lane_form(self, name: str, lane: str) -> tuple[Register, str]:
        register = self._find(name)
        if register.group not in ("vector", "mask", "general") or lane not in _LANES:
            raise FiberError(f"found lanes {lane!r} of {name}, expected {', '.join(_LANES)} of a vector register")
        if register.bits % (8 * struct.calcsize(_LANES[lane])):
            raise FiberError(f"register {name}: its {register.bits} bits hold no whole number of {lane}")
        return register, _LANES[lane]

    # A component of the extended state counts only while its bit is set; else it holds its initial value, whatever
    # the bytes in memory are (Intel SDM volume 1, 13.6).

    def _present(self, component: int) -> bool:
        return component < 0 or bool(self.fiber.read_word(HOST.present_offset) >> component & 1)

    def _read(self, piece: Piece) -> bytes:
        if self._present(piece.component):
            return self.fiber.read_state(piece.offset, piece.size_bytes)
        start = piece.offset - HOST.components[piece.component][0]
        initial = HOST.initial.get(piece.component, b"")[start : start + piece.size_bytes]
        return initial.ljust(piece.size_bytes, b"\0")

    def _write(self, piece: Piece, data: bytes) -> None:
        if not self._present(piece.component):
            self._materialise(piece.component)
        self.fiber.write_state(piece.offset, data)

    def _materialise(self, component: int) -> None:
        """Write a component's initial value into memory and set its bit."""
        offset, size_bytes = HOST.components[component]
        kept = HOST.register("mxcsr").pieces[0]
        control = self.fiber.read_state(kept.offset, kept.size_bytes)
        self.fiber.write_state(offset, HOST.initial.get(component, b"").ljust(size_bytes, b"\0"))
        self.fiber.write_state(kept.offset, control)
        present = self.fiber.read_word(HOST.present_offset)
        self.fiber.write_word(HOST.present_offset, present | 1 << component)
