/* Resuming a suspended fiber with every register as its record says.
 *
 * Source of the convention: AAPCS64 (ARM IHI 0055), 6.1; Linux arch/arm64/kernel/signal.c, rt_sigreturn.
 */
#if defined(__aarch64__)
#include "host_frame.h"

/* Linux asm-generic/unistd.h, uapi asm/sigcontext.h (struct fpsimd_context). */
#define SYS_RT_SIGPROCMASK 135
#define SYS_RT_SIGRETURN 139
#define FPSIMD_MAGIC 0x46508001
#define FPSIMD_BYTES 0x210
#define SS_INVALID 0x1000

    .section tl_stubs, "ax", %progbits

/* int tl_stub_resume(struct tl_fiber *fiber)
 *
 * In:        x0 = record.
 * Out:       w0 = TL_STOP_*.
 * Clobbered: what a C call may clobber.
 * Frame:     the host frame (host_frame.h), and below it, for step 3, a signal frame.
 *
 * User space cannot load pc and all 31 general registers at once: a branch takes its target from one of them. So
 * there are two ways, and the record alone says which:
 *
 *   A. pc = x30 and PSTATE is only NZCV, as after tl_stub_check: `ret` finds its target in the register that is to
 *      hold it anyway.
 *   B. Anything else: the system call rt_sigreturn loads all registers at once from a signal frame. It needs no
 *      signal and no handler, and a debugger sees nothing of it.
 *
 * 1. Keep the host frame; its address goes into the record.
 * 2. A: load q0-q31, FPCR, FPSR. Go to 4.
 * 3. B: make room for a signal frame on the host stack, and fill it:
 *    a. the signal mask, which rt_sigreturn sets, is the thread's own of now;
 *    b. the alternate stack gets flags that no kernel takes: rt_sigreturn ignores the refusal and leaves it as it is
 *       (Linux kernel/signal.c, restore_altstack);
 *    c. the general registers, with only the bits of PSTATE that are user space's (others would be refused);
 *    d. one record for FPCR, FPSR and q0-q31, and the head that ends the list. Without a record of its own, SVE
 *       state beyond 128 bits becomes zero.
 * 4. Restartable, [tl_resume_restart, tl_resume_end): as in tl_stub_enter. A signal either finds the pc in here, and
 *    pending is looked at again, or finds it at the resumed pc: `ret` and `svc` are each one step. A handler moves
 *    neither sp nor the signal frame, which stays complete below the host frame.
 * 5. A: flags, stack, registers, and x0 from the record that it points at. Nothing of the fiber's stack is used.
 *    B: rt_sigreturn.
 *
 * Not done: resuming by a trap whose handler fills in its own context: twice the price, and a signal that comes
 * between the handler's look at `pending` and its return goes unseen. A piece of code per resume that loads x16, x17
 * and branches: reaches only 128 MiB, and needs the instruction cache flushed each time.
 */
