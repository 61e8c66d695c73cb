"""Relocation, held against the same instruction run in place by an emulator."""

from __future__ import annotations

import random
from typing import Any

import pytest

from trapline.asm.assembly import assemble
from trapline.asm.disassemble import decode_one
from trapline.asm.relocate import SLOT_BYTES, relocate
from trapline.errors import AssemblyError

unicorn = pytest.importorskip("unicorn", reason="unicorn is the oracle of these tests")

CODE = 0x4000_0000
DATA = 0x5000_0000
STACK = 0x6000_0000
AREA = 0x10000
STOP = CODE + 0x8000
NEAR_SLOT = CODE + 0x10_0000
FAR_SLOT = 0x7F00_0000_0000

X86_REGISTERS = [
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    *(f"r{number}" for number in range(8, 16)),
    "eflags",
]

X86_FORMS = """
add rax, rbx
adc dword ptr [rbx+8], ecx
mov rax, [rip+data]
mov dword ptr [rip+data], 0x12345678
add qword ptr [rip+data], 5
cmp byte ptr [rip+data], 5
lea r9, [rip+data]
movzx eax, word ptr [rip+data]
pinsrd xmm2, dword ptr [rip+data], 1
imul r10, qword ptr [rip+data], 77
push rax
push rsp
pop rcx
pop qword ptr [rsp+8]
push qword ptr [rip+data]
xchg rsp, rdx
push 0x1234
pushfq
leave
ret
ret 16
jmp target
jmp short target
jmp near target
je target
jne near target
jl target
jp target
loop target
loope target
loopne target
jrcxz target
jecxz target
call target
call rax
call r12
call qword ptr [rbx]
call qword ptr [rbx+rcx*8+0x10]
call qword ptr [rsp]
call qword ptr [rsp+8]
call qword ptr [rsp+rcx*8+0x70]
call qword ptr [rsp+0x78]
call qword ptr [rsp+0x200]
call qword ptr [rip+pointer]
jmp rax
jmp r12
jmp qword ptr [rbx]
jmp qword ptr [rsp+8]
jmp qword ptr [rip+pointer]
rep movsb
stosq
nop
notrack jmp rax
notrack call r12
cmovne r8, qword ptr [rip+data]
setg byte ptr [rip+data]
bts qword ptr [rip+data], 3
shl qword ptr [rip+data], cl
movups xmm1, xmmword ptr [rip+data]
test byte ptr [rip+data], 1
""".strip().splitlines()

A64_REGISTERS = [f"x{number}" for number in range(31)] + ["sp", "nzcv", *(f"q{number}" for number in range(4))]

A64_FORMS = """
add x0, x1, x2
subs x3, x4, #5
ldr x0, [x1, #8]
str x2, [x1], #16
ldp x0, x3, [sp], #16
adr x0, data
adr x9, target
adr xzr, target
adrp x1, data
adrp x2, target
ldr x0, data
ldr w0, data
ldrsw x3, data
ldr x30, data
ldr s0, data
ldr d1, data
ldr q2, data
b target
bl target
b.eq target
b.ne target
b.lt target
b.al target
cbz x1, target
cbnz w1, target
cbz x2, target
tbz x3, #40, target
tbnz w4, #3, target
br x5
blr x5
blr x30
ret
ret x5
nop
csel x0, x1, x2, lt
madd x0, x1, x2, x3
""".strip().splitlines()


