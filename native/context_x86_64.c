/* Contexts and records of x86-64. Sources: Linux uapi asm/sigcontext.h; Intel SDM vol. 1, chapter 13 (XSAVE). */
#if defined(__x86_64__)

#define _GNU_SOURCE
#include "context.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef ARCH_SHSTK_STATUS /* Linux 6.6 */
#define ARCH_SHSTK_STATUS 0x5005
#endif
#define RFLAGS_HOST 0x202u /* IF and the bit that is always set: what a C function may expect */
#define RFLAGS_RF 0x10000u /* the next instruction passes an execution breakpoint (Intel SDM vol. 3, 17.3.1.1) */
#define CS_USER64 0x33u
#define SS_USER 0x2bu
#define RFLAGS_TF 0x100u
/* CF PF AF ZF SF TF DF OF RF AC ID: what user code can have. NT and the system's flags would make iretq fault. */
#define RFLAGS_USER 0x250dd5u
#define VECTOR_DEBUG 1
#define VECTOR_BREAKPOINT 3u
#define VECTOR_PAGE_FAULT 14u
#define PAGE_FAULT_WRITE 2u  /* bit 1 of the error code, as bit 4 below */
#define PAGE_FAULT_FETCH 16u /* bit 4 of the page fault's error code (Intel SDM vol. 3, 4.7) */
#define XFEATURE_SSE 2u
#define XFEATURE_PKRU (1u << 9)
#define XFEATURE_AMX (3u << 17)

extern const char __start_tl_stubs[], __stop_tl_stubs[]; /* the linker's bounds of the section tl_stubs */

static uint32_t xsave_mask[2];
static int direct_allowed;

/* General registers of a signal frame, in the order of the record's slots from TL_RAX on. */
static const uint8_t frame_order[15] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RBP, REG_RSI, REG_RDI, REG_R8,
                                        REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static uint64_t *slot(struct tl_fiber *fiber, unsigned offset) { return &fiber->record[offset / 8]; }

uint64_t tl_context_pc(const ucontext_t *context) { return (uint64_t)context->uc_mcontext.gregs[REG_RIP]; }
uint64_t tl_context_sp(const ucontext_t *context) { return (uint64_t)context->uc_mcontext.gregs[REG_RSP]; }

void tl_context_inject(ucontext_t *context, struct tl_fiber *fiber, const char *stub) {
    greg_t *g = context->uc_mcontext.gregs;
    *slot(fiber, TL_RIP) = (uint64_t)g[REG_RIP];
    *slot(fiber, TL_RSP) = (uint64_t)g[REG_RSP];
    *slot(fiber, TL_RDI) = (uint64_t)g[REG_RDI];
    *slot(fiber, TL_RFLAGS) = (uint64_t)g[REG_EFL];
    g[REG_RIP] = (greg_t)stub;
    g[REG_RSP] = (greg_t)*slot(fiber, TL_HOST_SP);
    g[REG_RDI] = (greg_t)fiber;
    g[REG_EFL] = RFLAGS_HOST;
}

void tl_context_save(const ucontext_t *context, struct tl_fiber *fiber) {
    const greg_t *g = context->uc_mcontext.gregs;
    *slot(fiber, TL_RIP) = (uint64_t)g[REG_RIP];
    *slot(fiber, TL_RSP) = (uint64_t)g[REG_RSP];
    *slot(fiber, TL_RFLAGS) = (uint64_t)g[REG_EFL];
    for (unsigned i = 0; i < 15; i++) *slot(fiber, TL_RAX + 8 * i) = (uint64_t)g[frame_order[i]];

    /* The frame's extended state is in the standard format too; bytes 464-511 of its legacy region are the kernel's
     * (struct _fpx_sw_bytes: magic1, extended_size, xfeatures, xstate_size). */
    uint8_t *area = (uint8_t *)fiber + TL_XSAVE;
    const uint8_t *from = (const uint8_t *)context->uc_mcontext.fpregs;
    uint32_t magic, bytes;
    memcpy(&magic, from + 464, 4);
    memcpy(&bytes, from + 480, 4);
    if (magic != FP_XSTATE_MAGIC1) bytes = 512;
    if (bytes > tl_state_bytes) bytes = (uint32_t)tl_state_bytes;
    memcpy(area, from, bytes);
    uint64_t present = 3;
    if (bytes > 520) memcpy(&present, area + 512, 8);
    present &= (uint64_t)xsave_mask[1] << 32 | xsave_mask[0];
    memcpy(area + 512, &present, 8);
    memset(area + 520, 0, 56); /* XCOMP_BV and the reserved words: the standard format has zeros */
}

