/* Every register, at every kind of trap, by every path: what the record says of them, and what the code finds in them
 * after the host has run, unchanged or rewritten.
 *
 * One round: the code loads random values into all registers and traps; the record must show them. The host runs
 * with other values everywhere, keeps the record or writes another random state, and resumes at a trap of another
 * kind, which must show that state. Once more, and the code writes its registers to memory itself and returns.
 */
#define _GNU_SOURCE
#include "common.h"

static struct tl_fiber *fiber;
static uint64_t rng;

static void begin(void) {
    start();
    rng = test_seed;
    if (!fiber) fiber = new_fiber();
}

static int compare_record(const struct machine_state *state, const char *when, const char *name, int check) {
    uint64_t found, expected;
    const char *bad = machine_compare_record(state, fiber, check, &found, &expected);
    return CHECK(!bad, "%s, %s: %s is %#" PRIx64 " in the record, expected %#" PRIx64, name, when, bad, found, expected);
}

static int run(const struct trap_code *code, const char *when, int wanted) {
    int stop;
    const char *bad = machine_run(fiber, &rng, &stop);
    CHECK(!bad, "%s, %s: the host lost %s", code->name, when, bad);
    return CHECK(stop == wanted, "%s, %s: stop %d, expected %d", code->name, when, stop, wanted);
}

static uint64_t reported_pc(const struct trap_code *code) {
    switch (code->kind) {
    case KIND_JUMP: return bad_page + 32;
    case KIND_JUMP_DATA: return data_page;
    case KIND_JUMP_WILD: return wild_address;
    default: return at(code->reported);
    }
}

/* Leaves `state` as the record has it now, and the fiber ready to resume at pc. */
static void rewrite(struct machine_state *state, uint64_t pc, int check) {
    machine_poison();
    if (check || random_next(&rng) % 2) {
        machine_random(state, &rng);
        machine_fit_resume(state, pc, &rng);
        machine_to_record(state, fiber);
    }
    if (tl_arch_pc(fiber) != pc) tl_arch_set_pc(fiber, pc);
}

static int one(const struct trap_code *code, int path) {
    static struct machine_state state;
    unsigned before = test_failures;
    int check = code->kind == KIND_CHECK;
    machine_random(&state, &rng);
    machine_fit(&state, fiber, (int)code->kind, &rng);
    machine_in = state;
    tl_fiber_reset(fiber, at(code->start));
    fiber->path = (uint8_t)path;
    if (!run(code, "first", check ? TL_STOP_CHECK : TL_STOP_TRAP)) return 0;
    compare_record(&state, "first", code->name, check);
    uint64_t pc = tl_arch_pc(fiber), wanted_pc = reported_pc(code);
    /* Some CPUs report a jump to a wild address at the jump. */
    if (code->kind == KIND_JUMP_WILD && pc == at(code->trap)) wanted_pc = pc;
    CHECK_EQUAL(pc, wanted_pc, code->name);
    if (!check) {
        const char *bad = machine_compare_fault(&fiber->fault, (int)code->kind, wanted_pc);
        CHECK(!bad, "%s: the fault has a wrong %s: signal %d code %d trap %u error %#x address %#" PRIx64, code->name, bad,
              fiber->fault.signal, fiber->fault.code, fiber->fault.trap, fiber->fault.error, fiber->fault.address);
    }
    if (path == TL_PATH_UNWIND && !check) {
        CHECK(fiber->state == TL_UNWOUND, "%s: state %d after unwind", code->name, fiber->state);
        return test_failures == before;
    }
    CHECK(fiber->state == TL_SUSPENDED, "%s: state %d", code->name, fiber->state);
    fiber->path = path == TL_PATH_UNWIND ? TL_PATH_INJECT : (uint8_t)path;

    rewrite(&state, at(code->second), check);
    if (!run(code, "second", TL_STOP_TRAP)) return 0;
    compare_record(&state, "second", code->name, 0);
    CHECK_EQUAL(tl_arch_pc(fiber), at(code->second_reported), "second pc");

    rewrite(&state, at(code->dump), 0);
    machine_clear_out(&state);
    if (!run(code, "dump", TL_STOP_FINISHED)) return 0;
    uint64_t found, expected;
    const char *bad = machine_compare(&state, &machine_out, &found, &expected);
    CHECK(!bad, "%s: the code finds %s = %#" PRIx64 ", expected %#" PRIx64, code->name, bad, found, expected);
    CHECK(fiber->state == TL_FINISHED, "%s: state %d after the end", code->name, fiber->state);
    return test_failures == before;
}

