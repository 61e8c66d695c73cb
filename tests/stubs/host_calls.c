/* The light switch to the host: what it keeps for the code and for the host, and what may happen between it and the
 * resume. */
#define _GNU_SOURCE
#include "common.h"

#include <pthread.h>
#include <sched.h>

#include "signals.h"

#define N 5

/* Each stop and each resume with random values in what a C function keeps, and poison in the rest. */
CASE(keeps_registers) {
    start();
    struct tl_fiber *fiber = new_fiber();
    uint64_t random = test_seed;
    for (unsigned turn = 0; turn < times(200, 20); turn++) {
        ready(fiber, at(loop_host), N);
        for (uint64_t k = 1; k <= N; k++) {
            int stop;
            uint64_t rounds = 0;
            const char *lost = machine_run(fiber, &random, &stop);
            CHECK(!lost, "the host lost %s", lost);
            CHECK_EQUAL(stop, TL_STOP_HOST, "stop");
            CHECK_EQUAL(fiber->state, TL_SUSPENDED, "state");
            CHECK_EQUAL(fiber->started, TL_STARTED_HOST, "how it goes on");
            const char *bad = machine_check_host(fiber, N, &rounds);
            CHECK(!bad, "the record has another %s", bad);
            CHECK_EQUAL(rounds, k, "round");
            struct tl_request request = tl_arch_request(fiber);
            CHECK_EQUAL(request.kind, 1, "kind");
            CHECK_EQUAL(request.words, tl_arch_sp(fiber), "words");
            CHECK_EQUAL(request.block, N, "block");
            tl_arch_end_request(fiber);
            CHECK_EQUAL(tl_arch_request(fiber).kind, 0, "kind of an answered request");
            machine_poison();
        }
        CHECK_EQUAL(tl_fiber_run(fiber, 0), TL_STOP_FINISHED, "stop");
        CHECK_EQUAL(tl_arch_int_result(fiber), N, "result");
    }
    tl_fiber_free(fiber);
}

/* An interrupt while the host answers ends the next run at once; the one after that is light again. */
CASE(interrupt_between) {
    start();
    struct tl_fiber *fiber = new_fiber();
    ready(fiber, at(loop_host), N);
    for (uint64_t k = 1; k <= N; k++) {
        CHECK_EQUAL(tl_fiber_run(fiber, 0), TL_STOP_HOST, "stop");
        uint64_t pc = tl_arch_pc(fiber), rounds = 0;
        for (unsigned again = 0; again < 2; again++) {
            tl_fiber_interrupt(fiber);
            CHECK_EQUAL(tl_fiber_run(fiber, 0), TL_STOP_INTERRUPT, "stop");
            CHECK_EQUAL(fiber->interrupts, TL_PENDING_INTERRUPT, "bits");
            CHECK_EQUAL(fiber->started, TL_STARTED_HOST, "how it goes on");
            CHECK_EQUAL(tl_arch_pc(fiber), pc, "pc");
            CHECK(!machine_check_host(fiber, N, &rounds), "registers after an interrupt");
            machine_poison();
        }
    }
    CHECK_EQUAL(tl_fiber_run(fiber, 0), TL_STOP_FINISHED, "stop");
    CHECK_EQUAL(tl_arch_int_result(fiber), N, "result");
    tl_fiber_free(fiber);
}

