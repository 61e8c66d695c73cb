/* Every register, at every kind of trap, by every path: what the record says of them, and what the code finds in them
 * after the host has run, unchanged or rewritten.
 *
 * One round: the code loads random values into all registers and traps; the record must show them. The host runs
 * with other values everywhere, keeps the record or writes another random state, and resumes at a trap of another
 * kind, which must show that state. Once more, and the code writes its registers to memory itself and returns.
 */
#define _GNU_SOURCE
#include "check.h"

#include "code.h"
#include "context.h"

static struct tl_code *image;
static struct tl_fiber *fiber;
static uint64_t base, rng;

static uint64_t at(const uint8_t *linked) { return base + (uint64_t)(linked - trap_code_start); }

static void start(void) {
    int error;
    size_t offset, bytes = (size_t)(trap_code_stop - trap_code_start);
    rng = test_seed;
    if (image) return;
    NEED(tl_start() == 0);
    machine_start();
    image = tl_code_image(bytes, &error);
    NEED(image && tl_code_publish(image, trap_code_start, bytes, 64, &offset) == 0);
    base = tl_code_base(image) + offset;
    fiber = tl_fiber_new(65536, 1 << 20, &error);
    NEED(fiber);
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
    start();
    for (uint64_t k = 0; k < trap_code_count; k++) {
        unsigned i = 0;
        while (i < count && one(&trap_codes[k], path)) i++;
        done += i;
    }
    test_note(" %u rounds of %u kinds", done, (unsigned)trap_code_count);
}

CASE(inject) { rounds(TL_PATH_INJECT, times(1500, 60)); }
CASE(direct) {
    start();
    if (!tl_arch_direct_allowed()) SKIP("this machine or kernel does not allow leaving a handler without sigreturn");
    rounds(TL_PATH_DIRECT, times(1500, 60));
}
CASE(unwind) { rounds(TL_PATH_UNWIND, times(800, 40)); }
