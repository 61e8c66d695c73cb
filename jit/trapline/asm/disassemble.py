"""Disassembly: a typed, thin layer over capstone.

`disassemble` reads a run of code for people; `decode_one` reads one instruction for the debugger: what kind
of control transfer it is, where it goes, which memory it reads and writes. This module is the only importer
of capstone. Engines are per thread, because a capstone handle must not be used by two threads at once.

Sources: Intel SDM volume 2 (order 325383), Arm ARM (DDI 0487) section C4.1.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trapline.asm.memory_aarch64 import memory_operand_of
from trapline.asm.operands import MemoryOperand
from trapline.errors import AssemblyError, NativeError

__all__ = ["Decoded", "Instruction", "Kind", "MemoryOperand", "decode_one", "disassemble"]

X86_64: Final = "x86_64"
AARCH64: Final = "aarch64"
MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF
MAX_INSTRUCTION_BYTES: Final = {X86_64: 15, AARCH64: 4}


class Kind(enum.Enum):
    """What an instruction does to the pc."""

    PLAIN = "goes on at the next instruction"
    JUMP = "always goes elsewhere"
    CONDITIONAL_JUMP = "goes elsewhere or on"
    CALL = "goes elsewhere and leaves a return address"
    RETURN = "goes to a return address"
    TRAP = "raises an exception on purpose"
    SYSCALL = "enters the kernel"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a disassembly; bytes that are no instruction have the mnemonic ``(bad)``."""

    address: int
    size_bytes: int
    code: bytes
    mnemonic: str
    operands_text: str

    @property
    def text(self) -> str:
        """Mnemonic and operands as one line."""
        return f"{self.mnemonic} {self.operands_text}" if self.operands_text else self.mnemonic

    @property
    def is_bad(self) -> bool:
        """Whether these bytes are no instruction."""
        return self.mnemonic == "(bad)"


@dataclass(frozen=True, slots=True)
class Decoded:
    """One instruction in detail.

    `target` is the absolute address of a direct jump or call. An indirect one has `target_register` or
    `target_memory` instead. `memory` lists every access in operand order, the implicit ones of the stack
    and of string instructions included; `lea`, `nop` and prefetches access nothing and have none. `loops`
    is true for a string instruction with a repeat prefix: its accesses happen zero or more times.
    """

    address: int
    size_bytes: int
    code: bytes
    mnemonic: str
    operands_text: str
    kind: Kind
    target: int | None
    target_register: str | None
    target_memory: MemoryOperand | None
    memory: tuple[MemoryOperand, ...]
    loops: bool

    @property
    def text(self) -> str:
        """Mnemonic and operands as one line."""
        return f"{self.mnemonic} {self.operands_text}" if self.operands_text else self.mnemonic

    @property
    def next_address(self) -> int:
        """Address of the instruction that follows in memory."""
        return self.address + self.size_bytes

    def memory_address(self, operand: MemoryOperand, registers: Mapping[str, int]) -> int:
        """Effective address of `operand` before this instruction runs.

        `registers` maps the full-width names ("rax", "x3", "sp", and "fs_base", "gs_base" for segments) to
        unsigned values. Raises KeyError for a register that is missing from it.
        """
        return operand.effective_address(registers, self.next_address)


_GROUP_JUMP: Final = 1
"""Must match CS_GRP_JUMP of capstone.h."""
_OPERAND_REGISTER, _OPERAND_IMMEDIATE, _OPERAND_MEMORY = 1, 2, 3
"""Must match X86_OP_REG, X86_OP_IMM, X86_OP_MEM of x86.h of capstone."""


class _Engines(threading.local):
    def __init__(self) -> None:
        self.plain: dict[str, Any] = {}
        self.detail: dict[str, Any] = {}


_ENGINES = _Engines()


