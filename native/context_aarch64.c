/* Contexts and records of aarch64. Sources: Linux uapi asm/sigcontext.h; Arm ARM DDI 0487 (ESR_EL1, A64 encodings);
 * AAPCS64 (ARM IHI 0055). */
#if defined(__aarch64__)

#define _GNU_SOURCE
#include "context.h"

#include <asm/sigcontext.h>
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#ifndef ESR_MAGIC
#define ESR_MAGIC 0x45535201
#endif
#ifndef PR_GET_SHADOW_STACK_STATUS /* Linux 6.13 */
#define PR_GET_SHADOW_STACK_STATUS 74
#endif
#define HWCAP2_POE_BIT (1ul << 63)

/* ESR_EL1.EC (Arm ARM, the register's description) of what reaches a user's signal handler. */
#define EC_SHIFT 26
#define EC_UNKNOWN 0x00u
#define EC_FETCH 0x20u        /* instruction abort from EL0 */
#define EC_PC_ALIGNMENT 0x22u
#define EC_DATA 0x24u         /* data abort from EL0 */
#define EC_FLOAT 0x2cu
#define EC_BRK 0x3cu
#define ESR_WRITE (1u << 6)   /* WnR of a data abort */

/* The signal frame that tl_stub_resume builds (Linux arch/arm64/kernel/signal.c, struct rt_sigframe). */
#define SIGINFO_BYTES 128
_Static_assert(sizeof(siginfo_t) == SIGINFO_BYTES, "must match stubs.h");
_Static_assert(SIGINFO_BYTES + sizeof(ucontext_t) == TL_FRAME_BYTES, "must match stubs.h");
_Static_assert(SIGINFO_BYTES + offsetof(ucontext_t, uc_stack.ss_flags) == TL_FRAME_STACK_FLAGS, "must match stubs.h");
_Static_assert(SIGINFO_BYTES + offsetof(ucontext_t, uc_sigmask) == TL_FRAME_SIGMASK, "must match stubs.h");
_Static_assert(SIGINFO_BYTES + offsetof(ucontext_t, uc_mcontext.regs) == TL_FRAME_X, "must match stubs.h");
_Static_assert(SIGINFO_BYTES + offsetof(ucontext_t, uc_mcontext.pstate) == TL_FRAME_PSTATE, "must match stubs.h");
_Static_assert(SIGINFO_BYTES + offsetof(ucontext_t, uc_mcontext.__reserved) == TL_FRAME_FPSIMD, "must match stubs.h");
_Static_assert(TL_FRAME_FPSIMD + offsetof(struct fpsimd_context, fpsr) == TL_FRAME_FPSR, "must match stubs.h");
_Static_assert(TL_FRAME_FPSIMD + offsetof(struct fpsimd_context, fpcr) == TL_FRAME_FPCR, "must match stubs.h");
_Static_assert(TL_FRAME_FPSIMD + offsetof(struct fpsimd_context, vregs) == TL_FRAME_Q, "must match stubs.h");
_Static_assert(TL_FRAME_FPSIMD + sizeof(struct fpsimd_context) == TL_FRAME_END, "must match stubs.h");
_Static_assert(TL_FRAME_PSTATE - TL_FRAME_X == TL_PSTATE - TL_X, "resume copies them as one block");

static int direct_allowed;

static uint64_t *slot(struct tl_fiber *fiber, unsigned offset) { return &fiber->record[offset / 8]; }

uint64_t tl_context_pc(const ucontext_t *context) { return context->uc_mcontext.pc; }
uint64_t tl_context_sp(const ucontext_t *context) { return context->uc_mcontext.sp; }

