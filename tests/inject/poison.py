"""Native code and Python code that leave nothing of a suspended fiber's registers in the processor."""

import math

from trapline import CodeImage, assemble
from trapline.native import HOST


def _source() -> str:
    lines = ["poison:", "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15"]
    lines += ["sub rsp, 8", "stmxcsr dword ptr [rsp]"]
    general = "rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15".split()
    lines += [f"mov {name}, -{number + 2}" for number, name in enumerate(general)]
    lines += ["fninit", *["fldpi"] * 8]
    lines += ["push 0x7f80", "ldmxcsr dword ptr [rsp]", "add rsp, 8"]
    lines += [f"mov qword ptr [rsp - {offset}], rax" for offset in range(8, 72, 8)]
    lines += [f"pcmpeqd xmm{number}, xmm{number}" for number in range(16)]
    if "zmm0" in HOST.registers:
        lines += ["lea rcx, [rsp - 64]", *(f"vmovups zmm{number}, zmmword ptr [rcx]" for number in range(32))]
        lines += [f".byte 0xc4, 0xe1, 0xfb, 0x92, {0xC0 | number << 3:#x}" for number in range(8)]  # kmovq k, rax
    elif "ymm0" in HOST.registers:
        lines += ["vpcmpeqd ymm0, ymm0, ymm0", *(f"vmovaps ymm{number}, ymm0" for number in range(1, 16))]
    lines += ["fninit", "ldmxcsr dword ptr [rsp]", "add rsp, 8"]
    lines += ["pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx", "stc", "mov eax, 1", "ret"]
    return "\n".join(lines)


_CODE = CodeImage(assemble(_source()), name="poison")
_POISON = _CODE["poison"]


def poison() -> None:
    """Overwrite every register that native code has, then let C and Python compute with what they find."""
    assert _POISON() == 1
    assert math.fsum([0.1] * 10) == 1.0
    assert math.sqrt(2.0) ** 2 != 2.0
    assert int.from_bytes(bytes(range(64)), "big").bit_length() == 497
    assert b"x" * 97 + b"y" > b"x" * 97
