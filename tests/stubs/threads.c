/* Fibers on several threads: handed from one to another at each stop, and four threads of mixed traps at once. */
#define _GNU_SOURCE
#include "common.h"

#include <pthread.h>
#include <sched.h>

#define THREADS 4

/* A fiber goes round the threads: each resumes it once, in turn. */
static struct tl_fiber *handed;
static _Atomic unsigned turn;
static unsigned turns;

static void *take_turns(void *raw) {
    unsigned me = (unsigned)(uintptr_t)raw;
    uint64_t rng = test_seed + me, rounds;
    while (turn < turns) {
        if (turn % THREADS != me) {
            sched_yield();
            continue;
        }
        int stop;
        const char *bad = machine_run(handed, &rng, &stop);
        CHECK(!bad, "thread %u lost %s", me, bad);
        if (stop == TL_STOP_TRAP) tl_arch_set_pc(handed, machine_pc_after_trap(tl_arch_pc(handed)));
        CHECK(stop == TL_STOP_TRAP, "thread %u: stop %d", me, stop);
        bad = machine_check_loop(handed, &rounds);
        CHECK(!bad, "thread %u: %s breaks the loop's invariant", me, bad);
        CHECK_EQUAL(rounds, turn + 1, "rounds");
        machine_poison();
        turn++;
    }
    return NULL;
}

CASE(handed_over) {
    pthread_t threads[THREADS];
    start();
    handed = new_fiber();
    ready(handed, at(loop_trap), 0);
    turn = 0;
    turns = times(4000, 800);
    for (uintptr_t i = 0; i < THREADS; i++) NEED(pthread_create(&threads[i], NULL, take_turns, (void *)i) == 0);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    test_note(" %u stops on %u threads", turn, THREADS);
    tl_fiber_free(handed);
}

/* Each thread with fibers of its own, of all loops and paths. Threads come and go. */
static _Atomic unsigned long total;

static void *mix(void *raw) {
    uint64_t rng = test_seed ^ (uint64_t)(uintptr_t)raw;
    const uint8_t *const loops[] = {loop_trap, loop_breakpoint, loop_check};
    unsigned count = times(60, 12), stops = 0;
    for (unsigned i = 0; i < count; i++) {
        struct tl_fiber *fiber = new_fiber();
        const uint8_t *loop = loops[random_next(&rng) % 3];
        uint64_t argument = 1 + random_next(&rng) % 200, seen = 0, rounds;
        fiber->path = random_next(&rng) % 2 && tl_arch_direct_allowed() ? TL_PATH_DIRECT : TL_PATH_INJECT;
        ready(fiber, at(loop), argument);
        for (;;) {
            int stop;
            const char *bad = machine_run(fiber, &rng, &stop);
            CHECK(!bad, "the host lost %s", bad);
            if (stop == TL_STOP_FINISHED) break;
            seen++;
            bad = machine_check_loop(fiber, &rounds);
            CHECK(!bad && rounds == seen, "%s breaks the invariant, %" PRIu64 " rounds of %" PRIu64, bad, rounds, seen);
            if (!CHECK(stop == (loop == loop_check ? TL_STOP_CHECK : TL_STOP_TRAP), "stop %d", stop)) break;
            if (loop == loop_trap) tl_arch_set_pc(fiber, machine_pc_after_trap(tl_arch_pc(fiber)));
            if (loop == loop_breakpoint) {
                uint64_t trap_pc;
                CHECK(tl_arch_breakpoint_pc(fiber, &trap_pc), "no breakpoint");
                tl_arch_set_pc(fiber, trap_pc + machine_trap_bytes);
            }
        }
        CHECK(seen == argument, "%" PRIu64 " stops of %" PRIu64, seen, argument);
        CHECK_EQUAL(tl_arch_int_result(fiber), argument, "result");
        stops += (unsigned)seen;
        tl_fiber_free(fiber);
    }
    total += stops;
    return NULL;
}

CASE(mixed_traps) {
    pthread_t threads[THREADS];
    start();
    total = 0;
    for (unsigned round = 0; round < 5; round++) {
        for (uintptr_t i = 0; i < THREADS; i++)
            NEED(pthread_create(&threads[i], NULL, mix, (void *)(round * THREADS + i)) == 0);
        for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    }
    test_note(" %lu stops on %u threads", total, THREADS * 5);
}
