/* The explicit switch from native code to the host, without a signal (path `check`).
 *
 * Source of the convention: Intel SDM vol. 2 (XSAVE64); the x86-64 psABI's initial-exec TLS model.
 */
#if defined(__x86_64__)
#include "host_frame.h"

    .section tl_stubs, "ax", @progbits

/* In:        called by native code on a fiber. Needs 24 bytes of stack, the return address included.
 * Out:       every register into the record, as it was before the call but for rip, which is the return address;
 *            back in the host with eax = TL_STOP_CHECK. After a resume native code goes on behind its call with
 *            every register, flags included, unchanged or as the host wrote it.
 * Frame:     0(%rsp) rflags, 8(%rsp) rax, 16(%rsp) return address.
 *
 * 1. Find the record through the thread; moves leave the flags alone.
 * 2. Registers, flags, return address, extended state into the record.
 * 3. Take the host stack and leave.
 */
STUB tl_stub_check
tl_stub_check:
    endbr64
    push    %rax
    .cfi_adjust_cfa_offset 8
    pushfq
    .cfi_adjust_cfa_offset 8
    mov     tl_self@gottpoff(%rip), %rax
    mov     %fs:(%rax), %rax
    mov     %rdi, TL_RDI(%rax)
    mov     %rcx, TL_RCX(%rax)
    mov     %rdx, TL_RDX(%rax)
    mov     %rax, %rdi
    pop     %rcx
    .cfi_adjust_cfa_offset -8
    mov     %rcx, TL_RFLAGS(%rdi)
    pop     %rcx
    .cfi_adjust_cfa_offset -8
    mov     %rcx, TL_RAX(%rdi)
    pop     %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    mov     %rcx, TL_RIP(%rdi)
    mov     %rsp, TL_RSP(%rdi)
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
    movl    $TL_STOP_CHECK, TL_STOP(%rdi)
    mov     TL_HOST_SP(%rdi), %rsp
    CFI_IN_HOST_FRAME
    testl   $FLAGS_NOT_OF_HOST, TL_RFLAGS(%rdi)
    HOST_FLAGS_UNLESS_ZERO
    HOST_FRAME_LEAVE
STUB_END tl_stub_check

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
