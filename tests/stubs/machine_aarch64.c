/* aarch64: register states, faults, and what a C function keeps. */
#if defined(__aarch64__)
#define _GNU_SOURCE
#include "machine.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(offsetof(struct machine_state, area) == STATE_AREA, "must match code_aarch64.S");

struct machine_state machine_in, machine_out;
struct {
    uint64_t sp, link;
} machine_home_sp;

int machine_run_raw(struct tl_fiber *fiber, const uint64_t *in, uint64_t *out);
void machine_poison_raw(void);

#define SP 31
#define FLAGS 32
#define FPCR 33
#define FPSR 34
#define BASE 35 /* of machine_out: the register that the dump could not keep */
#define FPCR_BITS 0x07c00000u /* AHP, DN, FZ, RMode */
#define FPSR_BITS 0x0800009fu /* QC and the cumulative exceptions */

const uint8_t machine_trap[] = {0x00, 0x00, 0x20, 0xd4}; /* brk #0 */
const unsigned machine_trap_bytes = 4;
uint64_t machine_reported_pc(uint64_t pc) { return pc; }

uint64_t machine_pc_after_trap(uint64_t pc) { return pc + 4; }
unsigned machine_instruction_bytes(const uint8_t *code) { return (void)code, 4; }

const char *machine_check_loop(const struct tl_fiber *fiber, uint64_t *rounds) {
    uint64_t a = fiber->record[TL_X / 8 + 2], b = fiber->record[TL_X / 8 + 1], v[2];
    memcpy(v, (const uint8_t *)fiber + TL_Q + 16, 16);
    *rounds = a;
    if (b != 3 * a && b + 3 != 3 * a) return "x1";
    if (v[1] != 3 * v[0]) return "v1, high";
    return v[0] == a || v[0] + 1 == a ? NULL : "v1, low";
}

const char *machine_check_host(const struct tl_fiber *fiber, uint64_t n, uint64_t *rounds) {
    const uint64_t *x = fiber->record + TL_X / 8;
    uint64_t d8;
    memcpy(&d8, (const uint8_t *)fiber + TL_Q + 16 * 8, 8);
    *rounds = x[20];
    if (x[21] != 3 * x[20]) return "x21";
    if (d8 != x[20]) return "d8";
    if (x[1] != fiber->record[TL_SP / 8]) return "x1";
    if ((uint32_t)x[0] != 1) return "x0";
    return x[28] == n ? NULL : "x28";
}

uint64_t bad_page, bus_page, data_page, wild_address;

void machine_start(void) {
    if (bad_page) return;
    int fd = memfd_create("empty", MFD_CLOEXEC);
    bad_page = (uint64_t)mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bus_page = (uint64_t)mmap(NULL, 65536, PROT_READ, MAP_SHARED, fd, 0);
    data_page = (uint64_t)&machine_in;
    wild_address = (uint64_t)&machine_in + 2;
    close(fd);
}

static uint64_t next(uint64_t *random) {
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void machine_random(struct machine_state *state, uint64_t *random) {
    memset(state, 0, sizeof *state);
    for (unsigned i = 0; i <= SP; i++) state->general[i] = next(random);
    state->general[FLAGS] = next(random) & 0xf0000000u;
    state->general[FPCR] = next(random) & FPCR_BITS;
    state->general[FPSR] = next(random) & FPSR_BITS;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t bits = next(random);
        memcpy(state->area + 8 * i, &bits, 8);
    }
}

void machine_fit(struct machine_state *state, const struct tl_fiber *fiber, int kind, uint64_t *random) {
    uint64_t offset = next(random) % (uint64_t)(fiber->stack_high - fiber->stack_low) / 2;
    uint64_t inside = (uint64_t)fiber->stack_high - 256 - offset, *x = state->general;
    if (kind == KIND_OVERFLOW) x[SP] = (uint64_t)fiber->stack_low;
    if (kind == KIND_JUMP || kind == KIND_JUMP_DATA || kind == KIND_JUMP_WILD) x[SP] = inside;
    if (kind == KIND_LOAD || kind == KIND_STORE) x[9] = bad_page, x[11] = bad_page + 16;
    if (kind == KIND_BUS) x[9] = bus_page;
    if (kind == KIND_JUMP) x[9] = bad_page + 32;
    if (kind == KIND_JUMP_DATA) x[9] = data_page;
    if (kind == KIND_JUMP_WILD) x[9] = wild_address;
    if (kind == KIND_CHECK) x[9] = (uint64_t)tl_stub_check;
}

void machine_fit_resume(struct machine_state *state, uint64_t pc, uint64_t *random) {
    if (next(random) % 2) state->general[30] = pc; /* the way without a system call */
}

void machine_to_record(const struct machine_state *state, struct tl_fiber *fiber) {
    for (unsigned i = 0; i < 31; i++) fiber->record[TL_X / 8 + i] = state->general[i];
    fiber->record[TL_SP / 8] = state->general[SP];
    fiber->record[TL_PSTATE / 8] = state->general[FLAGS];
    fiber->fpcr = (uint32_t)state->general[FPCR];
    fiber->fpsr = (uint32_t)state->general[FPSR];
    memcpy((uint8_t *)fiber + TL_Q, state->area, 512);
}

