"""The native code that the questions run, assembled once."""

from __future__ import annotations

import platform

import trapline

X86_64 = """
breakpoints:
    int3
    jmp breakpoints
halts:
    hlt
    jmp halts
illegal:
    ud2
    jmp illegal
divisions:
    mov eax, 1
    cdq
    idiv edi
    jmp divisions
loads:
    mov rax, qword ptr [rdi]
    jmp loads
checks:
    movabs r11, check
again:
    call r11
    jmp again
nothing:
    ret
add:
    lea rax, [rdi + rsi]
    ret
add_f64:
    addsd xmm0, xmm1
    ret
spin:
    inc rax
    jmp spin
count:
    dec rdi
    jnz count
    ret
trap_once:
    int3
    ret
"""


def image() -> trapline.CodeImage:
    """Every routine under its label. Raises SystemExit on a machine without routines."""
    if platform.machine() != "x86_64":
        raise SystemExit("the benchmarks' routines are written for x86-64")
    text = trapline.assemble(X86_64, symbols={"check": trapline.CHECK_ADDRESS})
    return trapline.CodeImage(text, name="bench")