/* The record with this magic in the frame's list, or NULL. */
static const struct _aarch64_ctx *frame_record(const ucontext_t *context, uint32_t magic) {
    const uint8_t *at = context->uc_mcontext.__reserved, *end = at + sizeof context->uc_mcontext.__reserved;
    while (at + sizeof(struct _aarch64_ctx) <= end) {
        const struct _aarch64_ctx *head = (const struct _aarch64_ctx *)at;
        if (head->magic == magic) return head;
        if (head->size < sizeof *head) return NULL;
        at += head->size;
    }
    return NULL;
}

void tl_context_inject(ucontext_t *context, struct tl_fiber *fiber, const char *stub) {
    mcontext_t *m = &context->uc_mcontext;
    *slot(fiber, TL_PC) = m->pc;
    *slot(fiber, TL_SP) = m->sp;
    *slot(fiber, TL_X) = m->regs[0];
    *slot(fiber, TL_PSTATE) = m->pstate;
    m->pc = (uint64_t)stub;
    m->sp = *slot(fiber, TL_HOST_SP);
    m->regs[0] = (uint64_t)fiber;
    m->pstate &= ~(uint64_t)TL_PSTATE_BTYPE; /* the stub is not where an indirect branch of the fiber's went */
}

void tl_context_save(const ucontext_t *context, struct tl_fiber *fiber) {
    const mcontext_t *m = &context->uc_mcontext;
    memcpy(slot(fiber, TL_X), m->regs, sizeof m->regs);
    *slot(fiber, TL_SP) = m->sp;
    *slot(fiber, TL_PC) = m->pc;
    *slot(fiber, TL_PSTATE) = m->pstate;
    const struct fpsimd_context *vectors = (const struct fpsimd_context *)(const void *)frame_record(context, FPSIMD_MAGIC);
    if (!vectors) return;
    fiber->fpcr = vectors->fpcr;
    fiber->fpsr = vectors->fpsr;
    memcpy((uint8_t *)fiber + TL_Q, vectors->vregs, sizeof vectors->vregs);
}

/* Leaves sp alone: below the host frame may lie the signal frame that tl_stub_resume is about to use. */
void tl_context_restart(ucontext_t *context, struct tl_fiber *fiber, const char *pc) {
    context->uc_mcontext.pc = (uint64_t)pc;
    context->uc_mcontext.regs[0] = (uint64_t)fiber;
    context->uc_mcontext.pstate &= ~(uint64_t)TL_PSTATE_BTYPE;
}

/* Does the A64 instruction write memory? Called for instructions that accessed memory and faulted, where the frame
 * does not say. (Arm ARM, A64 encoding, Loads and Stores: op0 is bits 31:28, the group bits 29:27, V bit 26.) Where an
 * atomic operation cannot read either, the machine would say that the read failed; here it counts as a write. */
static int writes_memory(uint32_t word) {
    unsigned group = word >> 27 & 7, vector = word >> 26 & 1, load = word >> 22 & 1, opc = word >> 22 & 3;
    if ((word & 0xffffffe0u) == 0xd50b7420u) return 1;       /* dc zva */
    if ((word & 0x1e000000u) == 0x04000000u && word >> 31) return word >> 29 == 7; /* SVE memory: 111 are stores */
    switch (group) {
    case 1: /* structures (V); exclusive, ordered, compare and swap (bits 24 = 0); unscaled ordered (bit 24 = 1) */
        if (vector) return !load;
        if (word >> 24 & 1) return opc == 0;
        if (word >> 21 & 1 && (word >> 23 & 1 || !(word >> 31))) return 1; /* cas, casp */
        return !load;
    case 3: /* literals (bit 24 = 0) only load; unscaled ordered (bit 24 = 1) */
        return word >> 24 & 1 && opc == 0;
    case 5: /* pairs */
        return !load;
    case 7:
        if (!(word >> 24 & 1) && word >> 21 & 1) {
            unsigned form = word >> 10 & 3;
            if (form == 0) return (word >> 12 & 15) != 12 || !(word >> 23 & 1); /* atomic, but ldapr */
            if (form & 1) return 0;                                              /* ldraa, ldrab */
        }
        return vector ? !(opc & 1) : opc == 0;
    default: return 0;
    }
}

