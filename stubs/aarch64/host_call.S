/* The light switch to the host and back, for code whose convention keeps almost nothing across a call (path `host`).
 *
 * Source of the convention: AAPCS64 (ARM IHI 0055), 6.1: what a call keeps.
 */
#if defined(__aarch64__)
#include "host_frame.h"

    .section tl_stubs, "ax", %progbits

/* In:        called by a thunk on a fiber, by bl or blr: w0 = kind of request, x1 = its words, on the fiber's stack;
 *            x28 = a block. Needs no stack.
 * Out:       x0, x1, x19-x29, sp, d8-d15, FPCR and FPSR in the record; x30 and pc = return address; PSTATE 0. Nothing
 *            else is saved: the record holds what an earlier stop left. Back in the host with w0 = TL_STOP_HOST.
 * Frame:     none.
 *
 * 1. Find the record through the thread.
 * 2. What the convention keeps, and the request, into the record.
 * 3. Take the host stack and leave.
 */
STUB tl_stub_host
tl_stub_host:
    LANDING
    FIND_RECORD x16, x17
    stp     x0, x1, [x16, #TL_X]
    stp     x19, x20, [x16, #TL_X + 19 * 8]
    stp     x21, x22, [x16, #TL_X + 21 * 8]
    stp     x23, x24, [x16, #TL_X + 23 * 8]
    stp     x25, x26, [x16, #TL_X + 25 * 8]
    stp     x27, x28, [x16, #TL_X + 27 * 8]
    str     x29, [x16, #TL_X + 29 * 8]
    mov     x17, sp
    stp     x30, x17, [x16, #TL_X + 30 * 8] /* TL_SP follows x30 */
    stp     x30, xzr, [x16, #TL_PC]         /* TL_PSTATE follows TL_PC */
    mov     x0, x16
    .irp n, 8, 9, 10, 11, 12, 13, 14, 15
    str     d\n, [x0, #TL_Q + 16 * \n]
    .endr
    mrs     x9, fpcr
    str     w9, [x0, #TL_FPCR]
    mrs     x9, fpsr
    str     w9, [x0, #TL_FPSR]
    mov     w9, #TL_STOP_HOST
    str     w9, [x0, #TL_STOP]
    TAKE_HOST_STACK
    HOST_FRAME_LEAVE
STUB_END tl_stub_host

/* int tl_stub_resume_host(struct tl_fiber *fiber): resumes a fiber that stopped in tl_stub_host.
 *
 * In:        x0 = record.
 * Out:       w0 = TL_STOP_*. Native code goes on behind its call with x19-x30, sp, d8-d15, FPCR and FPSR of the record;
 *            every other register is undefined.
 * Clobbered: what a C call may clobber.
 * Frame:     the host frame (host_frame.h).
 *
 * 1. Keep the host frame; its address goes into the record.
 * 2. Restartable, [tl_resume_host_restart, tl_resume_host_end): as in tl_stub_enter. The record is still the light
 *    one when the stub finds a pending bit, so the next resume is by this stub again. The branch is through x16, so a
 *    host may set pc apart from x30.
 */
STUB tl_stub_resume_host
tl_stub_resume_host:
    LANDING
    HOST_FRAME_PUSH
    .cfi_remember_state
    CFA_IN_RECORD
    .globl  tl_resume_host_restart
    .hidden tl_resume_host_restart
tl_resume_host_restart:
    ldr     w9, [x0, #TL_PENDING]
    cbnz    w9, 9f
    LOAD_VECTOR_CONTROL
    .irp n, 8, 9, 10, 11, 12, 13, 14, 15
    ldr     d\n, [x0, #TL_Q + 16 * \n]
    .endr
    ldp     x19, x20, [x0, #TL_X + 19 * 8]
    ldp     x21, x22, [x0, #TL_X + 21 * 8]
    ldp     x23, x24, [x0, #TL_X + 23 * 8]
    ldp     x25, x26, [x0, #TL_X + 25 * 8]
    ldp     x27, x28, [x0, #TL_X + 27 * 8]
    ldp     x29, x30, [x0, #TL_X + 29 * 8]
    ldr     x16, [x0, #TL_PC]
    ldr     x9, [x0, #TL_SP]
    mov     sp, x9
    /* As after the return: the caller is native code. */
    .cfi_restore_state
    .cfi_remember_state
    .cfi_def_cfa sp, 0
    .irp n, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 72, 73, 74, 75, 76, 77, 78, 79
    .cfi_same_value \n
    .endr
    ret     x16
    .globl  tl_resume_host_end
    .hidden tl_resume_host_end
tl_resume_host_end:
    .cfi_restore_state
    CFA_IN_RECORD
9:  TAKE_HOST_STACK
    mov     w9, #TL_STOP_INTERRUPT
    str     w9, [x0, #TL_STOP]
    HOST_FRAME_LEAVE
STUB_END tl_stub_resume_host

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