class Machine:
    """One emulator with code, data and stack mapped; `run` gives the whole state after one instruction."""

    def __init__(self, arch: str) -> None:
        self.arch = arch
        if arch == "x86_64":
            from unicorn import x86_const

            const: Any = x86_const

            self.cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
            self.ids = {name: getattr(const, f"UC_X86_REG_{name.upper()}") for name in X86_REGISTERS}
            self.ids |= {f"xmm{number}": getattr(const, f"UC_X86_REG_XMM{number}") for number in range(4)}
            self.pc = const.UC_X86_REG_RIP
            self.vectors = {f"xmm{number}" for number in range(4)}
        else:
            from unicorn import arm64_const

            const = arm64_const

            self.cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
            self.ids = {name: getattr(const, f"UC_ARM64_REG_{name.upper()}") for name in A64_REGISTERS}
            self.cpu.reg_write(const.UC_ARM64_REG_CPACR_EL1, 3 << 20)
            self.pc = const.UC_ARM64_REG_PC
            self.vectors = {f"q{number}" for number in range(4)}
        for start, size in ((CODE, 0x40_0000), (DATA, AREA), (STACK, AREA), (FAR_SLOT, AREA)):
            self.cpu.mem_map(start, size)
        self.stops: set[int] = set()
        self.cpu.hook_add(unicorn.UC_HOOK_CODE, self._step)
        self.stopped_at = 0

    def _step(self, cpu: Any, address: int, _size: int, _data: object) -> None:
        if not self.inside(address):
            self.stopped_at = address
            cpu.emu_stop()

    def run(self, start: int, size: int, state: dict[str, int], memory: bytes, clear: tuple[int, int]) -> Any:
        """Run from `start` until the pc leaves [start, start + size)."""
        self.cpu.mem_write(DATA, memory)
        self.cpu.mem_write(STACK, memory)
        if clear[1]:
            self.cpu.mem_write(clear[0], bytes(clear[1]))
        for name, value in state.items():
            self.cpu.reg_write(self.ids[name], value)
        self.first = True
        self.stopped_at = 0

        def inside(address: int) -> bool:
            return start <= address < start + size

        self.inside = inside
        self.cpu.emu_start(start, 0xFFFF_FFFF_FFFF_0000, count=400)
        pc = self.stopped_at or self.cpu.reg_read(self.pc)
        registers = {name: self.cpu.reg_read(number) for name, number in self.ids.items()}
        return pc, registers, bytes(self.cpu.mem_read(DATA, AREA)), bytes(self.cpu.mem_read(STACK, AREA))


@pytest.fixture(scope="module")
def machines() -> dict[str, Machine]:
    return {"x86_64": Machine("x86_64"), "aarch64": Machine("aarch64")}


def _random_state(arch: str, rng: random.Random) -> tuple[dict[str, int], bytes]:
    memory = bytearray(rng.randbytes(AREA))
    for offset in range(0, AREA, 8):  # pointers that a jump through memory may take
        memory[offset : offset + 8] = (CODE + 0x3000 + 16 * rng.randrange(256)).to_bytes(8, "little")
    state: dict[str, int] = {}
    names = X86_REGISTERS if arch == "x86_64" else A64_REGISTERS
    for name in names:
        state[name] = rng.choice([0, 1, 5, rng.getrandbits(64)])
    target = CODE + 0x3000 + 16 * rng.randrange(256)
    if arch == "x86_64":
        state |= {"rsp": STACK + 0x8000, "rbp": STACK + 0x8100, "rbx": DATA + 0x100, "rsi": DATA + 0x200}
        state |= {"rdi": DATA + 0x300, "rcx": rng.choice([0, 1, 2, 7]), "rax": target, "r12": target + 16}
        state |= {"rdx": STACK + 0x7000, "eflags": 0x202 | rng.getrandbits(12) & 0x8D5}
        for number in range(4):
            state[f"xmm{number}"] = rng.getrandbits(128)
    else:
        state |= {"sp": STACK + 0x8000, "x1": DATA + 0x100, "x5": target, "x30": target + 32}
        state["nzcv"] = rng.getrandbits(4) << 28
        for number in range(4):
            state[f"q{number}"] = rng.getrandbits(128)
        if rng.random() < 0.5:
            state["x2"] = 0
    return state, bytes(memory)