void tl_context_fault(const ucontext_t *context, const siginfo_t *info, struct tl_fault *fault) {
    const struct esr_record {
        struct _aarch64_ctx head;
        uint64_t esr;
    } *record = (const void *)frame_record(context, ESR_MAGIC);
    uint64_t pc = context->uc_mcontext.pc, address = (uint64_t)info->si_addr;
    int memory = info->si_signo == SIGSEGV || info->si_signo == SIGBUS;
    uint32_t esr;
    fault->signal = info->si_signo;
    fault->code = info->si_code;
    if (record) { /* Linux fills it in for data and instruction aborts and for alignment */
        esr = (uint32_t)record->esr;
    } else if (info->si_signo == SIGTRAP) {
        esr = EC_BRK << EC_SHIFT;
    } else if (info->si_signo == SIGFPE) {
        esr = EC_FLOAT << EC_SHIFT;
    } else if (!memory) {
        esr = EC_UNKNOWN << EC_SHIFT;
    } else if (pc & 3) {
        esr = EC_PC_ALIGNMENT << EC_SHIFT;
    } else if (address == pc) {
        esr = EC_FETCH << EC_SHIFT;
    } else { /* the instruction at pc ran, so it can be read */
        uint32_t word;
        memcpy(&word, (const void *)pc, 4);
        esr = EC_DATA << EC_SHIFT | (writes_memory(word) ? ESR_WRITE : 0);
    }
    fault->trap = esr >> EC_SHIFT & 0x3f;
    fault->error = esr;
    fault->fetch = memory && (fault->trap == EC_FETCH || fault->trap == EC_PC_ALIGNMENT);
    fault->address = memory ? address : 0;
}

int tl_arch_start(void) {
    unsigned long shadow_stack = 0;
    /* tl_stub_resume builds a signal frame by hand, which a guarded control stack does not accept. */
    if (prctl(PR_GET_SHADOW_STACK_STATUS, &shadow_stack, 0, 0, 0) == 0 && (shadow_stack & 1)) return -ENOTSUP;
    tl_state_bytes = 32 * 16;
    /* The kernel gives a handler its own POR_EL0 and takes the old one back in sigreturn, which `direct` leaves out. */
    direct_allowed = !(getauxval(AT_HWCAP2) & HWCAP2_POE_BIT);
    return 0;
}

void tl_arch_record_new(struct tl_fiber *fiber) { (void)fiber; }

void tl_arch_record_reset(struct tl_fiber *fiber, uint64_t entry) {
    memset(slot(fiber, TL_X), 0, TL_HOST_SP - TL_X);
    memset((uint8_t *)fiber + TL_Q, 0, 32 * 16);
    fiber->fpcr = 0;
    fiber->fpsr = 0;
    uint64_t *top = (uint64_t *)fiber->stack_high;
    top[-2] = (uint64_t)fiber; /* for the CFI of tl_stub_exit */
    *slot(fiber, TL_PC) = entry;
    *slot(fiber, TL_SP) = (uint64_t)(top - 2);
    *slot(fiber, TL_X + 30 * 8) = (uint64_t)tl_stub_exit;
}

/* AAPCS64, 6.8.2. */
int tl_arch_set_int(struct tl_fiber *fiber, unsigned k, uint64_t bits) {
    if (k >= 8) return -1;
    *slot(fiber, TL_X + 8 * k) = bits;
    return 0;
}

int tl_arch_set_float(struct tl_fiber *fiber, unsigned k, uint64_t bits) {
    if (k >= 8) return -1;
    uint64_t q[2] = {bits, 0};
    memcpy((uint8_t *)fiber + TL_Q + 16 * k, q, 16);
    return 0;
}