def _capstone() -> Any:
    """The library: most programs never disassemble, and it takes longer to import than all else here. Raises
    NativeError where the system lets no file be opened."""
    try:
        import capstone
    except OSError as error:
        raise NativeError(f"capstone cannot be loaded: {error.strerror or error}") from error
    return capstone


def _engine(arch: str, detail: bool) -> Any:
    pool = _ENGINES.detail if detail else _ENGINES.plain
    engine = pool.get(arch)
    if engine is None:
        capstone = _capstone()
        if arch == X86_64:
            engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        elif arch == AARCH64:
            engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
        else:
            raise AssemblyError(f"no such architecture: found {arch!r}, expected 'x86_64' or 'aarch64'")
        engine.detail = detail
        pool[arch] = engine
    return engine


def detailed(code: bytes, address: int, arch: str) -> Any | None:
    """The capstone instruction at the start of `code` with its details, or None (for this package only)."""
    for instruction in _engine(arch, True).disasm(code, address & MASK_64, 1):
        return instruction
    return None


def disassemble(code: bytes, address: int = 0, *, arch: str) -> list[Instruction]:
    """Disassemble all of `code`, which lies at `address`.

    Bytes that are no instruction give an entry ``(bad)`` of one byte on x86-64, of four (or what is left) on
    aarch64, and reading goes on after it, so the sizes always add up to ``len(code)``. Raises AssemblyError
    for an unknown `arch`.

    >>> [i.text for i in disassemble(bytes.fromhex("4801d8c3"), 0x1000, arch="x86_64")]
    ['add rax, rbx', 'ret']

    Source: capstone 5, Intel syntax on x86-64.
    """
    engine = _engine(arch, False)
    out: list[Instruction] = []
    offset = 0
    total = len(code)
    step = 1 if arch == X86_64 else 4
    while offset < total:
        rest = code[offset:] if offset else code
        start = (address + offset) & MASK_64
        for at, size, mnemonic, operands in engine.disasm_lite(rest, start):
            raw = code[offset : offset + size]
            if arch == X86_64 and mnemonic == "nop" and raw[-1:] == b"\x90" and size == 2 and raw[0] == 0x48:
                mnemonic, operands = "xchg", "rax, rax"
            out.append(Instruction(at, size, raw, mnemonic, operands))
            offset += size
        if offset < total:
            raw = code[offset : offset + step]
            shown = " ".join(f"{byte:02x}" for byte in raw)
            out.append(Instruction(address + offset, len(raw), raw, "(bad)", shown))
            offset += len(raw)
    return out


def decode_one(code: bytes, address: int = 0, *, arch: str) -> Decoded:
    """Decode the instruction at the start of `code`, which lies at `address`, in detail.

    `code` may be longer than the instruction. Raises AssemblyError if its start is no instruction.

    >>> decode_one(bytes.fromhex("ff5008"), 0, arch="x86_64").target_memory.displacement
    8

    Source: Intel SDM volume 2; Arm ARM section C4.1; the text is capstone's.
    """
    window = bytes(code[: MAX_INSTRUCTION_BYTES.get(arch, 15)])
    found = detailed(window, address, arch)
    if found is None:
        raise AssemblyError(f"no {arch} instruction at {address:#x}: found {window.hex(' ') or 'no bytes'}")
    if arch == X86_64:
        return _decode_x86_64(found, address)
    return _decode_aarch64(window, found, address)