static void rounds(int path, unsigned count) {
    unsigned done = 0;
    begin();
    for (uint64_t k = 0; k < trap_code_count; k++) {
        unsigned i = 0;
        while (i < count && one(&trap_codes[k], path)) i++;
        done += i;
    }
    test_note(" %u rounds of %u kinds", done, (unsigned)trap_code_count);
}

/* A fresh fiber: arguments and control registers as a C function expects them, whatever the host's are. */
CASE(start) {
    begin();
    machine_random(&machine_in, &rng);
    for (unsigned i = 0; i < times(2000, 500); i++) {
        uint64_t ints[8], floats[8], words[9];
        unsigned int_count = 0, float_count = 0, word_count = (unsigned)(random_next(&rng) % 10);
        for (unsigned k = 0; k < 8; k++) ints[k] = random_next(&rng), floats[k] = random_next(&rng);
        for (unsigned k = 0; k < word_count; k++) words[k] = random_next(&rng);
        tl_fiber_reset(fiber, at(fresh_code));
        while (int_count < 8 && tl_arch_set_int(fiber, int_count, ints[int_count]) == 0) int_count++;
        CHECK(tl_arch_set_int(fiber, 8, 0) == -1, "there is a ninth integer register");
        while (float_count < 8 && tl_arch_set_float(fiber, float_count, floats[float_count]) == 0) float_count++;
        CHECK(tl_arch_set_float(fiber, 8, 0) == -1, "there is a ninth float register");
        if (word_count) tl_arch_stack_words(fiber, words, word_count);
        int interrupted = i % 3 == 0, stop;
        machine_clear_out(&machine_in);
        if (interrupted) tl_fiber_interrupt(fiber);
        const char *bad = machine_run(fiber, &rng, &stop);
        CHECK(!bad, "the host lost %s", bad);
        if (interrupted) { /* before its first instruction: now resumed, not entered */
            CHECK(stop == TL_STOP_INTERRUPT, "stop %d, expected an interrupt", stop);
            CHECK(tl_arch_pc(fiber) == at(fresh_code), "interrupted at %#" PRIx64, tl_arch_pc(fiber));
            bad = machine_run(fiber, &rng, &stop);
            CHECK(!bad, "the host lost %s after an interrupt", bad);
        }
        CHECK(stop == TL_STOP_FINISHED, "stop %d", stop);
        bad = machine_compare_fresh(ints, int_count, floats, float_count, words, word_count);
        CHECK(!bad, "entered with a wrong %s (interrupted: %d)", bad, interrupted);

        tl_fiber_reset(fiber, at(result_code));
        tl_arch_set_int(fiber, 0, ints[0]);
        tl_arch_set_float(fiber, 7, floats[7]);
        machine_run(fiber, &rng, &stop);
        CHECK(stop == TL_STOP_FINISHED, "stop %d", stop);
        CHECK_EQUAL(tl_arch_int_result(fiber), ints[0], "integer result");
        CHECK_EQUAL(tl_arch_float_result(fiber), floats[7], "float result");
    }
}

CASE(inject) { rounds(TL_PATH_INJECT, times(1500, 500)); }
CASE(direct) {
    start();
    if (!tl_arch_direct_allowed()) SKIP("this machine or kernel does not allow leaving a handler without sigreturn");
    rounds(TL_PATH_DIRECT, times(1500, 500));
}
CASE(unwind) { rounds(TL_PATH_UNWIND, times(800, 300)); }
