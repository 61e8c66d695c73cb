"""Fibers: native code on a stack of its own, which stops, can be looked into, and goes on."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trapline import native, tuning
from trapline.errors import CodeError, FiberError
from trapline.native import HOST
from trapline.runtime import stepping
from trapline.runtime.code import choose, find_code
from trapline.runtime.registers import Registers, whole_words
from trapline.runtime.signature import Signature
from trapline.runtime.trap import Event, StopReason, unwound_error

__all__ = ["Fiber", "FiberState"]


class FiberState(enum.IntEnum):
    """The states of a fiber; native/fiber.h draws the ways between them and must match."""

    READY = 0
    RUNNING = 1
    SUSPENDED = 2
    FINISHED = 3
    UNWOUND = 4
    LOST = 5


class Fiber(native.Fiber):
    """Native code with a stack of its own, run until something stops it.

    `entry` is a native function (``code["label"]``) or the absolute address of code; `args` go to it by the machine's
    C convention (ints of -2**63 .. 2**64-1, floats as f64). Further arguments, by keyword:

    signature       ``result(parameter, ...)`` as for `CodeImage.function`, for other types than i64 and f64
    path            how a fault gets out of native code: ``inject`` (the default), ``direct`` (faster, not under
                    sanitizers or shadow stacks), ``unwind`` (a trap ends the fiber: look, but not resume)
    gil             ``lazy`` (the default): kept at first, released when the code runs longer than the interpreter's
                    switch interval; ``release``: released before each run
    stack_bytes     stack that is usable at once
    max_stack_bytes address space reserved for it, for `grow_stack`

    A fiber is an iterator over its events; each iteration resumes it with its state as it then is:

    >>> import trapline
    >>> code = trapline.CodeImage(trapline.assemble("mov eax, edi; cdq; idiv esi; ret"))
    >>> fiber = trapline.Fiber(code[0], (42, 0))
    >>> for event in fiber:
    ...     event.registers.esi = 6
    >>> fiber.result
    7

    It may be resumed by any thread, by one at a time. Dropping it unwinds it: its stack is reused, nothing else is
    undone. Raises CodeError when `entry` is outside code, FiberError for arguments that do not fit, NativeError when
    the system has no memory for the stack.
    """

    __slots__ = ("__weakref__",)

    if TYPE_CHECKING:

        def __next__(self) -> Event: ...
        def __iter__(self) -> Fiber: ...
        def resume(self) -> Event | None:
            """Run to the next event; None when the code returned. Raises FiberError unless READY or SUSPENDED."""

    def __init__(
        self,
        entry: native.Function | int,
        args: Sequence[int | float] = (),
        *,
        signature: str = "i64",
        path: str = "inject",
        gil: str = "lazy",
        stack_bytes: int = tuning.STACK_BYTES,
        max_stack_bytes: int = tuning.MAX_STACK_BYTES,
    ) -> None:
        address = entry.address if isinstance(entry, native.Function) else entry
        if not isinstance(address, int):
            raise FiberError(f"entry: found {entry!r}, expected a native function or the address of code")
        owner = find_code(address)
        if owner is None:
            raise CodeError(f"entry {address:#x} is outside code; expected an address in a CodeImage or CodeCopy")
        numbers = isinstance(stack_bytes, int) and isinstance(max_stack_bytes, int)
        if not numbers or not native.PAGE_BYTES <= stack_bytes <= max_stack_bytes or max_stack_bytes > 1 << 40:
            raise FiberError(
                f"found a stack of {stack_bytes!r} bytes in {max_stack_bytes!r}; "
                "expected at least a page, at most 1 TiB"
            )
        if not isinstance(args, Iterable):
            raise FiberError(f"{owner.describe(address)}: found arguments {args!r}, expected a sequence of numbers")
        parsed = Signature.parse(signature)
        super().__init__(
            address,
            tuple(args),
            parsed.parameters,
            parsed.result,
            owner.describe(address),
            owner,
            choose(tuning.PATHS, path, "path"),
            choose(tuning.GIL_MODES, gil, "gil"),
            stack_bytes,
            max_stack_bytes,
        )

    @property
    def state(self) -> FiberState:
        """Where it is in its life."""
        return FiberState(self.state_code)

    @property
    def registers(self) -> Registers:
        """Every register by name; readable and writable while it is READY or SUSPENDED."""
        return Registers(self)

    def last_event(self) -> Event:
        """The event it is stopped at. Raises FiberError when it is not stopped at one."""
        if self.state not in (FiberState.SUSPENDED, FiberState.UNWOUND) or self.kind == StopReason.FINISHED:
            raise FiberError(f"fiber {self.name}: it is {self.state.name.lower()}, not stopped at an event")
        event: Event = self._event()
        return event

    def target(self, place: int | str) -> int:
        """The address of a label of the code it is in, or an address that lies in code. Raises FiberError."""
        if isinstance(place, str):
            code = find_code(self.pc) or self.owner
            address: int = code.address_of(place)
            return address
        if not isinstance(place, int):
            raise FiberError(f"fiber {self.name}: found {place!r}, expected a label or an address")
        if find_code(place) is None:
            raise FiberError(f"fiber {self.name}: {place:#x} is outside code; expected the address of an instruction")
        return place

    def resume_at(self, place: int | str) -> Event | None:
        """Resume at another instruction: an address, or a label of the code it is in.

        Returns the next event, None when the code returned. Raises FiberError when it is not in code.
        """
        self.pc = self.target(place)
        return self.resume()

    def skip(self) -> Event | None:
        """Resume behind the instruction it is stopped at, without executing it. Raises FiberError."""
        self.last_event().skip()
        return self.resume()

    def step(self) -> Event | None:
        """Execute one instruction; the next event is a STEP at the following one, or what the instruction caused.

        A call of code that trapline does not know runs as one instruction. Returns None when the code returned.
        Raises FiberError when it is not stopped in code.

        >>> import trapline
        >>> code = trapline.CodeImage(trapline.assemble("nop; inc edi; ret"))
        >>> fiber = trapline.Fiber(code[0], (1,))
        >>> fiber.step().instruction.text, fiber.step().registers.edi
        ('inc edi', 2)
        """
        return stepping.step(self)

    def read_memory(self, address: int, size_bytes: int) -> bytes:
        """Memory of the process the code runs in: fewer bytes where readable memory ends."""
        return native.read_memory(address, size_bytes)

    def write_memory(self, address: int, data: bytes) -> None:
        """Write memory of the process the code runs in. Raises FiberError where it is not writable."""
        native.write_memory(address, data)

    def __repr__(self) -> str:
        try:
            return f"<Fiber {self.name} {self.state.name.lower()}>"
        except AttributeError:
            return "<Fiber that was never initialised>"


native.configure(
    Fiber, Event, unwound_error, whole_words(HOST), tuning.STACK_BYTES, tuning.MAX_STACK_BYTES
)