# x86-64


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NO_ACCESS: Final = _words(
    "lea nop prefetch prefetchw prefetchnta prefetcht0 prefetcht1 prefetcht2 clflush clflushopt clwb cldemote invlpg"
)
_TRAPS_X86: Final = _words("int3 int1 int into ud0 ud1 ud2 ud2b hlt icebp")
_LOOPS: Final = _words("loop loope loopne jrcxz jecxz jcxz xbegin")
_RETURNS: Final = _words("ret retf retfq iret iretd iretq sysret sysretq sysexit")
_CALLS: Final = _words("call lcall")
_JUMPS: Final = _words("jmp ljmp")
# Direction comes from the operand's position, not from capstone 5.0's access flags, which are wrong for setcc,
# rotations, many SSE and all VEX stores (the emulator test of tests/asm shows them). Memory that is not the first
# operand is read; memory that is first is read and written, but for these.
_UPDATES_X86: Final = _words("cmpxchg cmpxchg8b cmpxchg16b xadd xchg")
_WRITES_X86: Final = _words(
    "pop fst fstp fist fistp fisttp fbstp fnstcw fnstsw fnstenv fnsave fxsave fxsave64 xsave xsave64 xsavec xsavec64 "
    "xsaveopt xsaveopt64 xsaves xsaves64 stmxcsr sgdt sidt sldt smsw str maskmovdqu maskmovq extractps stosb stosw "
    "stosd stosq insb insw insd"
)
_WRITES_X86_STEMS: Final = ("mov", "set", "pextr")
_READS_X86: Final = _words(
    "cmp test bt push call jmp lcall ljmp mul imul div idiv ldmxcsr fxrstor fxrstor64 xrstor xrstor64 xrstors "
    "xrstors64 fld fild fbld fldcw fldenv frstor fadd fsub fsubr fmul fdiv fdivr fcom fcomp fiadd fisub fisubr fimul "
    "fidiv fidivr ficom ficomp cmpsb cmpsw cmpsd cmpsq scasb scasw scasd scasq lodsb lodsw lodsd lodsq outsb outsw "
    "outsd lgdt lidt lldt lmsw ltr verr verw vldmxcsr"
)
_SIZES_X86: Final = {"comiss": 4, "comisd": 8, "ucomiss": 4, "ucomisd": 8}  # capstone says 16


def _x86_memory(found: Any, operand: Any, mnemonic: str, first: bool) -> MemoryOperand:
    mem = operand.mem
    segment = found.reg_name(mem.segment) if mem.segment else None
    index = found.reg_name(mem.index) if mem.index else None
    if mnemonic in _UPDATES_X86:
        reads, writes = True, True
    elif not first or mnemonic in _READS_X86:
        reads, writes = True, False
    elif mnemonic[0] == "v" or mnemonic in _WRITES_X86 or mnemonic.startswith(_WRITES_X86_STEMS):
        reads, writes = False, True
    else:
        reads, writes = True, True
    return MemoryOperand(
        segment=segment if segment in ("fs", "gs") else None,
        base=found.reg_name(mem.base) if mem.base else None,
        index=None if index in ("riz", "eiz") else index,
        scale=mem.scale,
        displacement=mem.disp,
        size_bytes=_SIZES_X86.get(mnemonic, operand.size),
        reads=reads,
        writes=writes,
    )


def _stack(displacement: int, size_bytes: int, *, writes: bool, base: str = "rsp") -> MemoryOperand:
    return MemoryOperand(None, base, None, 1, displacement, size_bytes, not writes, writes)


