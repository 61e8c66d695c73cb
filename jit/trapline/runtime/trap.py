"""Events: why a fiber stopped, where, and what it looked like there."""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final

from trapline import native
from trapline.arch import Fault
from trapline.asm.disassemble import Instruction, disassemble
from trapline.errors import AssemblyError, FiberError, Trap, TrapCode
from trapline.native import HOST
from trapline.runtime.code import Mapped, find_code
from trapline.runtime.registers import Registers

if TYPE_CHECKING:
    from trapline.runtime.fiber import Fiber

__all__ = ["Event", "StopReason"]


class StopReason(enum.IntEnum):
    """Why a fiber came back to Python. Must match enum event_kind in native/py_core.h.

    EXCEPTION: Python code that ran on behalf of a WebAssembly function (a host function, a signal handler) raised
    `event.fiber.exception`; resuming drops it.
    """

    FINISHED = 0
    TRAP = 1
    INTERRUPT = 2
    CHECK = 3
    BREAKPOINT = 4
    STEP = 5
    EXCEPTION = 6


_REASONS: Final = tuple(StopReason)
_ACCESS: Final = {
    TrapCode.MEMORY_READ: "read",
    TrapCode.MEMORY_WRITE: "write",
    TrapCode.INSTRUCTION_FETCH: "execute",
    TrapCode.BUS: "access",
    TrapCode.MEMORY_ACCESS: "access",
}


