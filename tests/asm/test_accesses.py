"""The accesses that `decode_one` reports, held against those an emulator sees, over every memory form."""

from __future__ import annotations

from typing import Any

import pytest

from trapline.arch.aarch64.assembler import Assembler as A64Assembler
from trapline.arch.x86_64.assembler import Assembler as X86Assembler
from trapline.asm.disassemble import decode_one
from trapline.asm.forms_aarch64 import aarch64_forms
from trapline.asm.forms_x86_64 import x86_64_forms
from trapline.asm.stencil_x86_64 import is_memory

unicorn = pytest.importorskip("unicorn", reason="unicorn is the oracle of these tests")

CODE, DATA, STACK = 0x10_0000, 0x20_0000, 0x30_0000
Access = tuple[int, int, bool]  # address, size, writes


def observe(cpu: Any, code: bytes, start: int) -> set[Access] | None:
    """The accesses of one instruction, or None where the emulator does not know it."""
    seen: set[Access] = set()

    def on_memory(_cpu: Any, kind: int, address: int, size: int, _value: int, _data: object) -> None:
        seen.add((address, size, kind == unicorn.UC_MEM_WRITE))

    hook = cpu.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, on_memory)
    try:
        cpu.mem_write(start, code)
        cpu.ctl_flush_tb()
        cpu.emu_start(start, start + len(code), count=1)
    except unicorn.UcError:
        return None
    finally:
        cpu.hook_del(hook)
    return seen


def spread(accesses: set[Access]) -> tuple[set[int], set[int]]:
    """The bytes read and the bytes written: an emulator may do one access in parts."""
    read: set[int] = set()
    written: set[int] = set()
    for address, size, writes in accesses:
        (written if writes else read).update(range(address, address + size))
    return read, written


def test_x86_64_accesses_like_an_emulator() -> None:
    from unicorn import x86_const as const

    compared = 0
    wrong: list[str] = []
    for form in x86_64_forms():
        if not any(map(is_memory, form.kinds)) or form.text[0] == "v" or form.text.startswith(("jmp", "call")):
            continue
        assembler = X86Assembler()
        arguments: list[int] = []
        for kind in form.kinds:
            arguments += [3, 0x40] if is_memory(kind) else [1]
        getattr(assembler, form.name)(*arguments)
        code = assembler.finish()
        cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        for start in (CODE, DATA, STACK):
            cpu.mem_map(start, 0x2000)
        cpu.mem_write(DATA, b"\x01\x00\x00\x00\x00\x00\x00\x00" * 64)
        registers = {"rbx": DATA, "rsp": STACK + 0x1000, "rax": 0, "rdx": 0, "rcx": 1}
        for name, value in registers.items():
            cpu.reg_write(getattr(const, f"UC_X86_REG_{name.upper()}"), value)
        if form.name == "ldmxcsr_m":
            cpu.mem_write(DATA + 0x40, (0x1F80).to_bytes(4, "little"))
        seen = observe(cpu, code, CODE)
        if seen is None:
            continue
        decoded = decode_one(code, CODE, arch="x86_64")
        claimed: set[Access] = set()
        for operand in decoded.memory:
            address = decoded.memory_address(operand, registers)
            if operand.reads:
                claimed.add((address, operand.size_bytes, False))
            if operand.writes:
                claimed.add((address, operand.size_bytes, True))
        read, written = spread(seen)
        if form.name.startswith(("roundss", "roundsd", "cvtdq2pd", "cvtps2pd")):
            read = set(sorted(read)[: len(spread(claimed)[0])])  # the emulator reads all 16 bytes
        if (read, written) != spread(claimed):
            wrong.append(f"{decoded.text}: seen {sorted(seen)}, claimed {sorted(claimed)}")
        compared += 1
    assert not wrong, "\n".join(wrong)
    assert compared > 500


def test_x86_64_vex_accesses_like_the_form_table() -> None:
    for form in x86_64_forms():
        if form.text[0] != "v" or not any(map(is_memory, form.kinds)):
            continue
        assembler = X86Assembler()
        arguments: list[int] = []
        for kind in form.kinds:
            arguments += [3, 0x40] if is_memory(kind) else [1]
        getattr(assembler, form.name)(*arguments)
        (operand,) = decode_one(assembler.finish(), 0, arch="x86_64").memory
        assert operand.writes is is_memory(form.kinds[0]), form.name
        assert operand.reads is not operand.writes, form.name
        kind = next(kind for kind in form.kinds if is_memory(kind))
        assert operand.size_bytes == int(kind[1:]) // 8, form.name


def test_aarch64_accesses_like_an_emulator() -> None:
    from unicorn import arm64_const as const

    compared = 0
    wrong: list[str] = []
    for form in aarch64_forms():
        if "[" not in form.text or "xs" not in form.kinds:
            continue
        assembler = A64Assembler()
        arguments = []
        for position, kind in enumerate(form.kinds):
            if kind == "xs":
                arguments.append(10)
            elif kind[0] in "us" and kind[1:2].isdigit():
                arguments.append(int(kind.partition("*")[2] or 1) * 2)
            else:
                arguments.append(position + 1)
        getattr(assembler, form.name)(*arguments)
        code = assembler.finish()
        cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        cpu.reg_write(const.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        for start in (CODE, DATA):
            cpu.mem_map(start, 0x2000)
        registers = {f"x{number}": 16 for number in range(8)} | {"x10": DATA + 0x800}
        for name, value in registers.items():
            cpu.reg_write(getattr(const, f"UC_ARM64_REG_{name.upper()}"), value)
        seen = observe(cpu, code, CODE)
        if seen is None or form.name.startswith(("stxr", "stlxr")):  # those store only with the monitor held
            continue
        decoded = decode_one(code, CODE, arch="aarch64")
        claimed: set[Access] = set()
        for operand in decoded.memory:
            address = decoded.memory_address(operand, registers)
            if operand.reads:
                claimed.add((address, operand.size_bytes, False))
            if operand.writes:
                claimed.add((address, operand.size_bytes, True))
            after = cpu.reg_read(const.UC_ARM64_REG_X10)
            if after != registers["x10"] + operand.writeback:
                wrong.append(f"{decoded.text}: base moved by {after - registers['x10']}, claimed {operand.writeback}")
        if spread(seen) != spread(claimed):
            wrong.append(f"{decoded.text}: seen {sorted(seen)}, claimed {sorted(claimed)}")
        compared += 1
    assert not wrong, "\n".join(wrong)
    assert compared > 150
