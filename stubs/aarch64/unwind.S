/* Leaving native code with the record already filled: the terminating stub and the handler's own way out.
 *
 * Source of the convention: native/context_aarch64.c, tl_context_save.
 */
#if defined(__aarch64__)
#include "host_frame.h"

    .section tl_stubs, "ax", %progbits

/* The terminating stub (path `unwind`).
 *
 * In:        by sigreturn: x0 = record, sp = the record's host stack pointer. The handler has copied the whole context
 *            into the record, for the report; nothing resumes it.
 * Out:       back in the host with w0 = TL_STOP_*.
 * Frame:     the host frame.
 */
STUB tl_stub_unwind
    CFI_IN_HOST_FRAME
tl_stub_unwind:
    LANDING
    HOST_FRAME_LEAVE
STUB_END tl_stub_unwind

/* void tl_stub_leave_handler(struct tl_fiber *fiber): leaves a signal handler for good (path `direct`).
 *
 * In:        x0 = record, complete; called on the alternate stack by a handler installed with an empty mask and
 *            SA_NODEFER, so that there is no mask to restore and the kernel keeps no note of the abandoned frame.
 * Out:       back in the host with w0 = TL_STOP_*.
 * Frame:     the host frame, from the record.
 */
STUB tl_stub_leave_handler
tl_stub_leave_handler:
    LANDING
    CFA_IN_RECORD
    HOST_FRAME_RULES
    TAKE_HOST_STACK
    HOST_FRAME_LEAVE
STUB_END tl_stub_leave_handler

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
