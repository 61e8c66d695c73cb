"""Code images, private copies, breakpoints in copies, and which code an address belongs to."""

from __future__ import annotations

import bisect
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from trapline import native, tuning
from trapline.asm.assembly import Assembly
from trapline.asm.disassemble import Decoded, Instruction, decode_one, disassemble
from trapline.asm.relocate import Relocated, relocate
from trapline.errors import AssemblyError, CodeError, FiberError, TraplineError
from trapline.native import HOST, Code, SlotPlace
from trapline.runtime.signature import Signature
from trapline.runtime.weak import fork_lock

__all__ = ["Breakpoint", "CodeCopy", "CodeImage", "Mapped", "find_code", "slot_places"]

MOST_BYTES: Final = 1 << 46
"""More than any address space has for code; keeps sums in C from running over."""

_MOST_INSTRUCTION_BYTES: Final = 16

_REGISTER_NUMBER = {f"x{number}": number for number in range(31)}


def slot_places(relocated: Relocated) -> list[SlotPlace]:
    """The rows that tell the core what each pc in a slot means."""
    return [
        SlotPlace(place.start, place.pc, place.stack_adjust_bytes, _REGISTER_NUMBER.get(place.pc_register or "", -1))
        for place in relocated.places
    ]


class Mapped(ABC):
    """Code at a base address: what an image and a copy of it have in common.

    `name` is what messages call it. Places in it are given as a label, an offset in bytes from its start (a small
    integer) or an absolute address.
    """

    def __init__(self, code: Code, name: str) -> None:
        self.name = name
        self._code = code
        self.step_copies = StepCopies()
        _register(self)

    @property
    @abstractmethod
    def _image(self) -> CodeImage:
        """The image that this is, or is a copy of."""

    @property
    @abstractmethod
    def instruction_offsets(self) -> Sequence[int]:
        """Where instructions begin, in order."""

    def is_instruction(self, offset: int) -> bool:
        """Whether an instruction begins at this offset."""
        starts = self.instruction_offsets
        at = bisect.bisect_left(starts, offset)
        return at < len(starts) and starts[at] == offset

    def _bytes(self, offset: int, size_bytes: int | None) -> bytes:
        """Code as the program means it, without breakpoints: up to `size_bytes` of it."""
        left = self.size_bytes - offset
        return self._code.read(offset, left if size_bytes is None else min(left, size_bytes))

    @property
    def base(self) -> int:
        """Address of offset 0."""
        return self._code.base

    @property
    def size_bytes(self) -> int:
        """How many bytes are published."""
        return self._code.used_bytes

    @property
    def labels(self) -> Mapping[str, int]:
        """Label -> offset."""
        return self._image._labels

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self.base:#x}, {self.size_bytes} bytes>"

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.base <= address < self.base + self.size_bytes

    def offset_of(self, place: str | int) -> int:
        """The offset of a label, an offset or an absolute address. Raises CodeError when it is not in this code."""
        if not isinstance(place, str | int):
            raise CodeError(f"{self.name}: found the place {place!r}, expected a label, an offset or an address")
        if isinstance(place, str):
            if place not in self.labels:
                known = ", ".join(sorted(self.labels)[:8]) or "none"
                raise CodeError(f"{self.name}: found no label {place!r}; expected one of its labels ({known})")
            return self.labels[place]
        offset = place - self.base if place >= self.base else place
        if not 0 <= offset < self.size_bytes:
            raise CodeError(
                f"{self.name}: {place:#x} is outside code; expected an offset below {self.size_bytes:#x} "
                f"or an address in [{self.base:#x}, {self.base + self.size_bytes:#x})"
            )
        return offset

    def address_of(self, place: str | int) -> int:
        """The absolute address of a label or offset. Raises CodeError."""
        return self.base + self.offset_of(place)

    def describe(self, address: int) -> str:
        """An address as `label+0x3`, or `name+0x12` before the first label."""
        return self._image._describe(address - self.base)

    def function(
        self,
        place: str | int,
        signature: str = "i64",
        *,
        path: str = "inject",
        gil: str = "lazy",
        handler: Callable[[object], None] | None = None,
    ) -> native.Function:
        """A callable for the code at `place`, called by the machine's C convention.

        `signature` is ``result(parameter, ...)`` with the types i32, u32, i64, u64, ptr, f32, f64, void; without
        parameters, ints are passed as 64 bits and floats as f64. A stop (trap, breakpoint, check) raises `Trap`
        and unwinds the call, or with a `handler` is given to that as an `Event` and then resumed. `path` and `gil`
        are those of `Fiber`. Raises CodeError for a place outside code, FiberError for a bad signature.

        >>> import trapline
        >>> code = trapline.CodeImage(trapline.assemble("add: lea eax, [rdi + rsi]; ret"))
        >>> code.function("add", "i32(i32, i32)")(2, -5)
        -3
        """
        address = self.address_of(place)
        parsed = Signature.parse(signature)
        return native.Function(
            address,
            parsed.parameters,
            parsed.result,
            self.describe(address),
            self,
            choose(tuning.PATHS, path, "path"),
            choose(tuning.GIL_MODES, gil, "gil"),
            handler,
        )

    def __getitem__(self, place: str | int) -> native.Function:
        """``code["label"]`` is ``code.function("label")``."""
        return self.function(place)

    def read(self, place: str | int, size_bytes: int) -> bytes:
        """Bytes as they stand in this mapping, patches included. Raises CodeError."""
        offset = self.offset_of(place)
        left = self.size_bytes - offset
        return self._code.read(offset, whole_number(self.name, "bytes to read", size_bytes, 0, left))

    def decode(self, place: str | int) -> Decoded:
        """The instruction at a place, patches included, under any breakpoint. Raises CodeError, AssemblyError."""
        offset = self.offset_of(place)
        return decode_one(self._bytes(offset, 16), self.base + offset, arch=HOST.name)

    def disassemble(self, start: str | int = 0, count: int | None = None) -> list[Instruction]:
        """`count` instructions (all when None) from a place on, as `decode` reads them. Raises CodeError."""
        offset = self.offset_of(start) if self.size_bytes else 0
        size_bytes = None if count is None else 16 * whole_number(self.name, "instructions", count, 0, MOST_BYTES)
        found = disassemble(self._bytes(offset, size_bytes), self.base + offset, arch=HOST.name)
        return found if count is None else found[:count]

    def around(self, pc: int, before: int, after: int) -> list[Instruction]:
        """Up to `before` instructions ahead of an address and up to `after` from it on, as `decode` reads them."""
        offset = self.offset_of(pc)
        starts = self.instruction_offsets
        at = bisect.bisect_left(starts, offset)
        first = starts[max(at - before, 0)] if at and before > 0 else offset
        ahead = disassemble(self._bytes(first, offset - first), self.base + first, arch=HOST.name)
        return ahead[-before:] * bool(before) + self.disassemble(offset, after)


