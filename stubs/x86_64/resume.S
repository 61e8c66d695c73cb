/* Resuming a suspended fiber with every register as its record says.
 *
 * Source of the convention: Intel SDM vol. 2 (IRETQ, XRSTOR64); System V AMD64 ABI 1.0, 3.2.
 */
#if defined(__x86_64__)
#include "host_frame.h"

    .section tl_stubs, "ax", @progbits

/* int tl_stub_resume(struct tl_fiber *fiber)
 *
 * In:        rdi = record.
 * Out:       eax = TL_STOP_*.
 * Clobbered: what a C call may clobber.
 * Frame:     the host frame (host_frame.h).
 *
 * 1. Keep the host frame; its address goes into the record.
 * 2. Load the extended state.
 * 3. Restartable, [tl_resume_restart, tl_resume_end): as in tl_stub_enter. A signal frame pushed in here without an
 *    alternate stack lands below the record, in its slack.
 * 4. iretq restores rip, rflags (RF and TF included) and rsp at once: it needs neither a register nor the fiber's
 *    stack. cs and ss were put into the record when the fiber was made.
 */
STUB tl_stub_resume
tl_stub_resume:
    endbr64
    HOST_FRAME_PUSH
    mov     TL_XSAVE_MASK(%rdi), %eax
    mov     TL_XSAVE_MASK+4(%rdi), %edx
    xrstor64 TL_XSAVE(%rdi)
    .globl  tl_resume_restart
    .hidden tl_resume_restart
tl_resume_restart:
    cmpl    $0, TL_PENDING(%rdi)
    jne     9f
    mov     %rdi, %rsp
    CFA_IN_RECORD 0x77                  /* rsp */
    mov     TL_RAX(%rsp), %rax
    mov     TL_RCX(%rsp), %rcx
    mov     TL_RDX(%rsp), %rdx
    mov     TL_RBX(%rsp), %rbx
    mov     TL_RBP(%rsp), %rbp
    mov     TL_RSI(%rsp), %rsi
    mov     TL_R8(%rsp), %r8
    mov     TL_R9(%rsp), %r9
    mov     TL_R10(%rsp), %r10
    mov     TL_R11(%rsp), %r11
    mov     TL_R12(%rsp), %r12
    mov     TL_R13(%rsp), %r13
    mov     TL_R14(%rsp), %r14
    mov     TL_R15(%rsp), %r15
    mov     TL_RDI(%rsp), %rdi
    iretq
    .cfi_restore_state
    .globl  tl_resume_end
    .hidden tl_resume_end
tl_resume_end:
9:  mov     TL_HOST_SP(%rdi), %rsp
    movl    $TL_STOP_INTERRUPT, TL_STOP(%rdi)
    HOST_FRAME_LEAVE
STUB_END tl_stub_resume

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
