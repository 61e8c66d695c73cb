/* The register-saving stub that a signal handler sends native code into (path `inject`).
 *
 * Source of the convention: Intel SDM vol. 2 (XSAVE64); native/context_x86_64.c, tl_context_inject.
 */
#if defined(__x86_64__)
#include "host_frame.h"

    .section tl_stubs, "ax", @progbits

/* In:        by sigreturn: rdi = record, rsp = the record's host stack pointer, rflags = 0x202 (the handler has put
 *            the fiber's rip, rflags, rsp and rdi into the record); every other register is the fiber's.
 * Out:       the rest of the record, and back in the host with eax = TL_STOP_*.
 * Frame:     rsp already points at the host frame, so the fiber's stack is not touched (it may have no room).
 *
 * 1. General registers into the record.
 * 2. Extended state into the record, standard format.
 * 3. Leave to the host.
 */
STUB tl_stub_inject
    CFI_IN_HOST_FRAME
tl_stub_inject:
    endbr64
    mov     %rax, TL_RAX(%rdi)
    mov     %rcx, TL_RCX(%rdi)
    mov     %rdx, TL_RDX(%rdi)
    mov     %rbx, TL_RBX(%rdi)
    mov     %rbp, TL_RBP(%rdi)
    mov     %rsi, TL_RSI(%rdi)
    mov     %r8, TL_R8(%rdi)
    mov     %r9, TL_R9(%rdi)
    mov     %r10, TL_R10(%rdi)
    mov     %r11, TL_R11(%rdi)
    mov     %r12, TL_R12(%rdi)
    mov     %r13, TL_R13(%rdi)
    mov     %r14, TL_R14(%rdi)
    mov     %r15, TL_R15(%rdi)
    mov     TL_XSAVE_MASK(%rdi), %eax
    mov     TL_XSAVE_MASK+4(%rdi), %edx
    xsave64 TL_XSAVE(%rdi)
    HOST_FRAME_LEAVE
STUB_END tl_stub_inject

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