def _decode_x86_64(found: Any, address: int) -> Decoded:
    words = found.mnemonic.split()
    mnemonic = words[-1]
    loops = len(words) > 1 and words[0] in ("rep", "repe", "repne", "repz", "repnz")
    operands = found.operands
    kind = Kind.PLAIN
    if mnemonic in _JUMPS:
        kind = Kind.JUMP
    elif mnemonic in _CALLS:
        kind = Kind.CALL
    elif mnemonic in _RETURNS:
        kind = Kind.RETURN
    elif mnemonic in _LOOPS or found.group(_GROUP_JUMP):
        kind = Kind.CONDITIONAL_JUMP
    elif mnemonic in ("syscall", "sysenter") or (mnemonic == "int" and operands[0].imm == 0x80):
        kind = Kind.SYSCALL
    elif mnemonic in _TRAPS_X86:
        kind = Kind.TRAP
    target: int | None = None
    register: str | None = None
    target_memory: MemoryOperand | None = None
    memory: list[MemoryOperand] = []
    transfers = kind in (Kind.JUMP, Kind.CALL, Kind.CONDITIONAL_JUMP)
    for position, operand in enumerate(operands):
        if operand.type == _OPERAND_MEMORY:
            if mnemonic not in _NO_ACCESS:
                memory.append(_x86_memory(found, operand, mnemonic, position == 0))
                if transfers:
                    target_memory = memory[-1]
        elif transfers and operand.type == _OPERAND_REGISTER:
            register = found.reg_name(operand.reg)
        elif transfers and operand.type == _OPERAND_IMMEDIATE:
            target = operand.imm & MASK_64
    if mnemonic == "push" or mnemonic.startswith("pushf"):
        size_bytes = 2 if found.prefix[2] == 0x66 else 8
        memory.append(_stack(-size_bytes, size_bytes, writes=True))
    elif mnemonic == "pop" or mnemonic.startswith("popf"):
        memory.append(_stack(0, 2 if found.prefix[2] == 0x66 else 8, writes=False))
    elif mnemonic == "call":
        memory.append(_stack(-8, 8, writes=True))
    elif mnemonic == "ret":
        memory.append(_stack(0, 8, writes=False))
    elif mnemonic == "leave":
        memory.append(_stack(0, 8, writes=False, base="rbp"))
    return Decoded(
        address,
        found.size,
        bytes(found.bytes),
        found.mnemonic,
        found.op_str,
        kind,
        target,
        register,
        target_memory,
        tuple(memory),
        loops,
    )


# aarch64: kinds and targets are read from the word, whose encoding classes are simple and complete


def signed(value: int, bits: int) -> int:
    """`value`, of which the low `bits` count, as a two's complement number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _decode_aarch64(window: bytes, found: Any, address: int) -> Decoded:
    word = int.from_bytes(window, "little")
    kind = Kind.PLAIN
    target: int | None = None
    register: str | None = None
    if word & 0x7C00_0000 == 0x1400_0000:  # b, bl: Arm ARM C4.1.66 unconditional branch (immediate)
        kind = Kind.CALL if word >> 31 else Kind.JUMP
        target = address + 4 * signed(word, 26)
    elif word & 0xFE00_0000 == 0x5400_0000 or word & 0x7E00_0000 == 0x3400_0000:  # b.cond, cbz, cbnz
        kind = Kind.CONDITIONAL_JUMP
        target = address + 4 * signed(word >> 5, 19)
        if word & 0xFE00_000E == 0x5400_000E:  # conditions al and nv always hold
            kind = Kind.JUMP
    elif word & 0x7E00_0000 == 0x3600_0000:  # tbz, tbnz
        kind = Kind.CONDITIONAL_JUMP
        target = address + 4 * signed(word >> 5, 14)
    elif word & 0xFE00_0000 == 0xD600_0000:  # br, blr, ret and their authenticating forms
        operation = word >> 21 & 7
        kind = (Kind.JUMP, Kind.CALL, Kind.RETURN)[operation] if operation < 3 else Kind.RETURN
        if operation < 3:
            number = word >> 5 & 31
            register = "xzr" if number == 31 else f"x{number}"
            if operation == 2 and word >> 10 & 3:  # retaa, retab
                register = "x30"
    elif word & 0xFFE0_0000 in (0xD420_0000, 0xD440_0000) or word < 0x1_0000:  # brk, hlt, udf
        kind = Kind.TRAP
    elif word & 0xFFE0_001C == 0xD400_0000 and word & 3:  # svc, hvc, smc
        kind = Kind.SYSCALL
    if target is not None:
        target &= MASK_64
    operand = memory_operand_of(word)
    return Decoded(
        address,
        4,
        window,
        found.mnemonic,
        found.op_str,
        kind,
        target,
        register,
        None,
        (operand,) if operand is not None else (),
        False,
    )
