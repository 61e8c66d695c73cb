/* x86-64: register states, faults, and what a C function keeps. Layouts: Intel SDM vol. 1, 13.4 (XSAVE). */
#if defined(__x86_64__)
#define _GNU_SOURCE
#include "machine.h"

#include <cpuid.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(offsetof(struct machine_state, area) == STATE_AREA && STATE_AREA % 64 == 0, "xsave needs it");

struct machine_state machine_in, machine_out;
uint64_t machine_home_sp;

int machine_run_raw(struct tl_fiber *fiber, const uint64_t *in, uint64_t *out);
void machine_poison_raw(int avx, int avx512);

#define FLAGS_COMPARED 0xcd5u /* CF PF AF ZF SF DF OF */
#define RSP 4

static uint64_t xsave_mask;
static uint32_t mxcsr_mask;

static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const uint16_t record_offsets[16] = {TL_RAX, TL_RCX, TL_RDX, TL_RBX, TL_RSP, TL_RBP, TL_RSI, TL_RDI,
                                            TL_R8,  TL_R9,  TL_R10, TL_R11, TL_R12, TL_R13, TL_R14, TL_R15};

/* Parts of the XSAVE area that software owns; the rest is reserved or, like FIP and FDP on AMD, not always saved. */
static struct part {
    const char *name;
    unsigned offset, bytes, stride, count;
} parts[16];
static unsigned part_count;

static void part(const char *name, unsigned offset, unsigned bytes, unsigned stride, unsigned count) {
    parts[part_count++] = (struct part){name, offset, bytes, stride, count};
}

const uint8_t machine_trap[] = {0xcc};
const unsigned machine_trap_bytes = 1;
uint64_t machine_reported_pc(uint64_t pc) { return pc + 1; }

uint64_t machine_pc_after_trap(uint64_t pc) { return pc + 1; } /* hlt */

const char *machine_check_loop(const struct tl_fiber *fiber, uint64_t *rounds) {
    uint64_t a = fiber->record[TL_RAX / 8], b = fiber->record[TL_RBX / 8], x[2];
    memcpy(x, (const uint8_t *)fiber + TL_XSAVE_XMM + 16, 16);
    if (!(((const uint8_t *)fiber)[TL_XSAVE_BV] & 2)) x[0] = x[1] = 0; /* initial values are not written */
    *rounds = a;
    if (b != 3 * a && b + 3 != 3 * a) return "rbx";
    if (x[1] != 3 * x[0]) return "xmm1, high";
    return x[0] == a || x[0] + 1 == a ? NULL : "xmm1, low";
}

const char *machine_check_host(const struct tl_fiber *fiber, uint64_t n, uint64_t *rounds) {
    const uint64_t *record = fiber->record;
    *rounds = record[TL_R14 / 8];
    if (record[TL_RBP / 8] != 3 * *rounds) return "rbp";
    if (record[TL_RSI / 8] != record[TL_RSP / 8]) return "rsi";
    if ((uint32_t)record[TL_RDI / 8] != 1) return "rdi";
    return record[TL_R15 / 8] == n ? NULL : "r15";
}

/* Intel SDM vol. 2, 2.1: prefixes 66, F2, F3 and REX, opcode maps 1 and 0F, ModRM with a displacement of a byte. */
unsigned machine_instruction_bytes(const uint8_t *code) {
    const uint8_t *p = code;
    while (*p == 0x66 || *p == 0xf2 || *p == 0xf3) p++;
    if ((*p & 0xf0) == 0x40) p++;
    unsigned opcode = *p++, immediate = 0;
    if (opcode == 0x0f) {
        p++;
    } else if ((opcode & 0xf0) == 0x50 || opcode == 0xc3 || opcode == 0xfc || opcode == 0xfd) {
        return (unsigned)(p - code); /* push, pop, ret, cld, std */
    } else if (opcode == 0xeb || (opcode & 0xf0) == 0x70) {
        return (unsigned)(p - code) + 1;
    } else if (opcode == 0xe8) {
        return (unsigned)(p - code) + 4;
    } else if (opcode == 0x35) { /* xor rax, imm32 */
        return (unsigned)(p - code) + 4;
    } else if (opcode == 0x83 || opcode == 0x6b) {
        immediate = 1;
    }
    unsigned mode = *p >> 6, rm = *p & 7;
    p += 1 + (mode != 3 && rm == 4) + (mode == 1);
    return (unsigned)(p - code) + immediate;
}

/* Must match code_x86_64.S, whose instructions hold these addresses. */
uint64_t bad_page = 0x7e5710000000, bus_page = 0x7e5720000000, data_page, wild_address = 0x9e57100000000123;

