/* Starting a fiber, and its end when the entry function returns.
 *
 * Source of the convention: System V AMD64 ABI 1.0, 3.2 (registers, argument passing).
 */
#if defined(__x86_64__)
#include "host_frame.h"

    .section tl_stubs, "ax", @progbits

/* int tl_stub_enter(struct tl_fiber *fiber): runs a fiber that has never run.
 *
 * In:        rdi = record; its rip is the entry, its rsp the initial stack pointer, whose top word is the address
 *            of tl_stub_exit; rdi, rsi, rdx, rcx, r8, r9, rax and xmm0-7 of the record are the arguments; rbp is 0
 *            and ends the chain of frame pointers.
 * Out:       eax = TL_STOP_*.
 * Clobbered: what a C call may clobber.
 * Frame:     the host frame (host_frame.h).
 *
 * 1. Keep the host frame; its address goes into the record.
 * 2. Restartable, [tl_enter_restart, tl_enter_end): a signal that finds the pc in here sets a pending bit and moves
 *    the pc back to the first instruction, with rdi = record. Everything is loaded from the record, so running it
 *    again is harmless, and no pending bit set before the jump is missed.
 * 3. Load the arguments and MXCSR (a host that flushes denormals to zero must not change the code's results), take
 *    the fiber's stack, jump. Registers that carry no argument keep the host's values, and so does the x87 control
 *    word.
 */
STUB tl_stub_enter
tl_stub_enter:
    endbr64
    HOST_FRAME_PUSH
    .globl  tl_enter_restart
    .hidden tl_enter_restart
tl_enter_restart:
    cmpl    $0, TL_PENDING(%rdi)
    jne     9f
    mov     %rdi, %r11
    movups  TL_XSAVE_XMM(%r11), %xmm0
    movups  TL_XSAVE_XMM+16(%r11), %xmm1
    movups  TL_XSAVE_XMM+32(%r11), %xmm2
    movups  TL_XSAVE_XMM+48(%r11), %xmm3
    movups  TL_XSAVE_XMM+64(%r11), %xmm4
    movups  TL_XSAVE_XMM+80(%r11), %xmm5
    movups  TL_XSAVE_XMM+96(%r11), %xmm6
    movups  TL_XSAVE_XMM+112(%r11), %xmm7
    ldmxcsr TL_XSAVE_MXCSR(%r11)
    mov     TL_RBP(%r11), %rbp
    mov     TL_RAX(%r11), %rax
    mov     TL_RSI(%r11), %rsi
    mov     TL_RDX(%r11), %rdx
    mov     TL_RCX(%r11), %rcx
    mov     TL_R8(%r11), %r8
    mov     TL_R9(%r11), %r9
    mov     TL_RDI(%r11), %rdi
    mov     TL_RSP(%r11), %rsp
    CFA_IN_RECORD 0x7b                  /* r11 */
    jmp     *TL_RIP(%r11)
    .cfi_restore_state
    .globl  tl_enter_end
    .hidden tl_enter_end
tl_enter_end:
9:  mov     TL_HOST_SP(%rdi), %rsp
    movl    $TL_STOP_INTERRUPT, TL_STOP(%rdi)
    HOST_FRAME_LEAVE
STUB_END tl_stub_enter

/* The address that the entry function returns to.
 *
 * In:        rsp = initial stack pointer + 8, results in rax, rdx, xmm0, xmm1.
 * Out:       results in the record, eax = TL_STOP_FINISHED, back in the host.
 * Frame:     none of the fiber's stack is used: the record is found through the thread, not through rsp, which
 *            the code may have left anywhere.
 *
 * CFI: the caller of a fiber's outermost function is whoever resumed it. The word above the return address
 * holds the record; the host stack pointer in there gives the canonical frame address. A debugger looks a return
 * address up at address - 1, hence the nop in front.
 */
STUB tl_stub_exit
    .cfi_escape 0x0f, 9, 0x77, 0, 0x06, 0x23, 0xa0, 0x01, 0x06, 0x23, TL_HOST_FRAME_BYTES + 8
    .cfi_offset %rbp, -16
    .cfi_offset %rbx, -24
    .cfi_offset %r12, -32
    .cfi_offset %r13, -40
    .cfi_offset %r14, -48
    .cfi_offset %r15, -56
    nop
tl_stub_exit:
    endbr64
    mov     tl_self@gottpoff(%rip), %rdi
    mov     %fs:(%rdi), %rdi
    mov     %rax, TL_RAX(%rdi)
    mov     %rdx, TL_RDX(%rdi)
    movups  %xmm0, TL_XSAVE_XMM(%rdi)
    movups  %xmm1, TL_XSAVE_XMM+16(%rdi)
    movl    $TL_STOP_FINISHED, TL_STOP(%rdi)
    fnstsw  %ax                         /* a pending exception (bit 7) or a stack that is not empty (TOP, bits 11-13) */
    testl   $0x3880, %eax               /* breaks the convention, and the next x87 instruction of the host with it */
    jz      1f
    fninit
1:  mov     TL_HOST_SP(%rdi), %rsp
    CFI_IN_HOST_FRAME
    pushfq
    .cfi_adjust_cfa_offset 8
    testl   $FLAGS_NOT_OF_HOST, (%rsp)
    lea     8(%rsp), %rsp
    .cfi_adjust_cfa_offset -8
    HOST_FLAGS_UNLESS_ZERO
    HOST_FRAME_LEAVE
STUB_END tl_stub_exit

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
