/* The light switch to the host and back, for code whose convention keeps almost nothing across a call (path `host`).
 *
 * Source of the convention: System V AMD64 ABI 1.0, 3.2; the x86-64 psABI's initial-exec TLS model. What compiled code
 * keeps across a call is trapline's own: rsp, rbp, r14 (memory base), r15 (instance block).
 */
#if defined(__x86_64__)
#include "host_frame.h"

    .section tl_stubs, "ax", @progbits

/* In:        called by a thunk on a fiber: edi = kind of request, rsi = its words, on the fiber's stack; r15 = a block.
 *            What holds at a call of a C function holds here: DF clear, x87 stack empty, upper halves of the vector
 *            registers clear. Needs no stack but the return address.
 * Out:       rsp as after the return, rip = return address, rbp, r14, r15, rdi, rsi, r11 and MXCSR in the record; flags
 *            there as a C function expects them, no component of the XSAVE area present. Nothing else is saved: the
 *            record holds what an earlier stop left.
 *            Back in the host with eax = TL_STOP_HOST.
 * Frame:     none.
 *
 * 1. Find the record through the thread.
 * 2. What the convention keeps, and the request, into the record.
 * 3. Take the host stack and leave.
 */
STUB tl_stub_host
tl_stub_host:
    endbr64
    mov     tl_self@gottpoff(%rip), %rax
    mov     %fs:(%rax), %rax
    pop     %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    mov     %rcx, TL_RIP(%rax)
    mov     %rsp, TL_RSP(%rax)
    mov     %rbp, TL_RBP(%rax)
    mov     %r14, TL_R14(%rax)
    mov     %r15, TL_R15(%rax)
    mov     %r11, TL_R11(%rax)
    mov     %rsi, TL_RSI(%rax)
    mov     %rdi, TL_RDI(%rax)
    stmxcsr TL_XSAVE_MXCSR(%rax)
    mov     %rax, %rdi
    movq    $0x202, TL_RFLAGS(%rdi)     /* IF and the bit that is always set */
    movq    $0, TL_XSAVE_BV(%rdi)       /* or HOST_FRAME_LEAVE would clear what an earlier stop found in use */
    movl    $TL_STOP_HOST, TL_STOP(%rdi)
    mov     TL_HOST_SP(%rdi), %rsp
    CFI_IN_HOST_FRAME
    HOST_FRAME_LEAVE
STUB_END tl_stub_host

/* int tl_stub_resume_host(struct tl_fiber *fiber): resumes a fiber that stopped in tl_stub_host.
 *
 * In:        rdi = record.
 * Out:       eax = TL_STOP_*. Native code goes on behind its call with rsp, rbp, r14, r15 and MXCSR of the record;
 *            every other register is undefined.
 * Clobbered: what a C call may clobber.
 * Frame:     the host frame (host_frame.h).
 *
 * 1. Keep the host frame; its address goes into the record.
 * 2. Restartable, [tl_resume_host_restart, tl_resume_host_end): as in tl_stub_enter. The record is still the light
 *    one when the stub finds a pending bit, so the next resume is by this stub again.
 */
STUB tl_stub_resume_host
tl_stub_resume_host:
    endbr64
    HOST_FRAME_PUSH
    .globl  tl_resume_host_restart
    .hidden tl_resume_host_restart
tl_resume_host_restart:
    cmpl    $0, TL_PENDING(%rdi)
    jne     9f
    ldmxcsr TL_XSAVE_MXCSR(%rdi)
    mov     TL_RBP(%rdi), %rbp
    mov     TL_R14(%rdi), %r14
    mov     TL_R15(%rdi), %r15
    mov     TL_RSP(%rdi), %rsp
    CFA_IN_RECORD 0x75                  /* rdi */
    jmp     *TL_RIP(%rdi)
    .cfi_restore_state
    .globl  tl_resume_host_end
    .hidden tl_resume_host_end
tl_resume_host_end:
9:  mov     TL_HOST_SP(%rdi), %rsp
    movl    $TL_STOP_INTERRUPT, TL_STOP(%rdi)
    HOST_FRAME_LEAVE
STUB_END tl_stub_resume_host

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
