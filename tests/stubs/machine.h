/* What a machine must give the test programs: full register states, code that loads, traps and stores them, and a
 * call of tl_fiber_run that looks at what a C function may expect to keep.
 *
 * The native code reads and writes register states itself (code_<arch>.S), in a layout that is not the record's: so
 * a mistake that saving and restoring share is found too.
 */
#ifndef TEST_MACHINE_H
#define TEST_MACHINE_H

#include <stdint.h>

#include "fiber.h"

#define MOST_AREA_BYTES 16384

#if defined(__x86_64__)
/* Offsets in struct machine_state, in the order of the instruction encoding. */
#define STATE_GENERAL 0 /* rax rcx rdx rbx rsp rbp rsi rdi r8-r15 */
#define STATE_FLAGS 128
#define STATE_MASK 136  /* for xsave and xrstor */
#define STATE_AREA 192
#define STATE_WORDS 24
#else
#define STATE_GENERAL 0 /* x0-x30 */
#define STATE_SP 248
#define STATE_FLAGS 256
#define STATE_CONTROL 264 /* FPCR, FPSR */
#define STATE_AREA 320    /* q0-q31 */
#define STATE_WORDS 40
#endif

struct machine_state {
    uint64_t general[STATE_WORDS];
    _Alignas(64) uint8_t area[MOST_AREA_BYTES];
};

/* One row of the code's table of traps, by code_<arch>.S: addresses in the code as linked. */
struct trap_code {
    const uint8_t *start;   /* entry: loads machine_in, then traps */
    const uint8_t *trap;    /* the instruction that traps */
    const uint8_t *reported;/* the pc that the stop must report; NULL: the target of the jump */
    const uint8_t *second;  /* where to resume: a trap of another kind ... */
    const uint8_t *second_reported;
    const uint8_t *dump;    /* ... and then the code that writes machine_out and returns */
    const char *name;
    uint64_t kind;
};

/* What a trap needs of the registers, and what the fault must say. */
enum trap_kind {
    KIND_BREAKPOINT,
    KIND_ILLEGAL,
    KIND_PRIVILEGED,
    KIND_DIVIDE,
    KIND_LOAD,       /* of bad_page */
    KIND_STORE,      /* to bad_page */
    KIND_BUS,        /* a load beyond the end of a file: of bus_page */
    KIND_MISALIGNED, /* x86-64: movaps */
    KIND_OVERFLOW,   /* a push with the stack pointer at the lowest usable address */
    KIND_JUMP,       /* to bad_page */
    KIND_JUMP_DATA,  /* to data that is not executable */
    KIND_JUMP_WILD,  /* x86-64: to an address that is not canonical; aarch64: not a multiple of four */
    KIND_CHECK,      /* no trap: a call of tl_stub_check */
};

_Static_assert(sizeof(uint64_t) * STATE_WORDS == STATE_AREA, "must match code_<arch>.S");

extern struct machine_state machine_in, machine_out;
extern const struct trap_code trap_codes[];
extern const uint64_t trap_code_count;
extern const uint8_t trap_code_start[], trap_code_stop[], fresh_code[], result_code[];
/* Functions for any test (code_<arch>.S). */
extern const uint8_t loop_plain[], loop_trap[], loop_breakpoint[], loop_check[], loop_host[];
extern const uint8_t mixed_code[], mixed_code_stop[], deep_code[];
/* Addresses that the code reads from memory, so that every register stays free. */
extern uint64_t bad_page, bus_page, data_page, wild_address;

void machine_start(void);
void machine_random(struct machine_state *state, uint64_t *random);
/* Gives the registers what a trap of this kind needs. */
void machine_fit(struct machine_state *state, const struct tl_fiber *fiber, int kind, uint64_t *random);
/* Half the time, a state that the machine can resume at `pc` in another way. */
void machine_fit_resume(struct machine_state *state, uint64_t pc, uint64_t *random);
void machine_to_record(const struct machine_state *state, struct tl_fiber *fiber);
/* NULL, or the name of a register that differs, with both values. The pc is not looked at. `check`: 1 when the
 * state was saved by tl_stub_check, where a few registers are lost by its convention. */
const char *machine_compare_record(const struct machine_state *state, const struct tl_fiber *fiber, int check,
                                   uint64_t *found, uint64_t *expected);
/* Readies machine_out for the code's dump. */
void machine_clear_out(const struct machine_state *state);
const char *machine_compare(const struct machine_state *state, const struct machine_state *other, uint64_t *found,
                            uint64_t *expected);
/* NULL, or which of the registers that fresh_code found is not as a function's caller has to set it. */
const char *machine_compare_fresh(const uint64_t *ints, unsigned int_count, const uint64_t *floats, unsigned float_count,
                                  const uint64_t *words, unsigned word_count);
/* NULL, or what the fault should have said. `address`: of the copy of the code. */
const char *machine_compare_fault(const struct tl_fault *fault, int kind, uint64_t reported_pc);
/* Runs the fiber with random values in everything that a C function keeps, and compares afterwards: NULL or a name. */
const char *machine_run(struct tl_fiber *fiber, uint64_t *random, int *stop);
/* Overwrites every register that C code may overwrite. */
void machine_poison(void);
/* The trap instruction that breakpoints use. */
extern const uint8_t machine_trap[];
extern const unsigned machine_trap_bytes;
/* Where a fiber goes on that stopped at the trap instruction of loop_trap. */
uint64_t machine_pc_after_trap(uint64_t pc);
/* NULL, or what is wrong with the invariant of the loops. *rounds: how often it has gone round. */
const char *machine_check_loop(const struct tl_fiber *fiber, uint64_t *rounds);
/* The same of loop_host, stopped in its call; its argument is `n`. */
const char *machine_check_host(const struct tl_fiber *fiber, uint64_t n, uint64_t *rounds);
/* The bytes of the instruction at `code`, for the few kinds that mixed_code has. */
unsigned machine_instruction_bytes(const uint8_t *code);
/* The pc that a breakpoint at `pc` reports. */
uint64_t machine_reported_pc(uint64_t pc);

#endif