static const char *compare(const uint64_t *general, const uint8_t *area, const struct machine_state *state, uint32_t lost,
                           uint64_t *found, uint64_t *expected) {
    static const char *const names[] = {
        "x0",  "x1",  "x2",  "x3",  "x4",  "x5",  "x6",  "x7",  "x8",  "x9",  "x10", "x11", "x12", "x13", "x14", "x15", "x16",  "x17",
        "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "sp",  "nzcv", "fpcr", "fpsr"};
    for (unsigned i = 0; i <= FPSR; i++) {
        if (i < 31 && lost >> i & 1) continue;
        *found = general[i];
        *expected = state->general[i];
        if (*found != *expected) return names[i];
    }
    for (unsigned i = 0; i < 512; i++) {
        *found = area[i];
        *expected = state->area[i];
        if (*found != *expected) return "q0-q31";
    }
    return NULL;
}

const char *machine_compare_record(const struct machine_state *state, const struct tl_fiber *fiber, int check,
                                   uint64_t *found, uint64_t *expected) {
    uint64_t general[FPSR + 1];
    for (unsigned i = 0; i < 31; i++) general[i] = fiber->record[TL_X / 8 + i];
    general[SP] = fiber->record[TL_SP / 8];
    general[FLAGS] = fiber->record[TL_PSTATE / 8] & 0xf0000000u;
    general[FPCR] = fiber->fpcr;
    general[FPSR] = fiber->fpsr;
    uint32_t lost = check ? 1u << 16 | 1u << 17 | 1u << 30 : 0;
    if (check && general[30] != fiber->record[TL_PC / 8]) return "x30 after check";
    return compare(general, (const uint8_t *)fiber + TL_Q, state, lost, found, expected);
}

void machine_clear_out(const struct machine_state *state) {
    (void)state;
    memset(&machine_out, 0, sizeof machine_out);
}

const char *machine_compare(const struct machine_state *state, const struct machine_state *other, uint64_t *found,
                            uint64_t *expected) {
    return compare(other->general, other->area, state, 1u << other->general[BASE], found, expected);
}

const char *machine_compare_fresh(const uint64_t *ints, unsigned int_count, const uint64_t *floats, unsigned float_count,
                                  const uint64_t *words, unsigned word_count) {
    const uint64_t *stack = (const uint64_t *)machine_out.general[SP];
    for (unsigned i = 0; i < int_count; i++)
        if (machine_out.general[i] != ints[i]) return "x0-x7";
    for (unsigned i = 0; i < float_count; i++)
        if (memcmp(machine_out.area + 16 * i, &floats[i], 8)) return "q0-q7";
    if (machine_out.general[SP] % 16) return "alignment of sp";
    for (unsigned i = 0; i < word_count; i++)
        if (stack[i] != words[i]) return "argument on the stack";
    if (machine_out.general[29]) return "x29";
    if (machine_out.general[30] != (uint64_t)tl_stub_exit) return "x30";
    return machine_out.general[FPCR] ? "fpcr" : NULL;
}

const char *machine_compare_fault(const struct tl_fault *fault, int kind, uint64_t reported_pc) {
    static const struct {
        int signal;
        uint32_t trap;
    } wanted[] = {
        [KIND_BREAKPOINT] = {SIGTRAP, 0x3c}, [KIND_ILLEGAL] = {SIGILL, 0},     [KIND_PRIVILEGED] = {SIGILL, 0},
        [KIND_LOAD] = {SIGSEGV, 0x24},       [KIND_STORE] = {SIGSEGV, 0x24},   [KIND_BUS] = {SIGBUS, 0x24},
        [KIND_OVERFLOW] = {SIGSEGV, 0x24},   [KIND_JUMP] = {SIGSEGV, 0x20},    [KIND_JUMP_DATA] = {SIGSEGV, 0x20},
        [KIND_JUMP_WILD] = {SIGBUS, 0x22},
    };
    if (fault->signal != wanted[kind].signal && !(kind == KIND_JUMP_WILD && fault->signal == SIGSEGV)) return "signal"; /* qemu */
    if (fault->signal != SIGILL && fault->trap != wanted[kind].trap) return "class";
    int write = (fault->error & 64) != 0;
    if (fault->trap == 0x24 && write != (kind == KIND_STORE || kind == KIND_OVERFLOW)) return "write";
    int fetch = kind == KIND_JUMP || kind == KIND_JUMP_DATA || kind == KIND_JUMP_WILD;
    if ((fault->fetch != 0) != fetch) return "fetch";
    if (fetch && fault->address != reported_pc) return "address of the fetch";
    if (kind == KIND_LOAD || kind == KIND_STORE) return fault->address == bad_page + 16 ? NULL : "address";
    if (kind == KIND_BUS) return fault->address == bus_page + 16 ? NULL : "address";
    return NULL;
}

const char *machine_run(struct tl_fiber *fiber, uint64_t *random, int *stop) {
    static const char *const kept[20] = {"x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28",
                                         "x29", "d8",  "d9",  "d10", "d11", "d12", "d13", "d14", "d15", "FPCR"};
    uint64_t in[20], out[20] = {0};
    for (unsigned i = 0; i < 19; i++) in[i] = next(random);
    in[19] = next(random) & FPCR_BITS;
    *stop = machine_run_raw(fiber, in, out);
    for (unsigned i = 0; i < 20; i++)
        if (in[i] != out[i]) return kept[i];
    return NULL;
}

void machine_poison(void) { machine_poison_raw(); }

#endif
