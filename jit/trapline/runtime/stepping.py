"""Stepping one instruction without the trap flag, by stepping copies.

A home is the image or copy that the fiber is in. Its stepping copy has the same layout and a trap at every
instruction. A step runs the one instruction in a slot of that copy; whatever comes next in the program's order
is then a trap in the stepping copy, which the core translates back to the home. The program never sees this:
return addresses that it pushes and the pcs that its registers hold are those of the home.

An indirect transfer goes to an address that the program computed, in some home: it is carried out here, on the saved
state, and the fiber goes on at that place of the stepping copy. A transfer to code that nobody registered (a C
function, a stub) has nothing to trap on; a call of it gets a return address inside the stepping copy instead, so that
it traps when it returns.

On a loaded fiber a step costs one trap; it touches no code that other threads run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline import native
from trapline.asm.disassemble import Decoded, Kind, MemoryOperand
from trapline.errors import AssemblyError, FiberError
from trapline.native import HOST
from trapline.runtime.code import Mapped, find_code

if TYPE_CHECKING:
    from trapline.runtime.fiber import Fiber
    from trapline.runtime.trap import Event

__all__ = ["step"]

_WORD_BYTES = 8
_CS_USER64, _SS_USER = 0x33, 0x2B  # Linux arch/x86/include/asm/segment.h
_SUSPENDED, _INTERRUPT = 2, 2  # FiberState.SUSPENDED, StopReason.INTERRUPT
_TRANSFER_REGISTERS = (HOST.pc, HOST.sp) if HOST.name == "x86_64" else (HOST.pc, HOST.sp, "x30")
_TRANSFERS = (Kind.JUMP, Kind.CALL, Kind.RETURN)


def step(fiber: Fiber) -> Event | None:
    """Execute one instruction of a stopped fiber; see `Fiber.step`."""
    pc = fiber.pc
    owner: Mapped = fiber.owner
    known = owner.step_copies.known.get(pc)
    if known is not None:
        again: Event | None = fiber.resume_through(known)
        return again
    home = find_code(pc)
    if home is None:
        raise FiberError(f"fiber {fiber.name}: found pc {pc:#x} outside code, where there is nothing to step")
    try:
        decoded = home.decode(pc)
    except AssemblyError:
        return fiber.resume()  # not an instruction: the machine says so
    stays = decoded.kind not in _TRANSFERS or (decoded.target is not None and decoded.target in home)
    if stays:
        once: Event | None = fiber.resume_through(home.step_copies.slot(home, decoded, always=True))
        return once
    if fiber.interrupt_pending:
        return fiber.resume()  # it stops before the instruction, which must not have happened then
    before = {name: fiber.registers[name] for name in _TRANSFER_REGISTERS}
    word = _read_word(fiber.sp)
    through = _transfer(fiber, home, decoded)
    if through is None:
        through = home.step_copies.slot(home, decoded, always=False)
    try:
        event: Event | None = fiber.resume_through(through)
    finally:
        # Interrupted before a C function began, where nothing could be stepped: undo the transfer.
        if fiber.kind == _INTERRUPT and fiber.state_code == _SUSPENDED and fiber.pc == through:
            for name, value in before.items():
                fiber.registers[name] = value
            if word is not None:
                native.write_memory(fiber.sp, word.to_bytes(_WORD_BYTES, "little"))
    return event


def _transfer(fiber: Fiber, home: Mapped, decoded: Decoded) -> int | None:
    """Carries out a transfer of control that a slot could not; returns where to go on, None for the slot."""
    target = decoded.target if decoded.target is not None else _indirect_target(fiber, decoded)
    if target is None:
        return None  # it cannot be read: let the instruction itself fault
    if decoded.kind is Kind.RETURN:
        return _return(fiber, decoded, target)
    if decoded.kind is Kind.CALL:
        return _call(fiber, home, decoded, target)
    return _jump(fiber, target)


def _landing(address: int) -> int | None:
    """Where an address of registered code lies in a stepping copy; None outside."""
    code = find_code(address)
    return None if code is None else code.step_copies.landing(code, address)


def _indirect_target(fiber: Fiber, decoded: Decoded) -> int | None:
    if decoded.kind is Kind.RETURN and decoded.target_register is None:
        return _read_word(fiber.sp)
    if decoded.target_register is not None:
        return fiber.registers[decoded.target_register]
    operand = decoded.target_memory
    if operand is None or operand.size_bytes != _WORD_BYTES or operand.segment is not None:
        return None
    return _read_word(decoded.memory_address(operand, _general(fiber, operand)))


def _general(fiber: Fiber, operand: MemoryOperand) -> dict[str, int]:
    registers = fiber.registers
    return {name: registers[name] for name in (operand.base, operand.index) if name is not None and name in registers}


def _read_word(address: int) -> int | None:
    data = native.read_memory(address, _WORD_BYTES)
    return int.from_bytes(data, "little") if len(data) == _WORD_BYTES else None


def _return(fiber: Fiber, decoded: Decoded, target: int) -> int | None:
    landing = _landing(target)
    if landing is None:
        return None  # to whoever called the fiber's code: nothing left to step
    if HOST.name == "x86_64":
        if decoded.mnemonic.split()[-1] != "ret":
            return _far_return(fiber, decoded, landing)
        dropped = int.from_bytes(decoded.code[-2:], "little") if len(decoded.code) >= 3 else 0
        fiber.registers[HOST.sp] = fiber.sp + _WORD_BYTES + dropped
    return landing


def _far_return(fiber: Fiber, decoded: Decoded, landing: int) -> int | None:
    """retfq, which pops rip and cs; iretq, which pops rip, cs, rflags, rsp and ss (Intel SDM volume 2)."""
    words = [_read_word(fiber.sp + _WORD_BYTES * index) for index in range(5)]
    if decoded.mnemonic == "iretq" and words[1] == _CS_USER64 and words[4] == _SS_USER:
        for name, word in zip(("rflags", HOST.sp), words[2:4], strict=True):
            assert word is not None, "the word above it was read"
            fiber.registers[name] = word
        return landing
    if decoded.mnemonic == "retfq" and words[1] == _CS_USER64:
        dropped = int.from_bytes(decoded.code[-2:], "little") if len(decoded.code) >= 4 else 0
        fiber.registers[HOST.sp] = fiber.sp + 2 * _WORD_BYTES + dropped
        return landing
    return None


def _call(fiber: Fiber, home: Mapped, decoded: Decoded, target: int) -> int | None:
    landing = _landing(target)
    after = decoded.next_address
    if landing is None:
        landing, after = target, home.step_copies.landing(home, after)
    if HOST.name == "x86_64":
        sp = fiber.sp - _WORD_BYTES
        try:
            native.write_memory(sp, after.to_bytes(_WORD_BYTES, "little"))
        except FiberError:
            return None
        fiber.registers[HOST.sp] = sp
    else:
        fiber.registers["x30"] = after
    return landing


def _jump(fiber: Fiber, target: int) -> int | None:
    landing = _landing(target)
    if landing is not None:
        return landing
    # A jump out of registered code is a tail call: trap when that returns to our caller.
    if HOST.name == "x86_64":
        caller = _read_word(fiber.sp)
        back = None if caller is None else _landing(caller)
        if back is not None:
            native.write_memory(fiber.sp, back.to_bytes(_WORD_BYTES, "little"))
    else:
        back = _landing(fiber.registers["x30"])
        if back is not None:
            fiber.registers["x30"] = back
    return target