def whole_number(name: str, what: str, found: int, least: int, most: int) -> int:
    """`found`, when it is an integer of [least, most]. Raises CodeError."""
    if not isinstance(found, int) or not least <= found <= most:
        raise CodeError(f"{name}: found {found!r} {what}, expected an integer of {least} .. {most}")
    return found


def machine_code(name: str, found: object) -> bytes:
    """`found` as bytes, when it is a buffer. Raises CodeError."""
    if not isinstance(found, bytes | bytearray | memoryview):
        raise CodeError(f"{name}: found code of type {type(found).__name__}, expected an Assembly or bytes")
    return bytes(found)


def choose(table: Mapping[str, int], found: str, what: str) -> int:
    """The number of a named choice. Raises FiberError."""
    if not isinstance(found, str) or found not in table:
        raise FiberError(f"{what}: found {found!r}, expected one of {', '.join(table)}")
    return table[found]


class CodeImage(Mapped):
    """Native code, mapped executable; canonical: appended to, never patched.

    `code` is an `Assembly`, bytes of machine code, or None for an empty image. `capacity_bytes` is how much it can
    hold in all; None leaves room for 1 MiB beyond `code`. The memory is executable and not writable at one address,
    writable and not executable at another. It is unmapped when nothing refers to the image any more: functions,
    fibers and copies made from it do.

    Raises CodeError when `code` does not fit or was assembled for another machine, NativeError when the system
    has no memory.

    >>> import trapline
    >>> trapline.CodeImage(bytes.fromhex("b82a000000c3"))[0]()
    42
    """

    def __init__(
        self, code: Assembly | bytes | None = None, *, name: str = "code", capacity_bytes: int | None = None
    ) -> None:
        if code is not None and not isinstance(code, Assembly):
            code = machine_code(name, code)
        size_bytes = 0 if code is None else len(code.code if isinstance(code, Assembly) else code)
        if capacity_bytes is None:
            capacity_bytes = size_bytes + tuning.IMAGE_CAPACITY_BYTES
        whole_number(name, "bytes of capacity", capacity_bytes, 1, MOST_BYTES)
        if size_bytes > capacity_bytes:
            raise CodeError(f"{name}: found {size_bytes} bytes of code for a capacity of {capacity_bytes}")
        self._append_lock = fork_lock()
        self._labels: dict[str, int] = {}
        self._label_offsets: list[tuple[int, str]] = []
        self._boundaries: list[int] = []
        self._unscanned: list[tuple[int, int]] = []
        """[start, stop) of code whose instructions nobody has asked for yet."""
        super().__init__(Code.image(capacity_bytes), name)
        if code is not None:
            self.append(code)

    @property
    def _image(self) -> CodeImage:
        return self

    @property
    def capacity_bytes(self) -> int:
        """How many bytes fit in all."""
        return self._code.capacity_bytes

    def append(self, code: Assembly | bytes, *, align_bytes: int = 16, data_bytes: int = 0) -> int:
        """Publish more code behind what is there, in this image and every copy; returns its offset.

        The last `data_bytes` of bytes of machine code are data: no instruction begins there. Labels of an `Assembly`
        join the image's. Raises CodeError when it does not fit, when a label is there already, or when it was
        assembled for another machine or another base address.
        """
        data = code.code if isinstance(code, Assembly) else machine_code(self.name, code)
        if not data:
            raise CodeError(f"{self.name}: found no code to append, expected at least one byte")
        whole_number(self.name, "bytes of alignment", align_bytes, 1, MOST_BYTES)
        if align_bytes & (align_bytes - 1):
            raise CodeError(f"{self.name}: found an alignment of {align_bytes} bytes, expected a power of two")
        if isinstance(code, Assembly) and code.arch != HOST.name:
            raise CodeError(f"{self.name}: found code for {code.arch}, expected code for {HOST.name}")
        whole_number(self.name, "bytes of data", data_bytes, 0, len(data))
        with self._append_lock:
            return self._append(code, data, align_bytes, data_bytes)

    def _append(self, code: Assembly | bytes, data: bytes, align_bytes: int, data_bytes: int) -> int:
        """Requires the lock: offsets join `_boundaries` in order, and no label twice."""
        if isinstance(code, Assembly):
            doubled = sorted(code.labels.keys() & self._labels.keys())
            if doubled:
                raise CodeError(f"{self.name}: label {doubled[0]!r} is there already")
            at = self.base + (self.size_bytes + align_bytes - 1) // align_bytes * align_bytes
            if code.base not in (0, at):
                raise CodeError(f"{self.name}: found code assembled for {code.base:#x}, expected 0 or {at:#x}")
        offset = self._code.publish(data, align_bytes)
        if isinstance(code, Assembly):
            for label, at in code.labels.items():
                self._labels[label] = offset + at
                bisect.insort(self._label_offsets, (offset + at, label))
            self._scan()
            starts = [offset + statement.offset for statement in code.statements if not statement.is_data]
            self._add_boundaries(offset, offset + len(data), starts)
            self._trap_in_step_copies(starts)
        else:
            self._unscanned.append((offset, offset + len(data) - data_bytes))
            if any(home.step_copies.made for home in (self, *_copies_of(self))):
                self._scan()
        return offset

    def _scan(self) -> None:
        """Find the instructions of bytes that were appended; requires the lock."""
        while self._unscanned:
            row = start, stop = self._unscanned[0]
            found = disassemble(self._code.read(start, stop - start), start, arch=HOST.name) if stop > start else []
            starts = [instruction.address for instruction in found if not instruction.is_bad]
            self._trap_in_step_copies(starts)
            self._add_boundaries(start, stop, starts)
            if self._unscanned[:1] == [row]:
                del self._unscanned[0]

    def _add_boundaries(self, start: int, stop: int, starts: Sequence[int]) -> None:
        """In order and once, though a signal handler may have appended or scanned before this did."""
        at, end = bisect.bisect_left(self._boundaries, start), bisect.bisect_left(self._boundaries, stop)
        self._boundaries[at:end] = starts

    def _trap_in_step_copies(self, starts: Sequence[int]) -> None:
        for home in (self, *_copies_of(self)):
            home.step_copies.trap(starts)

    def copy(self, *, name: str | None = None, breakpoints: int = tuning.BREAKPOINT_SLOTS) -> CodeCopy:
        """A private copy at another base address, for breakpoints and patches.

        `breakpoints` is how many different instructions can get one. Raises NativeError, CodeError for a bad number.
        """
        whole_number(self.name, "breakpoints", breakpoints, 0, MOST_BYTES // tuning.SLOT_BYTES)
        return CodeCopy(self, name or f"{self.name} (copy)", breakpoints)

    @property
    def instruction_offsets(self) -> Sequence[int]:
        """Where instructions begin, in order."""
        if self._unscanned:
            with self._append_lock:
                self._scan()
        return self._boundaries

    def _describe(self, offset: int) -> str:
        found = bisect.bisect_right(self._label_offsets, (offset, "\U0010ffff")) - 1
        if found < 0:
            return f"{self.name}+{offset:#x}"
        start, label = self._label_offsets[found]
        return label if start == offset else f"{label}+{offset - start:#x}"


@dataclass(slots=True)
class Breakpoint:
    """A breakpoint in a copy: `offset` in the code, how many requests hold it, how often it was hit since the first."""

    offset: int
    address: int
    requests: int = 1


class CodeCopy(Mapped):
    """A private copy of an image: the same code at another base, whose instructions can be patched.

    Pages are shared with the image until patched. Made by `CodeImage.copy`.
    """

    def __init__(self, image: CodeImage, name: str, breakpoints: int) -> None:
        self._of = image
        self._lock = threading.Lock()
        self._breakpoints: dict[int, Breakpoint] = {}
        self._under: dict[int, bytes] = {}
        """Offset -> the bytes that its breakpoint stands on, perhaps patched ones."""
        self._slot_of: dict[int, int] = {}
        self._slots_used = 0
        self._patches: list[tuple[int, int]] = []
        """[start, stop) of each patch that `_patched_starts` does not know of yet."""
        self._patched_starts: list[int] | None = None
        """Where instructions begin, once patches have moved that; None while it is as in the image."""
        super().__init__(image._code.copy(breakpoints), name)

    @property
    def _image(self) -> CodeImage:
        return self._of

    @property
    def image(self) -> CodeImage:
        """The image it is a copy of."""
        return self._of

    @property
    def instruction_offsets(self) -> Sequence[int]:
        """Where instructions begin, in order; patches move that."""
        while self._patches:
            self._patched_starts = self._starts_after_patch(*self._patches[0])
            del self._patches[0]
        return self._of.instruction_offsets if self._patched_starts is None else self._patched_starts

    def _bytes(self, offset: int, size_bytes: int | None) -> bytes:
        data = bytearray(super()._bytes(offset, size_bytes))
        for at, under in list(self._under.items()):
            start = at - offset
            if at in self._breakpoints and -len(under) < start < len(data):
                for position, byte in enumerate(under, start):
                    if 0 <= position < len(data):
                        data[position] = byte
        return bytes(data)

    @property
    def breakpoints(self) -> tuple[Breakpoint, ...]:
        """The breakpoints that are set, by offset."""
        return tuple(self._breakpoints[offset] for offset in sorted(self._breakpoints))

    @property
    def private_pages(self) -> int:
        """How many pages are no longer shared with the image."""
        return self._code.own_pages

    def add_breakpoint(self, place: str | int) -> Breakpoint:
        """Stop every fiber that is about to run the instruction at `place` of this copy.

        Adding one where there is one counts requests; each needs its own `remove_breakpoint`. The instruction itself
        runs out of line when the fiber is resumed, so no other thread misses the breakpoint meanwhile. Raises
        CodeError when no instruction begins at `place`, or when it cannot be displaced.
        """
        offset = self.offset_of(place)
        with self._lock:
            found = self._breakpoints.get(offset)
            if found is not None:
                found.requests += 1
                return found
            slot = self._slot(offset)
            self._under[offset] = self._code.read(offset, len(HOST.trap_code))
            made = Breakpoint(offset, self.base + offset)
            # Noted before it is patched in: an exception from a signal handler (Ctrl-C) may come behind any call.
            self._breakpoints[offset] = made
            try:
                self._code.set_breakpoint(offset, slot)
                self._code.patch(offset, HOST.trap_code)
            except TraplineError:  # not patched in
                self._code.set_breakpoint(offset, None)
                del self._breakpoints[offset]
                raise
            except BaseException:
                self._lift(offset)
                raise
            return made

    def remove_breakpoint(self, place: str | int) -> None:
        """Withdraw one request; with the last the instruction is put back. Raises CodeError if there is none."""
        offset = self.offset_of(place)
        with self._lock:
            found = self._breakpoints.get(offset)
            if found is None:
                raise CodeError(f"{self.name}: found no breakpoint at {self.describe(self.base + offset)}")
            found.requests -= 1
            if found.requests:
                return
            try:
                self._lift(offset)
            except TraplineError:
                found.requests += 1
                raise
            except BaseException:
                self._lift(offset)
                raise

    def _lift(self, offset: int) -> None:
        """Put back what stood under a breakpoint and forget it; may be done twice. Requires the lock."""
        if offset not in self._breakpoints:
            return
        self._code.patch(offset, self._under[offset])
        self._code.set_breakpoint(offset, None)
        del self._breakpoints[offset]

    def patch(self, place: str | int, code: bytes) -> None:
        """Write machine code over published bytes of this copy.

        The image keeps its bytes. One byte (one aligned word on aarch64) appears at once to threads that run here;
        longer patches are the caller's to time. Raises CodeError outside the code or over a breakpoint.
        """
        offset = self.offset_of(place)
        code = machine_code(self.name, code)
        touched = range(max(offset - _MOST_INSTRUCTION_BYTES + 1, 0), offset + len(code))
        with self._lock:
            for at in sorted(self._breakpoints.keys() & touched):
                if at + self.decode(at).size_bytes > offset:
                    raise CodeError(f"{self.name}: a breakpoint stands at {self.describe(self.base + at)}")
            for at in self._slot_of.keys() & touched:
                del self._slot_of[at]
            self._code.patch(offset, code)
            if (offset, offset + len(code)) not in self._patches[-1:]:
                self._patches.append((offset, offset + len(code)))
            if self.step_copies.made:
                self.step_copies = StepCopies()

    def _starts_after_patch(self, start: int, stop: int) -> list[int]:
        """Where instructions begin when [start, stop) has been written: decoded anew from the instruction that holds
        `start` to the first that begins behind the patch where one began before."""
        before = self._of.instruction_offsets if self._patched_starts is None else self._patched_starts
        first = max(bisect.bisect_right(before, start) - 1, 0)
        at = before[first] if before else start
        out = list(before[:first])
        while at < self.size_bytes:
            last = bisect.bisect_left(before, at)
            if at >= stop and last < len(before) and before[last] == at:
                return out + list(before[last:])
            found = disassemble(self._bytes(at, _MOST_INSTRUCTION_BYTES), self.base + at, arch=HOST.name)[0]
            if not found.is_bad:
                out.append(at)
            at += found.size_bytes
        return out

    def _slot(self, offset: int) -> int:
        """The slot with the displaced instruction of an offset; requires the lock."""
        known = self._slot_of.get(offset)
        if known is not None:
            return known
        if not self.is_instruction(offset):
            raise CodeError(f"{self.name}: no instruction begins at {self.describe(self.base + offset)}")
        slot = self._slots_used
        if slot >= self._code.slots:
            raise CodeError(f"{self.name}: found {slot} breakpoint slots in use, expected fewer; copy(breakpoints=...)")
        decoded = self.decode(offset)
        try:
            relocated = relocate(decoded.code, decoded.address, self._code.slot_address(slot), arch=HOST.name)
        except AssemblyError as error:
            raise CodeError(f"{self.name}: no breakpoint at {self.describe(decoded.address)}: {error}") from None
        self._code.write_slot(slot, relocated.code, slot_places(relocated))
        self._slots_used += 1
        self._slot_of[offset] = slot
        return slot


class StepCopy:
    """A stepping copy of a home: the same layout with a trap at every instruction, and slots that run one each."""

    def __init__(self, home: Mapped, offsets: Sequence[int]) -> None:
        self._home_base = home.base
        self._code = home._image._code.copy(tuning.STEPPING_SLOTS, home._code)
        self._slots_used = 0
        self.trap(offsets)

    @property
    def is_full(self) -> bool:
        return self._slots_used >= self._code.slots

    def trap(self, offsets: Sequence[int]) -> None:
        """Put a trap at each offset."""
        if offsets:
            self._code.patch_each(offsets, HOST.trap_code)

    def landing(self, address: int) -> int:
        """Where control flow to an address goes while stepping: into this copy, if it lies in the home."""
        inside = 0 <= address - self._home_base < self._code.used_bytes
        return address - self._home_base + self._code.base if inside else address

    def add(self, decoded: Decoded) -> int:
        """A new slot for an instruction of the home; its address."""
        address = self._code.slot_address(self._slots_used)
        relocated = relocate(decoded.code, decoded.address, address, arch=HOST.name, landing=self.landing)
        self._code.write_slot(self._slots_used, relocated.code, slot_places(relocated))
        self._slots_used += 1
        return address


class StepCopies:
    """The stepping copies of one home, made when the first step asks for one."""

    def __init__(self) -> None:
        self.made: list[StepCopy] = []
        self.known: dict[int, int] = {}
        """Address of an instruction of the home -> address of the slot that runs it, whatever the registers hold."""
        self._slots: dict[int, int] = {}
        self._lock = threading.Lock()

    def slot(self, home: Mapped, decoded: Decoded, *, always: bool) -> int:
        """The address of the slot that runs an instruction of the home once; `always`: every step of it may."""
        with self._opened(home) as copy:
            slot = self._slots.get(decoded.address)
            if slot is None:
                slot = self._slots[decoded.address] = copy.add(decoded)
            if always:
                self.known[decoded.address] = slot
            return slot

    def trap(self, offsets: Sequence[int]) -> None:
        """Put a trap at each offset in every copy."""
        with self._lock:
            for copy in self.made:
                copy.trap(offsets)

    def landing(self, home: Mapped, address: int) -> int:
        with self._opened(home) as copy:
            return copy.landing(address)

    @contextmanager
    def _opened(self, home: Mapped) -> Iterator[StepCopy]:
        """The copy that has room, with the lock held.

        The home is asked for its instructions without the lock, which it takes itself when it finds new ones, and
        once more when a copy was made: code may have come meanwhile.
        """
        offsets = home.instruction_offsets
        with self._lock:
            made = not self.made or self.made[-1].is_full
            if made:
                self.made.append(StepCopy(home, offsets))
            yield self.made[-1]
        if made:
            len(home.instruction_offsets)


# Which code an address belongs to: bases in order, beside them weak references. A table is never changed but replaced
# by a new one, so that a reader needs no lock: a signal handler or a finaliser may look an address up, or make code,
# in the middle of another look-up or registration of its thread.
_lock = fork_lock()
_table: tuple[list[int], list[weakref.ref[Mapped]]] = ([], [])


def _register(code: Mapped) -> None:
    global _table
    with _lock:
        while True:
            old = _table
            rows = [(base, row) for base, row in zip(*old, strict=True) if row() is not None and base != code.base]
            bisect.insort(rows, (code.base, weakref.ref(code)), key=lambda row: row[0])
            fresh = [base for base, _ in rows], [row for _, row in rows]
            if _table is old:  # nothing is called between this test and the store, so no handler runs there
                _table = fresh
                return


def find_code(address: int) -> Mapped | None:
    """The image or copy whose published code holds an absolute address, or None."""
    bases, mapped = _table
    at = bisect.bisect_right(bases, address) - 1
    found = mapped[at]() if at >= 0 else None
    return found if found is not None and address in found else None


def _copies_of(image: CodeImage) -> list[CodeCopy]:
    found = [reference() for reference in _table[1]]
    return [code for code in found if isinstance(code, CodeCopy) and code.image is image]