class Event(native.Event):
    """One stop of a fiber: what happened, with everything of the fiber's state to read and to write.

    Valid until the fiber goes on; then every property raises FiberError. Methods of an event only change the state
    that the fiber will go on with; methods of the fiber (`resume`, `step`, ...) run it.

    >>> import trapline
    >>> code = trapline.CodeImage(trapline.assemble("div ecx; ret"))
    >>> event = trapline.Fiber(code[0], ()).resume()
    >>> event.reason.name, event.trap.value, event.instruction.text
    ('TRAP', 'integer division by zero or overflow', 'div ecx')
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def fiber(self) -> Fiber: ...

    def _live(self) -> Fiber:
        if not self.valid:
            raise FiberError(f"fiber {self.fiber.name}: this event is over, the fiber has gone on since")
        return self.fiber

    @property
    def reason(self) -> StopReason:
        """Why the fiber stopped."""
        return _REASONS[self.kind]

    @property
    def fault(self) -> Fault | None:
        """What the signal frame said, for a TRAP; else None."""
        return Fault(*self._live().fault) if self.kind == StopReason.TRAP else None

    @property
    def trap(self) -> TrapCode | None:
        """The reason of a TRAP in words (`.value`); None for other events."""
        fault = self.fault
        if fault is None:
            return None
        code = HOST.classify(fault, lambda: native.read_memory(self.fiber.stop_pc, 4))
        if code in (TrapCode.MEMORY_READ, TrapCode.MEMORY_WRITE):
            mapping, _, low, _ = self.fiber.stack_bounds
            if mapping <= fault.address < low:
                return TrapCode.STACK_OVERFLOW
        return code

    @property
    def pc(self) -> int:
        """Address of the instruction that trapped or is about to run; after a check, of the one behind the call."""
        fiber = self._live()
        if self.kind == StopReason.TRAP and HOST.trap_behind_bytes and self.trap is TrapCode.BREAKPOINT_INSTRUCTION:
            return fiber.stop_pc - HOST.trap_behind_bytes
        return fiber.stop_pc

    @property
    def address(self) -> int | None:
        """The address whose access faulted, or None where there is none or the machine does not say."""
        fault, trap = self.fault, self.trap
        if fault is None or (trap not in _ACCESS and trap is not TrapCode.STACK_OVERFLOW):
            return None
        if trap is TrapCode.MEMORY_ACCESS and not fault.address:
            return None
        return fault.address

    @property
    def access(self) -> str | None:
        """`read`, `write`, `execute`, or `access` where the machine does not tell which; None without an access."""
        fault = self.fault
        trap = self.trap
        if trap is TrapCode.STACK_OVERFLOW:
            assert fault is not None
            return _ACCESS[HOST.classify(fault, lambda: b"")]
        return _ACCESS.get(trap) if trap is not None else None

    @property
    def registers(self) -> Registers:
        """Every register by name, to read and to write; `pc` there is where the fiber will go on."""
        return Registers(self._live())

    @property
    def code(self) -> Mapped | None:
        """The image or copy that holds the pc, or None."""
        return find_code(self.pc)

    @property
    def where(self) -> str:
        """The pc as label and offset, or as a bare address outside known code."""
        code = self.code
        return code.describe(self.pc) if code is not None else f"{self.pc:#x}"

    @property
    def instruction(self) -> Instruction | None:
        """The instruction at the pc, as published under any breakpoint; None where there is no code."""
        found = self.disassembly(0, 1)
        return found[0] if found else None

    def disassembly(self, before: int = 3, after: int = 6) -> list[Instruction]:
        """Up to `before` instructions ahead of the pc, then up to `after` from the pc on."""
        code, pc = self.code, self.pc
        if code is None:
            found = disassemble(native.read_memory(pc, 16 * after), pc, arch=HOST.name)
            return found[:after]
        return code.around(pc, before, after)

    def stack(self, count: int = 8) -> list[tuple[int, int]]:
        """The `count` words at the stack pointer and above it: (address, value), fewer where the stack ends."""
        sp = self._live().sp
        data = native.read_memory(sp, 8 * count)
        words = struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8])
        return [(sp + 8 * index, word) for index, word in enumerate(words)]

    def jump(self, pc: int | str) -> None:
        """Go on at another instruction: an address, or a label of the code the fiber is in.

        Raises FiberError when the address is not in code.
        """
        fiber = self._live()
        fiber.pc = fiber.target(pc)

    def skip(self) -> None:
        """Go on behind the instruction at the pc without executing it.

        Raises FiberError where there is no instruction to skip.
        """
        fiber = self._live()
        if self.kind == StopReason.CHECK:
            raise FiberError(f"fiber {fiber.name} at {self.where}: a check has been passed, there is nothing to skip")
        code = self.code
        try:
            if code is None:
                raise AssemblyError("the pc is outside code")
            fiber.pc = code.decode(self.pc).next_address
        except AssemblyError as error:
            raise FiberError(f"fiber {fiber.name} at {self.where}: found no instruction to skip: {error}") from None

    def unwind(self) -> None:
        """Leave the code for good. Raises FiberError when the fiber was unwound already."""
        self._live().unwind()

    def __str__(self) -> str:
        if not self.valid:
            return f"<event of fiber {self.fiber.name}, which has gone on>"
        what = self.trap.value if self.trap is not None else self.reason.name.lower()
        return _sentence(what, self.address, self.where, self.pc, self.instruction)

    def __repr__(self) -> str:
        return f"<Event {self}>" if self.valid else str(self)

    def report(self) -> str:
        """Several lines for a person: the event, the code around it, the general registers, the stack."""
        registers = self.registers
        lines = [str(self), ""]
        for instruction in self.disassembly():
            mark = "->" if instruction.address == self.pc else "  "
            lines.append(f" {mark} {instruction.address:#x}  {instruction.text}")
        lines.append("")
        shown = [f"{name:>6} {registers[name]:#018x}" for name in HOST.shown]
        lines += ["".join(shown[index : index + 3]) for index in range(0, len(shown), 3)]
        lines.append("")
        lines += [f"    [{address:#x}] {word:#018x}" for address, word in self.stack(4)]
        return "\n".join(lines)


def _sentence(what: str, address: int | None, where: str, pc: int, instruction: Instruction | None) -> str:
    of = f" of {address:#x}" if address is not None else ""
    text = f": {instruction.text}" if instruction is not None and not instruction.is_bad else ""
    return f"{what}{of} at {where} (pc {pc:#x}){text}"


def unwound_error(fiber: Fiber) -> Trap:
    """The exception for a call of a native function that stopped; the fiber is unwound."""
    event = fiber.last_event()
    trap, pc, address, where, mapped = event.trap, event.pc, event.address, event.where, event.code
    what = trap.value if trap is not None else event.reason.name.lower()
    name = fiber.name
    registers = event.registers

    def describe() -> str:
        instructions = mapped.disassemble(pc, 1) if mapped is not None else []
        return f"{name}: {_sentence(what, address, where, pc, instructions[0] if instructions else None)}"

    return Trap(
        describe,
        code=trap,
        function=where,
        pc=pc,
        address=address,
        registers={register: registers[register] for register in HOST.shown},
    )
