/* Each transition once or twice, and nothing else: what a debugger steps through in test_unwinding.py. */
#include "common.h"

CASE(each_way) {
    start();
    struct tl_fiber *fiber = new_fiber();
    for (int path = TL_PATH_INJECT; path <= TL_PATH_DIRECT; path++) {
        if (path == TL_PATH_DIRECT && !tl_arch_direct_allowed()) continue;
        ready(fiber, at(loop_check), 2);
        while (tl_fiber_run(fiber, 0) == TL_STOP_CHECK) {}
        CHECK_EQUAL(tl_arch_int_result(fiber), 2, "result");
        ready(fiber, at(loop_host), 2);
        CHECK(tl_fiber_run(fiber, 0) == TL_STOP_HOST, "no host call");
        tl_fiber_interrupt(fiber);
        CHECK(tl_fiber_run(fiber, 0) == TL_STOP_INTERRUPT, "no interrupt at the way back from a host call");
        while (tl_fiber_run(fiber, 0) == TL_STOP_HOST) {}
        CHECK_EQUAL(tl_arch_int_result(fiber), 2, "result");
        fiber->path = (uint8_t)path;
        ready(fiber, at(loop_trap), 2);
        while (tl_fiber_run(fiber, 0) == TL_STOP_TRAP) tl_arch_set_pc(fiber, machine_pc_after_trap(tl_arch_pc(fiber)));
        CHECK_EQUAL(tl_arch_int_result(fiber), 2, "result");
        tl_fiber_interrupt(fiber);
        ready(fiber, at(loop_plain), 1);
        CHECK(tl_fiber_run(fiber, 0) == TL_STOP_INTERRUPT, "no interrupt before the first instruction");
        tl_fiber_interrupt(fiber);
        CHECK(tl_fiber_run(fiber, 0) == TL_STOP_INTERRUPT, "no interrupt at a resume");
        CHECK(tl_fiber_run(fiber, 0) == TL_STOP_FINISHED, "not finished");
    }
    ready(fiber, at(loop_trap), 1);
    fiber->path = TL_PATH_UNWIND;
    CHECK(tl_fiber_run(fiber, 0) == TL_STOP_TRAP && fiber->state == TL_UNWOUND, "not unwound");
    tl_fiber_free(fiber);
}
