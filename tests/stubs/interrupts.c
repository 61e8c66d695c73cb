/* Interrupts from another thread at random moments: each request stops the fiber exactly once, wherever it was, and
 * nothing that the fiber computes is disturbed.
 *
 * Two threads in turn: the asker waits a random while and asks; the runner runs the fiber over and over, counts its
 * stops of every kind, and answers the request when an interrupt arrives. */
#define _GNU_SOURCE
#include "common.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "signals.h"

#define PATIENCE_S 5
#define LIMIT_S 2.5 /* of a case: on a busy machine the two threads wait for each other */
#define FEWEST 200

static struct tl_fiber *fiber;
static _Atomic unsigned asked, answered, wanted, done;

static void *asker(void *raw) {
    uint64_t rng = *(uint64_t *)raw;
    double end = seconds_now() + LIMIT_S;
    for (unsigned i = 0; i < wanted && !done; i++) {
        if (i % 16 == 0 && i >= FEWEST && seconds_now() > end) break;
        unsigned spin = (unsigned)(random_next(&rng) % (i % 4 ? 3000 : 60));
        for (volatile unsigned k = 0; k < spin; k++) {}
        atomic_fetch_add(&asked, 1);
        tl_fiber_interrupt(fiber);
        double until = seconds_now() + PATIENCE_S;
        while (answered != asked && !done) {
            sched_yield();
            if (!CHECK(seconds_now() < until, "request %u was not answered in %d s", asked, PATIENCE_S)) done = 1;
        }
    }
    done = 1;
    tl_fiber_interrupt(fiber); /* the last one ends the run */
    return NULL;
}

/* One run, and what follows from its stop. `pc` is the function, to start again when it returns. */
static void once(uint64_t pc, uint64_t argument, uint64_t counts[4]) {
    uint64_t rounds;
    int stop = tl_fiber_run(fiber, 0);
    if (!CHECK(stop >= 0 && stop < 4, "error %d", stop)) exit(1);
    counts[stop]++;
    switch (stop) {
    case TL_STOP_INTERRUPT:
        CHECK(fiber->interrupts == TL_PENDING_INTERRUPT, "bits %#x", fiber->interrupts);
        if (done) return;
        CHECK(asked == answered + 1, "an interrupt that nobody asked for: %u asked, %u answered", asked, answered);
        answered = asked;
        break;
    case TL_STOP_TRAP:
        if (fiber->fault.signal != SIGTRAP) tl_arch_set_pc(fiber, machine_pc_after_trap(tl_arch_pc(fiber)));
#if defined(__aarch64__)
        else tl_arch_set_pc(fiber, tl_arch_pc(fiber) + 4);
#endif
        break;
    case TL_STOP_FINISHED:
        CHECK_EQUAL(tl_arch_int_result(fiber), argument, "the loop's result");
        ready(fiber, pc, argument);
        return;
    }
    uint64_t code = tl_arch_pc(fiber);
    if (code < pc + 32) return; /* not yet in the loop */
    const char *bad = machine_check_loop(fiber, &rounds);
    CHECK(!bad, "after stop %d at %#" PRIx64 ": %s breaks the loop's invariant", stop, code, bad);
}

static void session(const uint8_t *function, uint64_t argument, int path, unsigned requests) {
    pthread_t thread;
    uint64_t counts[4] = {0}, seed = test_seed;
    start();
    fiber = new_fiber();
    fiber->path = (uint8_t)path;
    asked = answered = done = 0;
    wanted = requests;
    ready(fiber, at(function), argument);
    NEED(pthread_create(&thread, NULL, asker, &seed) == 0);
    while (!done || counts[TL_STOP_INTERRUPT] <= answered) once(at(function), argument, counts);
    pthread_join(thread, NULL);
    CHECK(asked == answered && asked >= FEWEST, "%u asked, %u answered", asked, answered);
    CHECK(counts[TL_STOP_INTERRUPT] == asked + 1, "%" PRIu64 " stops of %u requests", counts[TL_STOP_INTERRUPT], asked + 1);
    test_note(" %" PRIu64 " interrupts, %" PRIu64 " traps, %" PRIu64 " checks, %" PRIu64 " ends", counts[TL_STOP_INTERRUPT],
              counts[TL_STOP_TRAP], counts[TL_STOP_CHECK], counts[TL_STOP_FINISHED]);
    tl_fiber_free(fiber);
}