void tl_arch_stack_words(struct tl_fiber *fiber, const uint64_t *words, unsigned count) {
    uint64_t *sp = (uint64_t *)fiber->stack_high - 2 - (count + 1u) / 2 * 2; /* stays a multiple of 16 */
    memcpy(sp, words, count * sizeof *words);
    *slot(fiber, TL_SP) = (uint64_t)sp;
}

uint64_t *tl_arch_reserve_words(struct tl_fiber *fiber, size_t count) {
    uint64_t *words = (uint64_t *)fiber->stack_high - (count + 1) / 2 * 2;
    words[-2] = (uint64_t)fiber; /* for the CFI of tl_stub_exit */
    *slot(fiber, TL_SP) = (uint64_t)(words - 2);
    return words;
}

struct tl_request tl_arch_request(const struct tl_fiber *fiber) {
    return (struct tl_request){(uint32_t)fiber->record[TL_X / 8], (uint64_t *)fiber->record[TL_X / 8 + 1],
                               (uint64_t *)fiber->record[TL_X / 8 + 28]};
}

void tl_arch_end_request(struct tl_fiber *fiber) { *slot(fiber, TL_X) = 0; }

uint64_t tl_arch_int_result(const struct tl_fiber *fiber) { return fiber->record[TL_X / 8]; }

uint64_t tl_arch_float_result(const struct tl_fiber *fiber) {
    uint64_t bits;
    memcpy(&bits, (const uint8_t *)fiber + TL_Q, 8);
    return bits;
}

uint64_t tl_arch_pc(const struct tl_fiber *fiber) { return fiber->record[TL_PC / 8]; }
void tl_arch_set_pc(struct tl_fiber *fiber, uint64_t pc) {
    *slot(fiber, TL_PC) = pc;
    *slot(fiber, TL_PSTATE) &= ~(uint64_t)TL_PSTATE_BTYPE; /* it said how the old pc was reached */
}
uint64_t tl_arch_sp(const struct tl_fiber *fiber) { return fiber->record[TL_SP / 8]; }
uint64_t tl_arch_fp(const struct tl_fiber *fiber) { return fiber->record[TL_X / 8 + 29]; }
void tl_arch_add_sp(struct tl_fiber *fiber, int64_t bytes) { *slot(fiber, TL_SP) += (uint64_t)bytes; }

/* 31 is the stack pointer, as in the base register of a load. */
uint64_t tl_arch_register(const struct tl_fiber *fiber, unsigned n) { return fiber->record[TL_X / 8 + n]; }
_Static_assert(TL_SP == TL_X + 31 * 8, "number 31 is sp");

int tl_arch_state_component(unsigned n, uint32_t *offset, uint32_t *bytes) { return (void)n, (void)offset, (void)bytes, 0; }

/* brk #0 (Arm ARM, A64 base instructions, BRK). */
int tl_arch_is_trap(const void *code) {
    uint32_t word;
    memcpy(&word, code, 4);
    return word == 0xd4200000u;
}

int tl_arch_breakpoint_pc(const struct tl_fiber *fiber, uint64_t *trap_pc) {
    if (fiber->fault.signal != SIGTRAP || fiber->fault.trap != EC_BRK) return 0;
    *trap_pc = tl_arch_pc(fiber); /* brk reports its own pc */
    return 1;
}

int tl_arch_direct_allowed(void) { return direct_allowed; }

int tl_context_set_step(ucontext_t *context, int on) {
    (void)context, (void)on;
    return 0;
}

int tl_context_is_step(const ucontext_t *context, const siginfo_t *info) {
    (void)context, (void)info;
    return 0;
}

/* Nothing in user mode can turn steps on, and tl_arch_set_pc and the resume stub mask what they write. */
int tl_context_step_in_stub(ucontext_t *context, const siginfo_t *info) {
    (void)context, (void)info;
    return 0;
}

void tl_arch_before_resume(struct tl_fiber *fiber) { (void)fiber; }

#endif