/* The stack pointer too, as the CFI at the restart point says: it may be the record or the fiber's by then. */
void tl_context_restart(ucontext_t *context, struct tl_fiber *fiber, const char *pc) {
    greg_t *g = context->uc_mcontext.gregs;
    g[REG_RIP] = (greg_t)pc;
    g[REG_RSP] = (greg_t)*slot(fiber, TL_HOST_SP);
    g[REG_RDI] = (greg_t)fiber;
}

int tl_context_set_step(ucontext_t *context, int on) {
    greg_t *flags = &context->uc_mcontext.gregs[REG_EFL];
    *flags = on ? *flags | RFLAGS_TF : *flags & ~(greg_t)RFLAGS_TF;
    return 1;
}

int tl_context_is_step(const ucontext_t *context, const siginfo_t *info) {
    return info->si_signo == SIGTRAP && context->uc_mcontext.gregs[REG_TRAPNO] == VECTOR_DEBUG;
}

int tl_context_step_in_stub(ucontext_t *context, const siginfo_t *info) {
    greg_t *g = context->uc_mcontext.gregs;
    const char *pc = (const char *)g[REG_RIP];
    if (!tl_context_is_step(context, info) || pc < __start_tl_stubs || pc >= __stop_tl_stubs) return 0;
    g[REG_EFL] &= ~(greg_t)RFLAGS_TF;
    return 1;
}

void tl_context_fault(const ucontext_t *context, const siginfo_t *info, struct tl_fault *fault) {
    const greg_t *g = context->uc_mcontext.gregs;
    fault->signal = info->si_signo;
    fault->code = info->si_code;
    fault->trap = (uint32_t)g[REG_TRAPNO];
    fault->error = (uint32_t)g[REG_ERR];
    int page = fault->trap == VECTOR_PAGE_FAULT;
    fault->address = page ? (uint64_t)g[REG_CR2] : 0;
    /* Without NX the processor does not set the bit; an instruction that writes over itself is none of these. */
    int own_write = (fault->error & PAGE_FAULT_WRITE) != 0;
    fault->fetch = page && ((fault->error & PAGE_FAULT_FETCH) || (fault->address == (uint64_t)g[REG_RIP] && !own_write));
}

int tl_arch_start(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return -ENOTSUP;
    uint64_t shadow_stack = 0;
    if (syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS, &shadow_stack) == 0 && (shadow_stack & 1)) return TL_ERR_SHADOW_STACK;
    int protection_keys = 0;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    protection_keys = (low & XFEATURE_PKRU) != 0;
    /* PKRU belongs to the thread, not to the fiber; AMX tiles need a permission nobody has asked for. */
    xsave_mask[0] = low & ~(XFEATURE_PKRU | XFEATURE_AMX);
    xsave_mask[1] = high;
    __cpuid_count(13, 0, a, b, c, d); /* ebx: bytes for the features that XCR0 enables now */
    tl_state_bytes = (b + 63u) & ~(size_t)63u;
    /* The kernel gives a handler its own PKRU and takes the old one back in sigreturn, which `direct` leaves out. */
    direct_allowed = !protection_keys;
    return 0;
}

void tl_arch_record_new(struct tl_fiber *fiber) {
    *slot(fiber, TL_CS) = CS_USER64;
    *slot(fiber, TL_SS) = SS_USER;
    memcpy(fiber->xsave_mask, xsave_mask, sizeof xsave_mask);
}

void tl_arch_record_reset(struct tl_fiber *fiber, uint64_t entry) {
    static const uint32_t mxcsr_initial = 0x1f80;
    memset(slot(fiber, TL_RAX), 0, TL_HOST_SP - TL_RAX);
    /* No component in use: xrstor then takes initial values, whatever the area holds. */
    memset((uint8_t *)fiber + TL_XSAVE_BV, 0, 64);
    memcpy((uint8_t *)fiber + TL_XSAVE_MXCSR, &mxcsr_initial, 4);
    uint64_t *top = (uint64_t *)fiber->stack_high;
    top[-2] = (uint64_t)fiber; /* for the CFI of tl_stub_exit */
    top[-3] = (uint64_t)tl_stub_exit;
    *slot(fiber, TL_RIP) = entry;
    *slot(fiber, TL_RFLAGS) = RFLAGS_HOST;
    *slot(fiber, TL_RSP) = (uint64_t)(top - 3); /* a multiple of 16, less 8: as after a call */
}

void tl_arch_add_sp(struct tl_fiber *fiber, int64_t bytes) { *slot(fiber, TL_RSP) += (uint64_t)bytes; }

/* In the numbering of instruction encodings: rax rcx rdx rbx rsp rbp rsi rdi r8 .. r15. */
uint64_t tl_arch_register(const struct tl_fiber *fiber, unsigned n) {
    if (n == 4) return fiber->record[TL_RSP / 8];
    return fiber->record[TL_RAX / 8 + n - (n > 4)];
}

