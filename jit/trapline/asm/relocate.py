"""Relocation of one instruction: code that does at another address what the instruction does where it is.

A breakpoint's displaced instruction runs in a *slot*. The slot's code has the exact effect that the
instruction has in place: the same registers, flags, memory and next pc; return addresses are those of the
original. x86-64 uses no register and writes no stack beyond what a call itself pushes. `Relocated.places` maps
each pc inside the slot back to the program, so that a fault or signal there can be reported as if the
instruction had run in place.

Sources: Intel SDM volume 2 (rip-relative addressing 2.2.1.6; CALL, Jcc, LOOP, SYSCALL), Arm ARM section C6.2.

A general register loaded from a literal over 1 MiB away holds the literal's address in between; its old value is
lost if that load faults, unless there is a scratch register.

Not done: aarch64 slots over 128 MiB away. A jump that far needs a register, and none is free in the middle of
a function; x86-64 has none of this, because it can jump through memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from trapline.asm.disassemble import Decoded, Kind, decode_one, detailed, signed
from trapline.errors import AssemblyError

__all__ = ["SLOT_BYTES", "Place", "Relocated", "relocate"]

SLOT_BYTES: Final = {"x86_64": 64, "aarch64": 32}
_MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Place:
    """What a pc at the slot offsets [start, stop) means to the program.

    Not `executed`: the instruction has not happened; the program is at `pc` (the instruction's own address),
    once `stack_adjust_bytes` is added to the stack pointer. `executed`: it has, and the program is at `pc`, or
    at the address in `pc_register` where that is set.
    """

    start: int
    stop: int
    executed: bool
    pc: int
    stack_adjust_bytes: int = 0
    pc_register: str | None = None


@dataclass(frozen=True, slots=True)
class Relocated:
    """The slot's bytes and what each of its offsets means.

    `places` are in order and cover every offset at which the processor can be between two instructions; data
    at the end of the slot is in none. `clobbers` names the registers that come out changed beyond what the
    instruction does: none unless `relocate` was given a scratch register.
    """

    code: bytes
    places: tuple[Place, ...]
    clobbers: tuple[str, ...] = ()

    def place(self, offset: int) -> Place:
        """The place of slot offset `offset`. Raises AssemblyError for an offset that is not code."""
        for place in self.places:
            if place.start <= offset < place.stop:
                return place
        raise AssemblyError(f"slot offset {offset:#x}: found no code, expected one below {len(self.code):#x}")


def relocate(
    code: bytes,
    at: int,
    to: int,
    *,
    arch: str,
    scratch: str | None = None,
    landing: Callable[[int], int] | None = None,
) -> Relocated:
    """Make code for address `to` with the effect of the one instruction `code` at address `at`.

    `code` is the whole instruction in its original bytes. The result is at most ``SLOT_BYTES[arch]`` long. On
    aarch64 `scratch` may name a register ("x16", "x17") that is free there; it is used, and listed in
    `clobbers`, only by the forms that cannot do without: vector literals over 1 MiB away and ``blr x30``.

    `landing` maps each address that control goes to directly (the target, the next instruction) to the address that
    the slot jumps to instead; pushed return addresses and the places stay those of the program. A stepping copy
    uses it.

    Raises AssemblyError for bytes that are not one instruction, for forms that cannot be moved (far calls,
    ``call rsp``, xbegin) and for operands out of reach of `to`.

    >>> relocate(bytes.fromhex("7502"), 0x1000, 0x2000, arch="x86_64").places[-1].pc == 0x1004
    True

    Sources: Intel SDM volume 2; Arm ARM section C6.2.
    """
    decoded = decode_one(code, at, arch=arch)
    if decoded.size_bytes != len(code):
        raise AssemblyError(f"at {at:#x}: found {len(code)} bytes, expected one instruction of {decoded.size_bytes}")
    to_landing = landing or _same
    slot = _X86Slot(decoded, to, to_landing) if arch == "x86_64" else _Aarch64Slot(decoded, to, to_landing, scratch)
    result = slot.build()
    assert len(result.code) <= SLOT_BYTES[arch], f"slot of {len(result.code)} bytes for {decoded.text}"
    return result


def _same(address: int) -> int:
    return address


def _fits(value: int, bits: int) -> bool:
    return -(1 << bits - 1) <= value < 1 << bits - 1


class _X86Slot:
    """Code under construction; addresses behind the code are filled in by `finish`."""

    def __init__(self, decoded: Decoded, to: int, landing: Callable[[int], int]) -> None:
        self._decoded = decoded
        self._landing = landing
        self._to = to
        self._at = decoded.address
        self._next = decoded.next_address & _MASK_64
        self._code = bytearray()
        self._places: list[Place] = []
        self._words: list[tuple[int, int]] = []  # (offset of a disp32, value of the quadword it must reach)

    def _refuse(self, reason: str) -> AssemblyError:
        return AssemblyError(f"at {self._at:#x}: {self._decoded.text!r} cannot be moved to {self._to:#x}: {reason}")

    def _emit(self, code: bytes, executed: bool, pc: int, adjust: int = 0) -> None:
        start = len(self._code)
        self._code += code
        place = Place(start, len(self._code), executed, pc, adjust)
        last = self._places[-1] if self._places else None
        if last is not None and (last.executed, last.pc, last.stack_adjust_bytes) == (executed, pc, adjust):
            self._places[-1] = Place(last.start, place.stop, executed, pc, adjust)
        else:
            self._places.append(place)

    def _jump(self, target: int, executed: bool = True) -> None:
        """A direct jump to `target`, through memory if it is far."""
        goal = self._landing(target)
        distance = signed(goal - (self._to + len(self._code) + 5), 64)
        if _fits(distance, 32):
            self._emit(b"\xe9" + distance.to_bytes(4, "little", signed=True), executed, target)
        else:
            self._words.append((len(self._code) + 2, goal))
            self._emit(b"\xff\x25" + bytes(4), executed, target)

    def _jump_bytes(self, target: int, offset: int) -> int:
        return 5 if _fits(signed(self._landing(target) - (self._to + offset + 5), 64), 32) else 6

    def _push_return(self) -> None:
        """Push the original's return address out of the slot: touches no register and no flag."""
        self._words.append((len(self._code) + 2, self._next))
        self._emit(b"\xff\x35" + bytes(4), False, self._at)

    def _finish(self) -> Relocated:
        for offset, value in self._words:
            here = len(self._code)
            self._code[offset : offset + 4] = (here - (offset + 4)).to_bytes(4, "little")
            self._code += value.to_bytes(8, "little")
        return Relocated(bytes(self._code), tuple(self._places))

    def build(self) -> Relocated:
        decoded = self._decoded
        found = detailed(decoded.code, self._at, "x86_64")
        assert found is not None, "decode_one has decoded it"
        mnemonic = decoded.mnemonic.split()[-1]
        if mnemonic in ("xbegin", "lcall"):
            raise self._refuse("its return address would be the slot's")
        indirect = decoded.target_register is not None or decoded.target_memory is not None
        if indirect and (found.prefix[2] == 0x66 or found.modrm >> 3 & 7 in (3, 5)):
            raise self._refuse("it is a far transfer or one of another width")
        direct = decoded.target is not None
        if direct and found.prefix[2] == 0x66:
            raise self._refuse("a branch with an operand-size prefix differs between processors")
        if direct and decoded.kind is Kind.JUMP:
            assert decoded.target is not None
            self._jump(decoded.target, executed=False)
            place = self._places[0]
            self._places[0] = Place(place.start, place.stop, False, self._at)
        elif direct and decoded.kind is Kind.CONDITIONAL_JUMP:
            assert decoded.target is not None
            self._conditional(decoded.code, decoded.target)
        elif decoded.kind is Kind.CALL:
            if direct:
                assert decoded.target is not None
                self._push_return()
                self._jump(decoded.target)
            else:
                self._indirect_call(found)
        else:
            self._emit(self._adjusted(found, 0), False, self._at)
            if mnemonic == "syscall":  # the processor left the slot's address in rcx
                start = len(self._code)
                self._emit(b"\x48\xb9" + self._next.to_bytes(8, "little"), True, self._next)
                assert len(self._code) == start + 10
            if decoded.kind not in (Kind.JUMP, Kind.RETURN):
                self._jump(self._next)
        return self._finish()

    def _conditional(self, code: bytes, target: int) -> None:
        """``jcc taken; jmp next; taken: jmp target``."""
        opcode_at = 0
        while code[opcode_at] in (0x2E, 0x3E, 0x67, 0xF2) or 0x40 <= code[opcode_at] <= 0x4F:
            opcode_at += 1
        prefixes = bytes(byte for byte in code[:opcode_at] if byte in (0x2E, 0x3E, 0x67))
        opcode = code[opcode_at]
        short = 0x70 | code[opcode_at + 1] & 15 if opcode == 0x0F else opcode  # 0F 8x is the near form of 7x
        first = prefixes + bytes([short])
        self._emit(first + bytes([self._jump_bytes(self._next, len(first) + 1)]), False, self._at)
        self._jump(self._next)
        self._jump(target)

    def _indirect_call(self, found: Any) -> None:
        """``push return; jmp operand``: the jump reads its operand with rsp 8 lower than the call would."""
        decoded = self._decoded
        if decoded.target_register is not None:
            if decoded.target_register == "rsp":
                raise self._refuse("it calls its own stack pointer")
            self._push_return()
            self._emit(self._as_jump(found, decoded.code), False, self._at, 8)
            return
        memory = decoded.target_memory
        if memory is None or memory.size_bytes != 8:
            raise self._refuse("it is a call of another width")
        if memory.base == "rsp" and memory.index is None and -16 < memory.displacement < 0:
            raise self._refuse("it reads the stack slot that it writes")
        self._push_return()
        self._emit(self._as_jump(found, self._adjusted(found, 8)), False, self._at, 8)

    def _as_jump(self, found: Any, code: bytes) -> bytes:
        """The call ``FF /2`` as the jump ``FF /4``."""
        at = int(found.encoding.modrm_offset)
        out = bytearray(code)
        out[at] = out[at] & 0xC7 | 4 << 3
        return bytes(out)

    def _adjusted(self, found: Any, rsp_lowered_by: int) -> bytes:
        """The instruction for the next slot offset: rip-relative and, where asked, rsp-relative operand moved."""
        decoded = self._decoded
        code = bytearray(decoded.code)
        modrm_at = int(found.encoding.modrm_offset)
        if not modrm_at:
            return bytes(code)
        modrm = code[modrm_at]
        if modrm & 0xC7 == 0x05:  # mod 0, rm 5: rip-relative, a 32-bit displacement behind the ModRM byte
            if found.addr_size == 4:
                raise self._refuse("its address is relative to eip")
            displacement = int.from_bytes(code[modrm_at + 1 : modrm_at + 5], "little", signed=True)
            moved = displacement + self._at - (self._to + len(self._code))
            if not _fits(moved, 32):
                raise self._refuse("its operand is over 2 GiB away")
            code[modrm_at + 1 : modrm_at + 5] = moved.to_bytes(4, "little", signed=True)
            return bytes(code)
        memory = decoded.target_memory
        if not rsp_lowered_by or memory is None or memory.base not in ("rsp", "esp"):
            return bytes(code)
        if memory.base == "esp":
            raise self._refuse("it calls through esp")
        displacement = memory.displacement + rsp_lowered_by
        if not _fits(displacement, 32):
            raise self._refuse("its displacement would not fit")
        head, sib = code[:modrm_at], code[modrm_at + 1]
        out = bytes(head) + bytes([modrm & 0x3F | 0x80, sib]) + displacement.to_bytes(4, "little", signed=True)
        if len(out) > 15:
            raise self._refuse("it would become longer than 15 bytes")
        return out


class _Aarch64Slot:
    """The words of a slot under construction."""

    def __init__(self, decoded: Decoded, to: int, landing: Callable[[int], int], scratch: str | None) -> None:
        self._decoded = decoded
        self._landing = landing
        self._word = int.from_bytes(decoded.code, "little")
        self._to = to
        self._at = decoded.address
        self._next = (self._at + 4) & _MASK_64
        self._scratch = scratch
        self._words: list[int] = []
        self._places: list[Place] = []
        self._clobbers: tuple[str, ...] = ()
        self._literals: list[tuple[int, int]] = []  # (index of the ldr, value it must load)
        if to % 4 or self._at % 4:
            raise self._refuse("an address is not a multiple of 4")

    def _refuse(self, reason: str) -> AssemblyError:
        return AssemblyError(f"at {self._at:#x}: {self._decoded.text!r} cannot be moved to {self._to:#x}: {reason}")

    @property
    def _here(self) -> int:
        return self._to + 4 * len(self._words)

    def _emit(self, word: int, executed: bool, pc: int, pc_register: str | None = None) -> None:
        start = 4 * len(self._words)
        self._words.append(word)
        last = self._places[-1] if self._places else None
        if last is not None and (last.executed, last.pc, last.pc_register) == (executed, pc, pc_register):
            start = last.start
            self._places.pop()
        self._places.append(Place(start, 4 * len(self._words), executed, pc, 0, pc_register))

    def _do(self, word: int) -> None:
        self._emit(word, False, self._at)

    def _jump(self, target: int, executed: bool = True) -> None:
        distance = signed(self._landing(target) - self._here, 64)
        if not _fits(distance, 28):
            raise self._refuse(f"a jump of {distance:+#x} bytes reaches no more than 128 MiB")
        pc = target if executed else self._at
        self._emit(0x1400_0000 | (distance >> 2) & 0x3FF_FFFF, executed, pc)

    def _constant(self, register: int, value: int) -> None:
        """Load `value` with one instruction, so that no pc sees half of it: adr, or ldr from behind the code."""
        distance = signed(value - self._here, 64)
        if _fits(distance, 21):
            self._do(0x1000_0000 | (distance & 3) << 29 | (distance >> 2 & 0x7FFFF) << 5 | register)
        else:
            self._literals.append((len(self._words), value))
            self._do(0x5800_0000 | register)

    def _take_scratch(self, why: str) -> int:
        if self._scratch is None or not (self._scratch[0] == "x" and self._scratch[1:].isdigit()):
            raise self._refuse(f"{why}, which needs a scratch register")
        self._clobbers = (self._scratch,)
        return int(self._scratch[1:])

    def build(self) -> Relocated:
        word, decoded = self._word, self._decoded
        if decoded.kind is Kind.CALL:
            self._call()
        elif decoded.kind is Kind.JUMP and decoded.target is not None:
            self._jump(decoded.target, executed=False)
        elif decoded.kind is Kind.CONDITIONAL_JUMP:
            assert decoded.target is not None
            is_test = word & 0x7E00_0000 == 0x3600_0000
            field = 0x3FFF if is_test else 0x7FFFF
            self._do(word & ~(field << 5) | 2 << 5)  # over the jump behind it
            self._jump(self._next)
            self._jump(decoded.target)
        elif word & 0x1F00_0000 == 0x1000_0000:
            self._page_or_byte()
        elif word & 0x3B00_0000 == 0x1800_0000:
            self._literal()
        else:
            self._do(word)
            if decoded.kind not in (Kind.JUMP, Kind.RETURN):
                self._jump(self._next)
        code = b""
        for index, value in self._literals:
            self._words[index] |= (len(self._words) + len(code) // 4 - index) << 5
            code += value.to_bytes(8, "little")
        code = b"".join(value.to_bytes(4, "little") for value in self._words) + code
        return Relocated(code, tuple(self._places), self._clobbers)

    def _call(self) -> None:
        """bl and blr: the original's return address goes to x30 first, which a call overwrites anyway."""
        decoded = self._decoded
        if decoded.target is not None:
            self._constant(30, self._next)
            self._jump(decoded.target)
            return
        if self._word & 0xFFFF_FC1F != 0xD63F_0000:
            raise self._refuse("it authenticates its target")
        register = self._word >> 5 & 31
        if register == 30:
            register = self._take_scratch("it calls through x30")
            self._do(0xAA1E_03E0 | register)  # mov scratch, x30
        self._constant(30, self._next)
        self._emit(0xD61F_0000 | register << 5, True, 0, f"x{register}")

    def _page_or_byte(self) -> None:
        word, register = self._word, self._word & 31
        offset = signed((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21)
        value = (self._at & ~0xFFF) + (offset << 12) if word >> 31 else self._at + offset
        if register == 31:
            self._do(0xD503_201F)
        else:
            self._constant(register, value & _MASK_64)
        self._jump(self._next)

    def _literal(self) -> None:
        word, register = self._word, self._word & 31
        target = (self._at + 4 * signed(word >> 5, 19)) & _MASK_64
        vector, opc = word >> 26 & 1, word >> 30
        distance = signed(target - self._here, 64)
        if _fits(distance, 21):
            self._do(word & 0xFF00_001F | (distance >> 2 & 0x7FFFF) << 5)
        elif not vector and opc == 3:
            self._do(0xD503_201F)  # a prefetch out of reach is no loss
        else:
            through = register
            if vector:
                through = self._take_scratch("its literal is over 1 MiB away")
            elif register == 31:
                through = self._take_scratch("it loads into the zero register from over 1 MiB away")
            elif self._scratch is not None:
                through = self._take_scratch("")
            self._constant(through, target)
            loads = (0xBD40_0000, 0xFD40_0000, 0x3DC0_0000) if vector else (0xB940_0000, 0xF940_0000, 0xB980_0000)
            self._do(loads[opc] | through << 5 | register)
        self._jump(self._next)