def _compare(machine: Machine, form: str, slot: int, rng: random.Random, scratch: str | None = None) -> None:
    arch = machine.arch
    at = CODE + 0x1000
    names = {"data": DATA + 0x400, "pointer": DATA + 0x400, "target": CODE + 0x1040}
    near = form.startswith(("adr ", "ldr", "adrp")) and arch == "aarch64"
    if near:
        names["data"] = CODE + 0x2000
    code = assemble(form, arch=arch, base=at, symbols=names).code
    moved = relocate(code, at, slot, arch=arch, scratch=scratch)
    assert len(moved.code) <= SLOT_BYTES[arch]
    assert moved.places[0].start == 0
    machine.cpu.mem_write(CODE, bytes(0x4000))
    machine.cpu.mem_write(at, code)
    machine.cpu.mem_write(slot, moved.code)
    machine.cpu.mem_write(CODE + 0x2000, bytes(range(64)))
    machine.cpu.ctl_flush_tb()
    for _ in range(4):
        state, memory = _random_state(arch, rng)
        memory_at = bytearray(memory)
        memory_at[0x400:0x408] = (CODE + 0x3500).to_bytes(8, "little")
        want = machine.run(at, len(code), state, bytes(memory_at), (0, 0))
        have = machine.run(slot, len(moved.code), state, bytes(memory_at), (0, 0))
        for name in moved.clobbers:
            want[1][name] = have[1][name] = 0
        assert have[0] == want[0], f"{form}: next pc {have[0]:#x}, in place {want[0]:#x}"
        assert have[1] == want[1], form
        assert have[2] == want[2], f"{form}: data differ"
        assert have[3] == want[3], f"{form}: stack differs"


@pytest.mark.parametrize("form", X86_FORMS)
def test_x86_64_like_in_place(form: str, machines: dict[str, Machine]) -> None:
    _compare(machines["x86_64"], form, NEAR_SLOT, random.Random(form))


@pytest.mark.parametrize("form", [form for form in X86_FORMS if "rip" not in form])
def test_x86_64_far_like_in_place(form: str, machines: dict[str, Machine]) -> None:
    _compare(machines["x86_64"], form, FAR_SLOT, random.Random(form))


@pytest.mark.parametrize("slot", [NEAR_SLOT, CODE + 0x30_0000])
@pytest.mark.parametrize("form", A64_FORMS)
def test_aarch64_like_in_place(form: str, slot: int, machines: dict[str, Machine]) -> None:
    _compare(machines["aarch64"], form, slot, random.Random(form), scratch="x17")


def test_x86_64_nothing_below_the_stack_pointer_changes(machines: dict[str, Machine]) -> None:
    """The red zone survives: `_compare` looks at the whole stack, so one form with a marked zone is enough."""
    _compare(machines["x86_64"], "jne target", FAR_SLOT, random.Random(1))


def test_places_of_an_indirect_call() -> None:
    moved = relocate(bytes.fromhex("ff13"), 0x1000, 0x2000, arch="x86_64")
    assert [(place.executed, place.pc, place.stack_adjust_bytes) for place in moved.places] == [
        (False, 0x1000, 0),
        (False, 0x1000, 8),
    ]
    assert moved.place(0).stack_adjust_bytes == 0
    with pytest.raises(AssemblyError):
        moved.place(len(moved.code))


def test_places_cover_the_code_at_instruction_boundaries() -> None:
    for form in X86_FORMS:
        code = assemble(form, arch="x86_64", base=0x1000, symbols={"data": 0x3000, "pointer": 0x3000, "target": 0x1040})
        moved = relocate(code.code, 0x1000, 0x2000, arch="x86_64")
        offset = 0
        for place in moved.places:
            assert place.start == offset
            while offset < place.stop:
                offset += decode_one(moved.code[offset:], 0x2000 + offset, arch="x86_64").size_bytes
            assert offset == place.stop


@pytest.mark.parametrize(
    ("code", "to", "reason"),
    [
        ("ffd4", 0x2000, "stack pointer"),
        ("ff18", 0x2000, "width"),
        ("c7f800000000", 0x2000, "return address"),
        ("488b0500000000", 0x2000_0000_0000, "2 GiB"),
        ("ff5424f8", 0x2000, "stack slot"),
        ("6690cc", 0x2000, "expected one instruction"),
        ("67488b0500000000", 0x2000, "eip"),
    ],
)
def test_x86_64_refusals(code: str, to: int, reason: str) -> None:
    with pytest.raises(AssemblyError, match=reason):
        relocate(bytes.fromhex(code), 0x1000, to, arch="x86_64")


def test_aarch64_refusals() -> None:
    with pytest.raises(AssemblyError, match="128 MiB"):
        relocate(bytes.fromhex("1f2003d5"), 0x1000, 0x1000_0000, arch="aarch64")
    with pytest.raises(AssemblyError, match="scratch"):
        relocate(bytes.fromhex("c0033fd6"), 0x1000, 0x2000, arch="aarch64")
