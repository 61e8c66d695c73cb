/* Stack overflow: with no room left, the fiber stops with every register, can be given more stack, and goes on. */
#define _GNU_SOURCE
#include "common.h"

static uint64_t rng;

CASE(grow_and_go_on) {
    start();
    rng = test_seed;
    unsigned stops = 0;
    for (unsigned i = 0; i < times(300, 60); i++) {
        struct tl_fiber *fiber = new_fiber();
        uint64_t depth = 1 + random_next(&rng) % 20000;
        fiber->path = i % 2 && tl_arch_direct_allowed() ? TL_PATH_DIRECT : TL_PATH_INJECT;
        ready(fiber, at(deep_code), depth);
        int stop;
        for (;;) {
            const char *bad = machine_run(fiber, &rng, &stop);
            CHECK(!bad, "the host lost %s", bad);
            if (stop != TL_STOP_TRAP) break;
            stops++;
            CHECK(tl_fiber_in_guard(fiber, fiber->fault.address), "the fault at %#" PRIx64 " is not in the guard", fiber->fault.address);
            CHECK(tl_arch_sp(fiber) - (uint64_t)fiber->stack_low < 64, "stopped with stack left");
            size_t more = (size_t)(random_next(&rng) % 100000) + 1;
            int error = tl_fiber_grow(fiber, more);
            if (error == TL_ERR_STACK) error = tl_fiber_grow(fiber, tl_page_bytes);
            if (!CHECK(error == 0, "grow: %d, depth %" PRIu64, error, depth)) break;
        }
        CHECK(stop == TL_STOP_FINISHED, "stop %d", stop);
        CHECK_EQUAL(tl_arch_int_result(fiber), depth, "depth");
        tl_fiber_free(fiber);
    }
    test_note(" %u overflows", stops);
}

/* No stack left to give: refused, the fiber still there to be unwound. */
CASE(the_end_of_the_reserve) {
    start();
    struct tl_fiber *fiber = new_fiber();
    ready(fiber, at(deep_code), 1000000);
    int stop, error = 0;
    while ((stop = tl_fiber_run(fiber, 0)) == TL_STOP_TRAP && !error) error = tl_fiber_grow(fiber, 65536);
    CHECK(stop == TL_STOP_TRAP && error == TL_ERR_STACK, "stop %d, error %d", stop, error);
    CHECK(fiber->stack_low == fiber->stack_reserved, "%td bytes were left", fiber->stack_low - fiber->stack_reserved);
    tl_fiber_unwind(fiber);
    CHECK(tl_fiber_run(fiber, 0) == TL_ERR_STATE, "an unwound fiber ran");
    ready(fiber, at(loop_plain), 5);
    CHECK(tl_fiber_run(fiber, 0) == TL_STOP_FINISHED && tl_arch_int_result(fiber) == 5, "the fiber cannot be used again");
    tl_fiber_free(fiber);
    /* From the pool, with its guard back in place. */
    fiber = new_fiber();
    ready(fiber, at(deep_code), 1000000);
    CHECK(tl_fiber_run(fiber, 0) == TL_STOP_TRAP, "no overflow after the pool");
    CHECK(tl_arch_sp(fiber) - (uint64_t)fiber->stack_low < 64, "the pooled stack is larger than it was");
    tl_fiber_free(fiber);
}