CASE(endless_loop) { session(loop_plain, 0, TL_PATH_INJECT, times(20000, 2000)); }
CASE(endless_loop_direct) { session(loop_plain, 0, TL_PATH_DIRECT, times(10000, 1000)); }
CASE(trapping_loop) { session(loop_trap, 0, TL_PATH_INJECT, times(10000, 1000)); }
CASE(trapping_loop_direct) { session(loop_breakpoint, 0, TL_PATH_DIRECT, times(10000, 1000)); }
CASE(checking_loop) { session(loop_check, 0, TL_PATH_INJECT, times(20000, 2000)); }
CASE(short_calls) { session(loop_plain, 40, TL_PATH_INJECT, times(20000, 2000)); }
CASE(short_calls_with_traps) { session(loop_breakpoint, 2, TL_PATH_INJECT, times(10000, 1000)); }
CASE(short_calls_with_checks) { session(loop_check, 3, TL_PATH_DIRECT, times(10000, 1000)); }

/* Signals with a handler like CPython's, which takes a note: the handler runs, the fiber stops, and the signal is not left
 * blocked, whatever mask its handler has. */
static _Atomic unsigned noted;

static void take_note(int sig) { noted += sig == SIGUSR1; }

static void *sender(void *raw) {
    for (unsigned i = 0; i < wanted && !done; i++) {
        pthread_kill(*(pthread_t *)raw, SIGUSR1);
        double until = seconds_now() + PATIENCE_S;
        while (answered <= i && !done) {
            sched_yield();
            if (!CHECK(seconds_now() < until, "signal %u did not arrive in %d s", i, PATIENCE_S)) done = 1;
        }
    }
    done = 1;
    tl_fiber_interrupt(fiber);
    return NULL;
}

static void signals(int path) {
    pthread_t thread, self = pthread_self();
    struct sigaction action = {.sa_handler = take_note, .sa_flags = SA_ONSTACK};
    start();
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGUSR2);
    NEED(sigaction(SIGUSR1, &action, NULL) == 0);
    tl_signals_set_python((const void *)take_note);
    tl_signals_hook_python();
    fiber = new_fiber();
    fiber->path = (uint8_t)path;
    noted = answered = done = 0;
    wanted = times(500, 100);
    ready(fiber, at(loop_plain), 1); /* makes this thread known as the main thread */
    CHECK(tl_fiber_run(fiber, 0) == TL_STOP_FINISHED, "not finished");
    ready(fiber, at(loop_plain), 0);
    NEED(pthread_create(&thread, NULL, sender, &self) == 0);
    while (!done) {
        int stop = tl_fiber_run(fiber, 0);
        CHECK(stop == TL_STOP_INTERRUPT, "stop %d", stop);
        if (!(fiber->interrupts & TL_PENDING_SIGNAL)) continue;
        atomic_store(&tl_self.signalled, 0); /* as a host does that lets the Python handlers run */
        sigset_t mask;
        pthread_sigmask(SIG_BLOCK, NULL, &mask);
        CHECK(!sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGUSR2), "a signal is left blocked");
        answered++;
    }
    pthread_join(thread, NULL);
    CHECK(noted == wanted && answered == wanted, "%u noted, %u stops, of %u", noted, answered, wanted);
    test_note(" %u signals", noted);
    tl_fiber_free(fiber);
}

CASE(python_signals) { signals(TL_PATH_INJECT); }
CASE(python_signals_direct) { signals(TL_PATH_DIRECT); }

/* Before the first run, between runs, and after the end: seen by the next run, once. */
CASE(while_suspended) {
    uint64_t counts[4] = {0};
    start();
    fiber = new_fiber();
    ready(fiber, at(loop_check), 3);
    for (unsigned i = 0; i < 4; i++) {
        tl_fiber_interrupt(fiber);
        tl_fiber_interrupt(fiber);
        CHECK(tl_fiber_run(fiber, 0) == TL_STOP_INTERRUPT, "round %u: no interrupt", i);
        int stop = tl_fiber_run(fiber, 0);
        counts[stop]++;
    }
    CHECK(counts[TL_STOP_CHECK] == 3 && counts[TL_STOP_FINISHED] == 1, "%" PRIu64 " checks", counts[TL_STOP_CHECK]);
    tl_fiber_free(fiber);
}
