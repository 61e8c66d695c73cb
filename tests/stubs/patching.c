/* Patches: a breakpoint at every instruction of a function in turn, and a copy patched while a thread runs it. */
#define _GNU_SOURCE
#include "common.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

static uint64_t mixed_result(uint64_t n) {
    uint64_t sum = 0;
    for (; n; n--) sum += n * 2 * 7 ^ 0x55;
    return sum;
}

static struct tl_code *copy;
static uint64_t copy_base;

static void make_copy(void) {
    int error;
    start();
    copy = tl_code_copy(image, 0, NULL, &error);
    NEED(copy);
    copy_base = tl_code_base(copy);
}

/* qemu 7.2 does not see a write by an alias to code that it has translated; a change of protection it sees. */
static void show_patches(void) {
    if (!EMULATED) return;
    NEED(mprotect((void *)copy_base, tl_code_used(copy), PROT_READ) == 0);
    NEED(mprotect((void *)copy_base, tl_code_used(copy), PROT_READ | PROT_EXEC) == 0);
}

static int image_unchanged(void) {
    size_t bytes = (size_t)(trap_code_stop - trap_code_start);
    uint8_t *now = malloc(bytes);
    NEED(now && tl_code_read(image, code_offset, now, bytes) == 0);
    int same = memcmp(now, trap_code_start, bytes) == 0;
    free(now);
    return same;
}

/* Runs to the breakpoint at `offset`, takes it away, and goes on from there to the end. */
static void stop_at(struct tl_fiber *fiber, size_t offset, unsigned bytes, uint64_t n, int path) {
    uint8_t original[16];
    uint64_t trap_pc = 0;
    NEED(bytes <= sizeof original && tl_code_read(copy, offset, original, bytes) == 0);
    CHECK(tl_code_patch(copy, offset, machine_trap, machine_trap_bytes) == 0, "patch at %#zx", offset);
    show_patches();
    ready(fiber, copy_base + offset_of(mixed_code), n);
    fiber->path = (uint8_t)path;
    int stop = tl_fiber_run(fiber, 0);
    CHECK(stop == TL_STOP_TRAP, "offset %#zx: stop %d", offset, stop);
    CHECK(tl_arch_breakpoint_pc(fiber, &trap_pc), "offset %#zx: signal %d is no breakpoint", offset, fiber->fault.signal);
    CHECK_EQUAL(trap_pc, copy_base + offset, "trap pc");
    CHECK_EQUAL(tl_arch_pc(fiber), machine_reported_pc(copy_base + offset), "reported pc");
    CHECK(tl_code_patch(copy, offset, original, machine_trap_bytes) == 0, "patch back at %#zx", offset);
    show_patches();
    tl_arch_set_pc(fiber, trap_pc);
    stop = tl_fiber_run(fiber, 0);
    CHECK(stop == TL_STOP_FINISHED, "offset %#zx: stop %d after going on", offset, stop);
    CHECK_EQUAL(tl_arch_int_result(fiber), mixed_result(n), "result");
}

CASE(every_instruction) {
    make_copy();
    struct tl_fiber *fiber = new_fiber();
    unsigned stops = 0;
    const uint8_t *code = mixed_code;
    while (code < mixed_code_stop) {
        unsigned bytes = machine_instruction_bytes(code);
        for (uint64_t n = 1; n < 8; n++) {
            stop_at(fiber, offset_of(code), bytes, n, n % 2 && tl_arch_direct_allowed() ? TL_PATH_DIRECT : TL_PATH_INJECT);
            stops++;
        }
        code += bytes;
    }
    CHECK(code == mixed_code_stop, "the instructions do not add up");
    CHECK(image_unchanged(), "the image has changed");
    test_note(" %u stops", stops);
    tl_fiber_free(fiber);
    CHECK(tl_code_free(copy) == 0, "the copy cannot be freed");
}

/* ---- while it runs ---- */

static _Atomic int running;
static uint64_t hits;

static void *run_copy(void *unused) {
    (void)unused;
    struct tl_fiber *fiber = new_fiber();
    fiber->path = tl_arch_direct_allowed() ? TL_PATH_DIRECT : TL_PATH_INJECT;
    while (running) {
        ready(fiber, copy_base + offset_of(mixed_code), 20);
        for (;;) {
            uint64_t trap_pc;
            int stop = tl_fiber_run(fiber, 0);
            if (stop == TL_STOP_FINISHED) break;
            if (!CHECK(stop == TL_STOP_TRAP && tl_arch_breakpoint_pc(fiber, &trap_pc),
                       "stop %d, signal %d at %#" PRIx64 ", fault address %#" PRIx64, stop, fiber->fault.signal, tl_arch_pc(fiber),
                       fiber->fault.address))
                return NULL;
            hits++;
            tl_arch_set_pc(fiber, trap_pc); /* again and again, until it is taken away */
        }
        if (!CHECK(tl_arch_int_result(fiber) == mixed_result(20), "result %#" PRIx64, tl_arch_int_result(fiber))) return NULL;
    }
    tl_fiber_free(fiber);
    return NULL;
}

CASE(while_running) {
    if (EMULATED) SKIP("qemu 7.2 does not see a write by an alias to code that it has translated");
    make_copy();
    pthread_t thread;
    uint64_t rng = test_seed;
    const uint8_t *starts[128];
    unsigned count = 0, patches = 0;
    for (const uint8_t *code = mixed_code; code < mixed_code_stop; code += machine_instruction_bytes(code)) starts[count++] = code;
    running = 1;
    hits = 0;
    NEED(pthread_create(&thread, NULL, run_copy, NULL) == 0);
    while (patches < times(100000, 0) && !test_failures) {
        size_t offset = offset_of(starts[random_next(&rng) % count]);
        uint8_t original[4];
        tl_code_read(copy, offset, original, machine_trap_bytes);
        patches += tl_code_patch(copy, offset, machine_trap, machine_trap_bytes) == 0;
        if (patches % 64 == 1) sched_yield();
        patches += tl_code_patch(copy, offset, original, machine_trap_bytes) == 0;
        if (patches % 2000 == 0) { /* a fresh copy's page goes from the image's to its own while the thread is in it */
            running = 0;
            pthread_join(thread, NULL);
            NEED(tl_code_free(copy) == 0);
            make_copy();
            running = 1;
            NEED(pthread_create(&thread, NULL, run_copy, NULL) == 0);
        }
    }
    running = 0;
    pthread_join(thread, NULL);
    CHECK(image_unchanged(), "the image has changed");
    CHECK(hits > 0, "the thread never met a patch");
    test_note(" %u patches, %" PRIu64 " breakpoints hit", patches, hits);
    CHECK(tl_code_free(copy) == 0, "the copy cannot be freed");
}