/* A host that writes registers makes the record count as a whole: the other resume takes it as it is. */
CASE(full_resume) {
    start();
    struct tl_fiber *fiber = new_fiber();
    for (unsigned turn = 0; turn < 2; turn++) {
        ready(fiber, at(loop_host), N);
        int stop, hosts = 0;
        while ((stop = tl_fiber_run(fiber, 0)) == TL_STOP_HOST) {
            hosts++;
            fiber->started = hosts % 2 ? TL_STARTED : TL_STARTED_HOST;
            machine_poison();
        }
        CHECK_EQUAL(stop, TL_STOP_FINISHED, "stop");
        CHECK_EQUAL(hosts, N, "host calls");
        CHECK_EQUAL(tl_arch_int_result(fiber), N, "result");
        /* The second time on what traps have left in the record. */
        ready(fiber, at(loop_trap), 2);
        while (tl_fiber_run(fiber, 0) == TL_STOP_TRAP) tl_arch_set_pc(fiber, machine_pc_after_trap(tl_arch_pc(fiber)));
        CHECK_EQUAL(tl_arch_int_result(fiber), 2, "result");
    }
    tl_fiber_free(fiber);
}

/* A record with a pc where no code is: the fiber stops there, and goes on when the host puts it right. */
CASE(bad_pc) {
    start();
    struct tl_fiber *fiber = new_fiber();
    ready(fiber, at(loop_host), 2);
    CHECK_EQUAL(tl_fiber_run(fiber, 0), TL_STOP_HOST, "stop");
    uint64_t pc = tl_arch_pc(fiber), sp = tl_arch_sp(fiber);
    tl_arch_set_pc(fiber, bad_page);
    CHECK_EQUAL(tl_fiber_run(fiber, 0), TL_STOP_TRAP, "stop");
    CHECK_EQUAL(tl_arch_pc(fiber), bad_page, "pc");
    CHECK_EQUAL(tl_arch_sp(fiber), sp, "sp");
    CHECK(fiber->fault.fetch, "no fault of a fetch");
    tl_arch_set_pc(fiber, pc);
    CHECK_EQUAL(tl_fiber_run(fiber, 0), TL_STOP_HOST, "stop");
    CHECK_EQUAL(tl_fiber_run(fiber, 0), TL_STOP_FINISHED, "stop");
    tl_fiber_free(fiber);
}

/* ---- interrupts from another thread ---- */

static _Atomic unsigned sent, seen;
static _Atomic int over;

static void *sender(void *raw) {
    uint64_t random = test_seed;
    while (!over) {
        if (seen != sent) {
            sched_yield();
            continue;
        }
        for (volatile uint64_t wait = random_next(&random) % 4096; wait; wait--) {}
        sent++;
        tl_fiber_interrupt(raw);
    }
    return NULL;
}

#define FEWEST 100
#define LIMIT_S 2.5

/* Each is seen once, and before the next is sent. */
CASE(interrupts_in_a_storm) {
    start();
    struct tl_fiber *fiber = new_fiber();
    const unsigned n = times(20000, 1000);
    double end = seconds_now() + LIMIT_S;
    pthread_t thread;
    sent = seen = 0;
    over = 0;
    ready(fiber, at(loop_host), n);
    NEED(pthread_create(&thread, NULL, sender, fiber) == 0);
    unsigned hosts = 0;
    for (;;) {
        uint64_t rounds;
        int stop = tl_fiber_run(fiber, 0);
        if (stop == TL_STOP_FINISHED) {
            CHECK_EQUAL(hosts, n, "host calls");
            CHECK_EQUAL(tl_arch_int_result(fiber), n, "result");
            if ((seen >= FEWEST && !EMULATED) || seconds_now() > end) break;
            ready(fiber, at(loop_host), n);
            hosts = 0;
            continue;
        }
        if (stop == TL_STOP_HOST) {
            hosts++;
            const char *bad = machine_check_host(fiber, n, &rounds);
            CHECK(!bad && rounds == hosts, "%s, round %" PRIu64 " at call %u", bad ? bad : "nothing", rounds, hosts);
        } else if (CHECK(stop == TL_STOP_INTERRUPT, "stop %d", stop)) {
            seen++;
        } else {
            break;
        }
    }
    over = 1;
    pthread_join(thread, NULL);
    CHECK(sent - seen <= 1, "%u sent, %u seen", sent, seen);
    test_note(" %u interrupts", seen);
    tl_fiber_free(fiber);
}
