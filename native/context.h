/* The registers of a signal frame, and a record's: what each machine must define for the handler and the host.
 *
 * Implemented by context_x86_64.c and context_aarch64.c. Everything that takes a ucontext is called by signal
 * handlers: it reads and writes memory it is given, calls memcpy at most, and is async-signal-safe by that.
 */
#ifndef TL_CONTEXT_H
#define TL_CONTEXT_H

#include <signal.h>
#include <ucontext.h>

#include "fiber.h"

/* First thing in a handler. The kernel clears TF and DF of the interrupted code, but not AC, with which an access
 * of the compiler's own making would fault, nor NT, which sigreturn does not change and no iretq in a stub survives. */
static inline void tl_context_handler_starts(void) {
#if defined(__x86_64__)
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandl $~0x44000, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp" ::
                         : "cc", "memory");
#endif
}

uint64_t tl_context_pc(const ucontext_t *context);
uint64_t tl_context_sp(const ucontext_t *context);

/* Sends the interrupted code to `stub` with the fiber's pc, sp, flags and argument register kept in the record. */
void tl_context_inject(ucontext_t *context, struct tl_fiber *fiber, const char *stub);
/* Copies the whole context, extended state included, into the record. */
void tl_context_save(const ucontext_t *context, struct tl_fiber *fiber);
/* Sends the interrupted code to `pc` with the record as its argument. */
void tl_context_restart(ucontext_t *context, struct tl_fiber *fiber, const char *pc);
/* Turns single steps of the interrupted code on or off; 0 where user mode cannot. */
int tl_context_set_step(ucontext_t *context, int on);
/* 1 when the signal is a single step of the machine's own. */
int tl_context_is_step(const ucontext_t *context, const siginfo_t *info);
/* 1 when the signal is a single step that code brought along into a stub: the frame then goes on without steps. */
int tl_context_step_in_stub(ucontext_t *context, const siginfo_t *info);
/* What the frame says of the fault. */
void tl_context_fault(const ucontext_t *context, const siginfo_t *info, struct tl_fault *fault);

/* Reads the machine's features: sets tl_state_bytes (extended state after struct tl_fiber). 0 or negative errno. */
int tl_arch_start(void);
/* Gives a new record the values that no code ever changes. */
void tl_arch_record_new(struct tl_fiber *fiber);
/* Empty registers, pc at `entry`, sp below the words that lead to tl_stub_exit. */
void tl_arch_record_reset(struct tl_fiber *fiber, uint64_t entry);
/* Takes out of a record what the machine would refuse to resume with. */
void tl_arch_before_resume(struct tl_fiber *fiber);
uint64_t tl_arch_pc(const struct tl_fiber *fiber);
void tl_arch_set_pc(struct tl_fiber *fiber, uint64_t pc);
uint64_t tl_arch_sp(const struct tl_fiber *fiber);
/* Adds to the stack pointer of a stopped fiber. */
void tl_arch_add_sp(struct tl_fiber *fiber, int64_t bytes);
/* General register number n, as the machine numbers them. */
uint64_t tl_arch_register(const struct tl_fiber *fiber, unsigned n);
/* Where component n of the extended state lies, from the start of struct tl_fiber: x86-64 numbers the bits of XCR0
 * from 2 on; 0 for one that is absent. aarch64 has none. */
int tl_arch_state_component(unsigned n, uint32_t *offset, uint32_t *bytes);
/* Arguments and results by the machine's C calling convention, on a READY fiber. The k-th integer (float) argument
 * goes to its register; -1 when there is no register left, and the words left over go to tl_arch_stack_words, in
 * order. Bits are those of the value, zero- or sign-extended by the caller. */
int tl_arch_set_int(struct tl_fiber *fiber, unsigned k, uint64_t bits);
int tl_arch_set_float(struct tl_fiber *fiber, unsigned k, uint64_t bits);
void tl_arch_stack_words(struct tl_fiber *fiber, const uint64_t *words, unsigned count);
uint64_t tl_arch_int_result(const struct tl_fiber *fiber);
uint64_t tl_arch_float_result(const struct tl_fiber *fiber);
/* The frame pointer, the head of the chain of frame records. */
uint64_t tl_arch_fp(const struct tl_fiber *fiber);
/* Room for so many words above the outermost frame of a READY fiber without arguments; they are not cleared. */
uint64_t *tl_arch_reserve_words(struct tl_fiber *fiber, size_t count);
/* What a fiber asks that stopped with TL_STOP_HOST, by the convention of tl_stub_host. */
struct tl_request {
    uint64_t kind;   /* enum tl_request_kind */
    uint64_t *words; /* on the fiber's stack */
    uint64_t *block;
};
struct tl_request tl_arch_request(const struct tl_fiber *fiber);
/* The request has been answered: from now on its kind is none. */
void tl_arch_end_request(struct tl_fiber *fiber);
/* The address of the trap instruction that stopped the fiber at `pc` with this fault, and 1; or 0 if it was none. */
int tl_arch_breakpoint_pc(const struct tl_fiber *fiber, uint64_t *trap_pc);
/* 1 when the breakpoint instruction stands at `code`. */
int tl_arch_is_trap(const void *code);
/* 1 when leaving a handler without sigreturn is safe on this machine and kernel. */
int tl_arch_direct_allowed(void);

#endif
