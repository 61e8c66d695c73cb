/* The register-saving stub that a signal handler sends native code into (path `inject`).
 *
 * Source of the convention: native/context_aarch64.c, tl_context_inject.
 */
#if defined(__aarch64__)
#include "host_frame.h"

    .section tl_stubs, "ax", %progbits

/* In:        by sigreturn: x0 = record, sp = the record's host stack pointer (the handler has put the fiber's x0, sp,
 *            pc and PSTATE into the record); every other register is the fiber's.
 * Out:       the rest of the record, and back in the host with w0 = TL_STOP_*.
 * Frame:     sp already points at the host frame, so the fiber's stack is not touched (it may have no room).
 *
 * 1. General registers into the record.
 * 2. q0-q31, FPCR, FPSR into the record. Of z registers wider than 128 bits the rest is not kept (LINKAGE.md).
 * 3. Leave to the host.
 */
STUB tl_stub_inject
    CFI_IN_HOST_FRAME
tl_stub_inject:
    LANDING
    str     x1, [x0, #TL_X + 8]
    stp     x2, x3, [x0, #TL_X + 2 * 8]
    stp     x4, x5, [x0, #TL_X + 4 * 8]
    stp     x6, x7, [x0, #TL_X + 6 * 8]
    stp     x8, x9, [x0, #TL_X + 8 * 8]
    stp     x10, x11, [x0, #TL_X + 10 * 8]
    stp     x12, x13, [x0, #TL_X + 12 * 8]
    stp     x14, x15, [x0, #TL_X + 14 * 8]
    stp     x16, x17, [x0, #TL_X + 16 * 8]
    stp     x18, x19, [x0, #TL_X + 18 * 8]
    stp     x20, x21, [x0, #TL_X + 20 * 8]
    stp     x22, x23, [x0, #TL_X + 22 * 8]
    stp     x24, x25, [x0, #TL_X + 24 * 8]
    stp     x26, x27, [x0, #TL_X + 26 * 8]
    stp     x28, x29, [x0, #TL_X + 28 * 8]
    str     x30, [x0, #TL_X + 30 * 8]
    SAVE_VECTORS
    HOST_FRAME_LEAVE
STUB_END tl_stub_inject

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