STUB tl_stub_resume
tl_stub_resume:
    LANDING
    HOST_FRAME_PUSH
    .cfi_remember_state
    ldr     x11, [x0, #TL_X + 30 * 8]
    ldp     x10, x9, [x0, #TL_PC]          /* TL_PSTATE follows TL_PC */
    cmp     x10, x11
    b.ne    3f
    tst     x9, #~TL_PSTATE_NZCV
    b.ne    3f
    LOAD_VECTORS
    b       tl_resume_restart

3:  sub     sp, sp, #(TL_FRAME_BYTES & ~0xfff)
    .cfi_adjust_cfa_offset (TL_FRAME_BYTES & ~0xfff)
    sub     sp, sp, #(TL_FRAME_BYTES & 0xfff)
    .cfi_adjust_cfa_offset (TL_FRAME_BYTES & 0xfff)
    mov     x9, x0
    mov     x0, #0
    mov     x1, #0
    add     x2, sp, #TL_FRAME_SIGMASK
    mov     x3, #8
    mov     x8, #SYS_RT_SIGPROCMASK
    svc     #0
    mov     x0, x9
    mov     w9, #SS_INVALID
    str     w9, [sp, #TL_FRAME_STACK_FLAGS]
    add     x10, sp, #TL_FRAME_X        /* x0 up to PSTATE: 34 words in one order here and there */
    .irp n, 0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256
    ldp     x11, x12, [x0, #TL_X + \n]
    stp     x11, x12, [x10, #\n]
    .endr
    mov     w9, #(TL_PSTATE_USER & 0xffff)
    movk    w9, #(TL_PSTATE_USER >> 16), lsl #16
    and     x12, x12, x9
    str     x12, [sp, #TL_FRAME_PSTATE]
    mov     w9, #(FPSIMD_MAGIC & 0xffff)
    movk    w9, #(FPSIMD_MAGIC >> 16), lsl #16
    mov     w10, #FPSIMD_BYTES
    add     x13, sp, #TL_FRAME_FPSIMD
    stp     w9, w10, [x13]
    ldr     w9, [x0, #TL_FPSR]
    ldr     w10, [x0, #TL_FPCR]
    stp     w9, w10, [x13, #(TL_FRAME_FPSR - TL_FRAME_FPSIMD)]
    .irp n, 0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 480
    ldp     q0, q1, [x0, #TL_Q + \n]
    stp     q0, q1, [x13, #(TL_FRAME_Q - TL_FRAME_FPSIMD) + \n]
    .endr
    str     xzr, [x13, #(TL_FRAME_END - TL_FRAME_FPSIMD)]

    .cfi_restore_state
    .cfi_remember_state
    CFA_IN_RECORD
    .globl  tl_resume_restart
    .hidden tl_resume_restart
tl_resume_restart:
    ldr     w9, [x0, #TL_PENDING]
    cbnz    w9, 9f
    ldp     x30, x17, [x0, #TL_X + 30 * 8] /* TL_SP follows x30 */
    ldp     x16, x9, [x0, #TL_PC]          /* TL_PSTATE follows TL_PC */
    cmp     x16, x30
    b.ne    8f
    tst     x9, #~TL_PSTATE_NZCV
    b.ne    8f
    msr     nzcv, x9
    mov     sp, x17
    ldp     x2, x3, [x0, #TL_X + 2 * 8]
    ldp     x4, x5, [x0, #TL_X + 4 * 8]
    ldp     x6, x7, [x0, #TL_X + 6 * 8]
    ldp     x8, x9, [x0, #TL_X + 8 * 8]
    ldp     x10, x11, [x0, #TL_X + 10 * 8]
    ldp     x12, x13, [x0, #TL_X + 12 * 8]
    ldp     x14, x15, [x0, #TL_X + 14 * 8]
    ldp     x16, x17, [x0, #TL_X + 16 * 8]
    ldp     x18, x19, [x0, #TL_X + 18 * 8]
    ldp     x20, x21, [x0, #TL_X + 20 * 8]
    ldp     x22, x23, [x0, #TL_X + 22 * 8]
    ldp     x24, x25, [x0, #TL_X + 24 * 8]
    ldp     x26, x27, [x0, #TL_X + 26 * 8]
    ldp     x28, x29, [x0, #TL_X + 28 * 8]
    ldp     x0, x1, [x0, #TL_X]
    /* As after the return: the caller is native code. */
    .cfi_restore_state
    .cfi_remember_state
    .cfi_def_cfa sp, 0
    .irp n, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 72, 73, 74, 75, 76, 77, 78, 79
    .cfi_same_value \n
    .endr
    ret
    .cfi_restore_state
    .cfi_remember_state
    CFA_IN_RECORD
8:  mov     x8, #SYS_RT_SIGRETURN
    svc     #0
    .globl  tl_resume_end
    .hidden tl_resume_end
tl_resume_end:
9:  TAKE_HOST_STACK
    mov     w9, #TL_STOP_INTERRUPT
    str     w9, [x0, #TL_STOP]
    HOST_FRAME_LEAVE
STUB_END tl_stub_resume

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
