/* The explicit switch from native code to the host, without a signal (path `check`).
 *
 * Source of the convention: AAPCS64 (ARM IHI 0055), 6.1.1: x16 and x17 may change between a call and its target.
 */
#if defined(__aarch64__)
#include "host_frame.h"

    .section tl_stubs, "ax", %progbits

/* In:        called by native code on a fiber, by bl or blr. Needs no stack.
 * Out:       every register into the record as it was before the call, but for x30 and pc, which are both the return
 *            address, and x16 and x17, which the call loses: the record has zeros. Back in the host with
 *            w0 = TL_STOP_CHECK. After a resume native code goes on behind its call with every register, flags
 *            included, as the record has it.
 * Frame:     none.
 *
 * 1. Find the record through the thread; nothing here changes the flags.
 * 2. Registers, flags, return address, vectors into the record.
 * 3. Take the host stack and leave.
 */
STUB tl_stub_check
tl_stub_check:
    LANDING
    FIND_RECORD x16, x17
    stp     x0, x1, [x16, #TL_X]
    stp     x2, x3, [x16, #TL_X + 2 * 8]
    stp     x4, x5, [x16, #TL_X + 4 * 8]
    stp     x6, x7, [x16, #TL_X + 6 * 8]
    stp     x8, x9, [x16, #TL_X + 8 * 8]
    stp     x10, x11, [x16, #TL_X + 10 * 8]
    stp     x12, x13, [x16, #TL_X + 12 * 8]
    stp     x14, x15, [x16, #TL_X + 14 * 8]
    stp     xzr, xzr, [x16, #TL_X + 16 * 8]
    stp     x18, x19, [x16, #TL_X + 18 * 8]
    stp     x20, x21, [x16, #TL_X + 20 * 8]
    stp     x22, x23, [x16, #TL_X + 22 * 8]
    stp     x24, x25, [x16, #TL_X + 24 * 8]
    stp     x26, x27, [x16, #TL_X + 26 * 8]
    stp     x28, x29, [x16, #TL_X + 28 * 8]
    mov     x17, sp
    stp     x30, x17, [x16, #TL_X + 30 * 8] /* TL_SP follows x30 */
    mrs     x17, nzcv
    stp     x30, x17, [x16, #TL_PC]         /* TL_PSTATE follows TL_PC */
    mov     x0, x16
    SAVE_VECTORS
    mov     w9, #TL_STOP_CHECK
    str     w9, [x0, #TL_STOP]
    TAKE_HOST_STACK
    HOST_FRAME_LEAVE
STUB_END tl_stub_check

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