int tl_arch_state_component(unsigned n, uint32_t *offset, uint32_t *bytes) {
    unsigned a, b, c, d;
    if (n < 2 || n > 31 || !(xsave_mask[0] >> n & 1)) return 0;
    __cpuid_count(13, n, a, b, c, d); /* eax: size, ebx: offset in the standard format */
    *offset = TL_XSAVE + b;
    *bytes = a;
    return 1;
}

/* System V AMD64 ABI 1.0, 3.2.3. */
int tl_arch_set_int(struct tl_fiber *fiber, unsigned k, uint64_t bits) {
    static const uint8_t order[6] = {TL_RDI, TL_RSI, TL_RDX, TL_RCX, TL_R8, TL_R9};
    if (k >= 6) return -1;
    *slot(fiber, order[k]) = bits;
    return 0;
}

int tl_arch_set_float(struct tl_fiber *fiber, unsigned k, uint64_t bits) {
    uint8_t *xmm = (uint8_t *)fiber + TL_XSAVE_XMM, *present = (uint8_t *)fiber + TL_XSAVE_BV;
    if (k >= 8) return -1;
    if (!(*present & XFEATURE_SSE)) memset(xmm, 0, 256);
    *present |= XFEATURE_SSE;
    memcpy(xmm + 16 * k, &bits, 8);
    *slot(fiber, TL_RAX) = k + 1; /* al: how many vector registers a variadic function may look at */
    return 0;
}

void tl_arch_stack_words(struct tl_fiber *fiber, const uint64_t *words, unsigned count) {
    uint64_t *sp = (uint64_t *)fiber->stack_high - 2 - (count + 1u) / 2 * 2; /* stays a multiple of 16 */
    memcpy(sp, words, count * sizeof *words);
    sp[-1] = (uint64_t)tl_stub_exit;
    *slot(fiber, TL_RSP) = (uint64_t)(sp - 1);
}

uint64_t *tl_arch_reserve_words(struct tl_fiber *fiber, size_t count) {
    uint64_t *words = (uint64_t *)fiber->stack_high - (count + 1) / 2 * 2;
    words[-2] = (uint64_t)fiber; /* for the CFI of tl_stub_exit */
    words[-3] = (uint64_t)tl_stub_exit;
    *slot(fiber, TL_RSP) = (uint64_t)(words - 3); /* as tl_arch_record_reset */
    return words;
}

struct tl_request tl_arch_request(const struct tl_fiber *fiber) {
    return (struct tl_request){(uint32_t)fiber->record[TL_RDI / 8], (uint64_t *)fiber->record[TL_RSI / 8],
                               (uint64_t *)fiber->record[TL_R15 / 8]};
}

void tl_arch_end_request(struct tl_fiber *fiber) { *slot(fiber, TL_RDI) = 0; }

uint64_t tl_arch_int_result(const struct tl_fiber *fiber) { return fiber->record[TL_RAX / 8]; }

uint64_t tl_arch_float_result(const struct tl_fiber *fiber) {
    uint64_t bits;
    memcpy(&bits, (const uint8_t *)fiber + TL_XSAVE_XMM, 8);
    return bits;
}

void tl_arch_before_resume(struct tl_fiber *fiber) {
    *slot(fiber, TL_RFLAGS) = (*slot(fiber, TL_RFLAGS) & RFLAGS_USER) | RFLAGS_HOST;
}

uint64_t tl_arch_pc(const struct tl_fiber *fiber) { return fiber->record[TL_RIP / 8]; }
void tl_arch_set_pc(struct tl_fiber *fiber, uint64_t pc) {
    *slot(fiber, TL_RIP) = pc;
    *slot(fiber, TL_RFLAGS) &= ~(uint64_t)RFLAGS_RF; /* a fault sets it: no debug register stops the old pc again */
}
uint64_t tl_arch_sp(const struct tl_fiber *fiber) { return fiber->record[TL_RSP / 8]; }
uint64_t tl_arch_fp(const struct tl_fiber *fiber) { return fiber->record[TL_RBP / 8]; }

int tl_arch_breakpoint_pc(const struct tl_fiber *fiber, uint64_t *trap_pc) {
    if (fiber->fault.signal != SIGTRAP || fiber->fault.trap != VECTOR_BREAKPOINT) return 0;
    *trap_pc = tl_arch_pc(fiber) - 1; /* int3 reports the pc behind itself */
    return 1;
}

int tl_arch_is_trap(const void *code) { return *(const uint8_t *)code == 0xcc; }

int tl_arch_direct_allowed(void) { return direct_allowed; }

#endif
