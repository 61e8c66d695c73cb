/* Starting a fiber, and its end when the entry function returns.
 *
 * Source of the convention: AAPCS64 (ARM IHI 0055), 6.1 (registers), 6.8 (parameters), 6.9 (results).
 */
#if defined(__aarch64__)
#include "host_frame.h"

    .section tl_stubs, "ax", %progbits

/* int tl_stub_enter(struct tl_fiber *fiber): runs a fiber that has never run.
 *
 * In:        x0 = record; its pc is the entry, its x30 the address of tl_stub_exit; x0-x8 and q0-q7 of the record
 *            are the arguments, x29 is 0 and ends the chain of frame records.
 * Out:       w0 = TL_STOP_*.
 * Clobbered: what a C call may clobber.
 * Frame:     the host frame (host_frame.h).
 *
 * 1. Keep the host frame; its address goes into the record.
 * 2. Restartable, [tl_enter_restart, tl_enter_end): a signal that finds the pc in here sets a pending bit and moves
 *    the pc back to the first instruction, with x0 = record. Everything is loaded from the record, so running it
 *    again is harmless, and no pending bit set before the branch is missed. Nothing in here uses sp.
 * 3. Load the arguments, FPCR and FPSR, take the fiber's stack, branch through x16, which a call may clobber and
 *    which a guarded page accepts at any function. Registers that carry no argument keep the host's values.
 */
STUB tl_stub_enter
tl_stub_enter:
    LANDING
    HOST_FRAME_PUSH
    .cfi_remember_state
    CFA_IN_RECORD
    .globl  tl_enter_restart
    .hidden tl_enter_restart
tl_enter_restart:
    ldr     w9, [x0, #TL_PENDING]
    cbnz    w9, 9f
    LOAD_VECTOR_CONTROL
    ldp     q0, q1, [x0, #TL_Q]
    ldp     q2, q3, [x0, #TL_Q + 32]
    ldp     q4, q5, [x0, #TL_Q + 64]
    ldp     q6, q7, [x0, #TL_Q + 96]
    ldp     x29, x30, [x0, #TL_X + 29 * 8]
    ldr     x16, [x0, #TL_PC]
    ldr     x9, [x0, #TL_SP]
    ldp     x7, x8, [x0, #TL_X + 7 * 8]
    ldp     x5, x6, [x0, #TL_X + 5 * 8]
    ldp     x3, x4, [x0, #TL_X + 3 * 8]
    ldp     x1, x2, [x0, #TL_X + 8]
    mov     sp, x9
    ldr     x0, [x0, #TL_X]
    /* As in the function entered: its caller is tl_stub_exit. */
    .cfi_restore_state
    .cfi_remember_state
    .cfi_def_cfa sp, 0
    .cfi_same_value x29
    .cfi_same_value x30
    br      x16
    .globl  tl_enter_end
    .hidden tl_enter_end
tl_enter_end:
    .cfi_restore_state
    CFA_IN_RECORD
9:  TAKE_HOST_STACK
    mov     w9, #TL_STOP_INTERRUPT
    str     w9, [x0, #TL_STOP]
    HOST_FRAME_LEAVE
STUB_END tl_stub_enter

/* The address that the entry function returns to.
 *
 * In:        sp = initial stack pointer, results in x0, x1, q0-q3.
 * Out:       results in the record, w0 = TL_STOP_FINISHED, back in the host.
 * Frame:     none of the fiber's stack is used: the record is found through the thread, not through sp, which the
 *            code may have left anywhere.
 *
 * CFI: the caller of a fiber's outermost function is whoever resumed it. The word at the initial stack pointer holds
 * the record; the host stack pointer in there gives the canonical frame address (0x8f is DW_OP_breg31, sp). With
 * arguments on the stack those take that place, and the chain ends here. A debugger looks a return address up at
 * address - 1, hence the nop in front.
 */
STUB tl_stub_exit
    .cfi_escape 0x0f, 10, 0x8f, 0, 0x06, 0x23, 0x90, 0x02, 0x06, 0x23, 0xb0, 0x01
    HOST_FRAME_RULES
    nop
tl_stub_exit:
    FIND_RECORD x16, x17
    stp     x0, x1, [x16, #TL_X]
    mov     x0, x16
    stp     q0, q1, [x0, #TL_Q]
    stp     q2, q3, [x0, #TL_Q + 32]
    str     wzr, [x0, #TL_STOP]         /* TL_STOP_FINISHED */
    TAKE_HOST_STACK
    HOST_FRAME_LEAVE
STUB_END tl_stub_exit

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
