/* Leaving native code with the record already filled: the terminating stub and the handler's own way out.
 *
 * Source of the convention: native/context_x86_64.c, tl_context_save.
 */
#if defined(__x86_64__)
#include "host_frame.h"

    .section tl_stubs, "ax", @progbits

/* The terminating stub (path `unwind`).
 *
 * In:        by sigreturn: rdi = record, rsp = the record's host stack pointer, rflags = 0x202. The handler has
 *            copied the whole context into the record, for the report; nothing resumes it.
 * Out:       back in the host with eax = TL_STOP_*.
 * Frame:     the host frame.
 */
STUB tl_stub_unwind
    CFI_IN_HOST_FRAME
tl_stub_unwind:
    endbr64
    HOST_FRAME_LEAVE
STUB_END tl_stub_unwind

/* void tl_stub_leave_handler(struct tl_fiber *fiber): leaves a signal handler for good (path `direct`).
 *
 * In:        rdi = record, complete; called on the alternate stack by a handler installed with an empty mask and
 *            SA_NODEFER, so that there is no mask to restore and the kernel keeps no note of the abandoned frame.
 * Out:       back in the host with eax = TL_STOP_*.
 * Frame:     the host frame, from the record.
 *
 * The kernel starts a handler with DF, RF and TF clear but leaves AC and NT as the code had them.
 */
STUB tl_stub_leave_handler
tl_stub_leave_handler:
    endbr64
    mov     TL_HOST_SP(%rdi), %rsp
    CFI_IN_HOST_FRAME
    pushq   $0x202                      /* IF and the bit that is always set */
    .cfi_adjust_cfa_offset 8
    popfq
    .cfi_adjust_cfa_offset -8
    HOST_FRAME_LEAVE
STUB_END tl_stub_leave_handler

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