void machine_start(void) {
    static const struct {
        unsigned component;
        const char *name;
    } components[] = {{2, "ymm high"}, {5, "k"}, {6, "zmm high"}, {7, "zmm16-31"}, {19, "r16-r31"}};
    uint32_t low, high;
    if (part_count) return;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    xsave_mask = ((uint64_t)high << 32 | low) & ~(1u << 9 | 3u << 17);
    part("fcw", 0, 2, 0, 1);
    part("fsw", 2, 2, 0, 1);
    part("ftw", 4, 1, 0, 1);
    part("mxcsr", 24, 4, 0, 1);
    part("st", 32, 10, 16, 8);
    part("xmm", 160, 16, 16, 16);
    for (unsigned i = 0; i < sizeof components / sizeof components[0]; i++) {
        unsigned bytes, offset, c, d;
        if (!(xsave_mask >> components[i].component & 1)) continue;
        __cpuid_count(13, components[i].component, bytes, offset, c, d);
        if (offset + bytes <= MOST_AREA_BYTES) part(components[i].name, offset, bytes, 0, 1);
    }
    _Alignas(64) uint8_t area[512] = {0};
    __asm__ volatile("fxsave64 %0" : "=m"(area));
    memcpy(&mxcsr_mask, area + 28, 4);
    if (!mxcsr_mask) mxcsr_mask = 0xffbf;
    data_page = (uint64_t)&machine_in;
    int fd = memfd_create("empty", MFD_CLOEXEC);
    mmap((void *)bad_page, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap((void *)bus_page, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    close(fd);
}

static void fill(uint8_t *to, size_t bytes, uint64_t *random) {
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t z = *random += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        memcpy(to + i, &z, bytes - i < 8 ? bytes - i : 8);
    }
}

void machine_random(struct machine_state *state, uint64_t *random) {
    memset(state, 0, sizeof *state);
    fill((uint8_t *)state->general, 16 * 8, random);
    uint64_t flags, present;
    fill((uint8_t *)&flags, 8, random);
    state->general[STATE_FLAGS / 8] = (flags & FLAGS_COMPARED) | 0x202;
    state->general[STATE_MASK / 8] = xsave_mask;
    for (const struct part *p = parts; p < parts + part_count; p++)
        for (unsigned i = 0; i < p->count; i++) fill(state->area + p->offset + i * p->stride, p->bytes, random);
    state->area[0] = 0x7f; /* x87 and SSE exceptions masked: a pending one would trap on its own; bit 6 reads as 1 */
    state->area[1] = (state->area[1] & 0x0c) | 0x03; /* the rounding control; precision control 01 is reserved */
    state->area[2] &= 0x7f;
    state->area[3] &= 0x7f;
    uint32_t mxcsr;
    memcpy(&mxcsr, state->area + 24, 4);
    mxcsr = (mxcsr & mxcsr_mask) | 0x1f80;
    memcpy(state->area + 24, &mxcsr, 4);
    /* A component left out stands for its initial value; xsave may leave out one that happens to have it. */
    present = xsave_mask;
    memcpy(state->area + 512, &present, 8);
}

void machine_fit(struct machine_state *state, const struct tl_fiber *fiber, int kind, uint64_t *random) {
    uint64_t offset;
    fill((uint8_t *)&offset, 8, random);
    offset %= (uint64_t)(fiber->stack_high - fiber->stack_low) / 2;
    uint64_t inside = (uint64_t)fiber->stack_high - 256 - offset;
    if (kind == KIND_OVERFLOW) state->general[RSP] = (uint64_t)fiber->stack_low;
    if (kind == KIND_JUMP || kind == KIND_JUMP_DATA || kind == KIND_JUMP_WILD || kind == KIND_CHECK)
        state->general[RSP] = inside;
}

void machine_fit_resume(struct machine_state *state, uint64_t pc, uint64_t *random) {
    (void)state, (void)pc, (void)random; /* there is one way only */
}

void machine_to_record(const struct machine_state *state, struct tl_fiber *fiber) {
    for (unsigned i = 0; i < 16; i++) fiber->record[record_offsets[i] / 8] = state->general[i];
    fiber->record[TL_RFLAGS / 8] = state->general[STATE_FLAGS / 8];
    uint8_t *area = (uint8_t *)fiber + TL_XSAVE;
    for (const struct part *p = parts; p < parts + part_count; p++)
        for (unsigned i = 0; i < p->count; i++)
            memcpy(area + p->offset + i * p->stride, state->area + p->offset + i * p->stride, p->bytes);
    memcpy(area + 512, &xsave_mask, 8);
}

static const char *compare(const uint64_t *general, uint64_t flags, const uint8_t *area, const struct machine_state *state,
                           uint64_t *found, uint64_t *expected) {
    for (unsigned i = 0; i < 16; i++) {
        *found = general[i];
        *expected = state->general[i];
        if (*found != *expected) return names[i];
    }
    *found = flags & FLAGS_COMPARED;
    *expected = state->general[STATE_FLAGS / 8] & FLAGS_COMPARED;
    if (*found != *expected) return "rflags";
    for (const struct part *p = parts; p < parts + part_count; p++) {
        for (unsigned i = 0; i < p->count; i++) {
            for (unsigned k = 0; k < p->bytes; k++) {
                unsigned at = p->offset + i * p->stride + k;
                *found = area[at];
                *expected = state->area[at];
                if (*found != *expected) return p->name;
            }
        }
    }
    return NULL;
}

const char *machine_compare_record(const struct machine_state *state, const struct tl_fiber *fiber, int check,
                                   uint64_t *found, uint64_t *expected) {
    uint64_t general[16];
    (void)check;
    for (unsigned i = 0; i < 16; i++) general[i] = fiber->record[record_offsets[i] / 8];
    return compare(general, fiber->record[TL_RFLAGS / 8], (const uint8_t *)fiber + TL_XSAVE, state, found, expected);
}

void machine_clear_out(const struct machine_state *state) {
    memset(&machine_out, 0, sizeof machine_out);
    machine_out.general[STATE_MASK / 8] = state->general[STATE_MASK / 8];
}

const char *machine_compare(const struct machine_state *state, const struct machine_state *other, uint64_t *found,
                            uint64_t *expected) {
    return compare(other->general, other->general[STATE_FLAGS / 8], other->area, state, found, expected);
}

const char *machine_compare_fresh(const uint64_t *ints, unsigned int_count, const uint64_t *floats, unsigned float_count,
                                  const uint64_t *words, unsigned word_count) {
    static const uint8_t order[6] = {7, 6, 2, 1, 8, 9}; /* rdi rsi rdx rcx r8 r9 */
    const uint64_t *stack = (const uint64_t *)machine_out.general[RSP];
    for (unsigned i = 0; i < int_count; i++)
        if (machine_out.general[order[i]] != ints[i]) return names[order[i]];
    for (unsigned i = 0; i < float_count; i++)
        if (memcmp(machine_out.area + 160 + 16 * i, &floats[i], 8)) return "xmm0-7";
    if (machine_out.general[RSP] % 16 != 8) return "alignment of rsp";
    for (unsigned i = 0; i < word_count; i++)
        if (stack[1 + i] != words[i]) return "argument on the stack";
    if (float_count && machine_out.general[0] != float_count) return "al";
    if (machine_out.general[5]) return "rbp";
    uint32_t mxcsr;
    memcpy(&mxcsr, machine_out.area + 24, 4);
    if (mxcsr != 0x1f80) return "mxcsr";
    return machine_out.general[STATE_FLAGS / 8] & 0x44500 ? "rflags" : NULL; /* AC NT DF TF */
}

const char *machine_compare_fault(const struct tl_fault *fault, int kind, uint64_t reported_pc) {
    static const struct {
        int signal;
        uint32_t trap;
    } wanted[] = {
        [KIND_BREAKPOINT] = {SIGTRAP, 3}, [KIND_ILLEGAL] = {SIGILL, 6},    [KIND_PRIVILEGED] = {SIGSEGV, 13},
        [KIND_DIVIDE] = {SIGFPE, 0},      [KIND_LOAD] = {SIGSEGV, 14},     [KIND_STORE] = {SIGSEGV, 14},
        [KIND_BUS] = {SIGBUS, 14},        [KIND_MISALIGNED] = {SIGSEGV, 13}, [KIND_OVERFLOW] = {SIGSEGV, 14},
        [KIND_JUMP] = {SIGSEGV, 14},      [KIND_JUMP_DATA] = {SIGSEGV, 14}, [KIND_JUMP_WILD] = {SIGSEGV, 13},
    };
    if (fault->signal != wanted[kind].signal) return "signal";
    if (fault->trap != wanted[kind].trap) return "vector";
    int write = (fault->error & 2) != 0, fetch = fault->fetch != 0;
    if (fault->trap == 14 && write != (kind == KIND_STORE || kind == KIND_OVERFLOW)) return "write";
    if (fetch != (kind == KIND_JUMP || kind == KIND_JUMP_DATA || (kind == KIND_JUMP_WILD && fetch))) return "fetch";
    if (fetch && fault->trap == 14 && fault->address != reported_pc) return "address of the fetch";
    if (kind == KIND_LOAD || kind == KIND_STORE) return fault->address == bad_page + 16 ? NULL : "address";
    if (kind == KIND_BUS) return fault->address == bus_page + 16 ? NULL : "address";
    return NULL;
}

const char *machine_run(struct tl_fiber *fiber, uint64_t *random, int *stop) {
    static const char *const kept[10] = {"rbx", "rbp", "r12", "r13", "r14", "r15", "mxcsr", "x87 control word", "", ""};
    uint64_t in[10] = {0}, out[10] = {0};
    fill((uint8_t *)in, 6 * 8, random);
    fill((uint8_t *)(in + 6), 2, random);
    fill((uint8_t *)(in + 7), 2, random);
    in[6] = (in[6] & mxcsr_mask & 0xffc0) | 0x1f80; /* no sticky flags: those are anybody's */
    in[7] = (in[7] & 0x0f00) | 0x0340 | 0x3f;
    *stop = machine_run_raw(fiber, in, out);
    out[6] &= ~(uint64_t)0x3f;
    for (unsigned i = 0; i < 8; i++)
        if (in[i] != out[i]) return kept[i];
    if (out[8] & 0x400) return "direction flag";
    if (out[8] & 0x44100) return "TF, NT or AC";
    if (out[9] != 0xffff) return "x87 stack";
    return NULL;
}

void machine_poison(void) { machine_poison_raw(xsave_mask >> 2 & 1, (xsave_mask & 0xe0) == 0xe0); }

#endif
