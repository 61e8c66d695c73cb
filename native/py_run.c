/* Running a fiber from Python: errors in words, what a stop means, the GIL, Python's signals. */
#define _GNU_SOURCE
#include "py_core.h"

#include <pthread.h>

#include "code.h"
#include "context.h"
#include "py_wasm.h"
#include "signals.h"
#include "threads.h"

static const char *state_words[] = {"ready to start", "running", "suspended", "finished", "unwound", "lost in a fork"};

uint8_t py_state(const struct tl_fiber *f) {
    return f->state == TL_RUNNING && f->fork_generation != tl_fork_generation ? TL_LOST : f->state;
}

void *py_state_error(const FiberObject *self, const char *wanted) {
    /* %p: before 3.12 PyErr_Format knows no %llx */
    PyErr_Format(py_fiber_error, "fiber %U at pc %p: it is %s; %s", self->name,
                 (void *)(uintptr_t)tl_arch_pc(self->fiber), state_words[py_fiber_state(self)], wanted);
    return NULL;
}

void *py_core_error(PyObject *name, int error) {
    switch (error) {
    case TL_ERR_STATE:
        return PyErr_Format(py_fiber_error, "fiber %U: found one that cannot run; expected a ready or suspended one", name);
    case TL_ERR_LOST:
        return PyErr_Format(py_fiber_error,
                            "fiber %U: it was running in another thread when the process forked; that thread is not "
                            "in the child, so nothing is left to resume", name);
    case TL_ERR_STACK:
        return PyErr_Format(py_fiber_error, "fiber %U: its stack has no more room to grow into", name);
    default:
        return PyErr_Format(py_native_error, "fiber %U: the system refused: %s", name, strerror(-error));
    }
}

/* Puts the pc and the stack pointer where the program means to be. */
static void apply(struct tl_fiber *f, const struct tl_slot_place *meaning) {
    int from_register = meaning->pc_register >= 0;
    tl_arch_set_pc(f, from_register ? tl_arch_register(f, (unsigned)meaning->pc_register) : meaning->pc);
    if (meaning->sp_adjust) tl_arch_add_sp(f, meaning->sp_adjust);
}

/* What the pc means after a stop, and what kind of event the stop is. Patches, slots and stepping copies are ours:
 * the pc that is left in the record is the one in the code the fiber belongs to. */
static enum event_kind settle(struct tl_fiber *f, int stop, uint64_t reported_pc) {
    uint64_t trap_pc;
    struct tl_slot_place meaning;
    f->reported_pc = 0;
    if (stop == TL_STOP_FINISHED) return EVENT_FINISHED;
    if (stop == TL_STOP_TRAP && tl_arch_breakpoint_pc(f, &trap_pc)) {
        enum tl_place place = tl_code_place(trap_pc, &meaning);
        if (place == TL_PLACE_BREAKPOINT || place == TL_PLACE_STEP) {
            apply(f, &meaning);
            if (place == TL_PLACE_STEP && !tl_code_breakpoint_slot(meaning.pc)) return EVENT_STEP;
            f->reported_pc = meaning.pc;
            return EVENT_BREAKPOINT;
        }
        /* A breakpoint was taken away after this thread hit it: run the instruction that is back in place, unless
         * that is a trap of the program's own. */
        if (place == TL_PLACE_GONE && !tl_arch_is_trap((const void *)(uintptr_t)trap_pc)) {
            tl_arch_set_pc(f, trap_pc);
            return EVENT_NONE;
        }
        if (place != TL_PLACE_SLOT) return EVENT_TRAP;
    }
    enum tl_place place = tl_code_place(tl_arch_pc(f), &meaning);
    if (place == TL_PLACE_STEP || place == TL_PLACE_SLOT) apply(f, &meaning);
    if (stop == TL_STOP_TRAP) return EVENT_TRAP;
    if (stop == TL_STOP_CHECK) return EVENT_CHECK;
    /* Interrupted in the slot before the reported instruction ran. At the same pc in the code itself, the program has
     * come round to the breakpoint again. */
    if (place == TL_PLACE_SLOT && (!meaning.start || meaning.sp_adjust) && tl_arch_pc(f) == reported_pc)
        f->reported_pc = reported_pc;
    return EVENT_INTERRUPT;
}

/* Runs Python's handlers of the signals that came; -1 with the exception of one. A handler may have installed another
 * in place of our hook: then a signal may have come unnoticed. */
static int check_signals(void) {
    int failed, is_main = tl_main_thread() == &tl_self;
    if (is_main) tl_signals_hook_python();
    do {
        atomic_store(&tl_self.signalled, 0);
        failed = PyErr_CheckSignals();
    } while (is_main && tl_signals_hook_python() && !failed);
    return failed;
}

/* ---- the thread's own stack ---- */

/* What Python code gets to run in at the least: less and the next run is refused. CPython before 3.12 trusts the recursion
 * limit, which programs raise, and no version counts the frames of the core between two calls. */
#define HOST_STACK_LEAST_BYTES 65536u

static __thread uintptr_t stack_low, stack_high; /* of the thread; [0, 1) where the system does not say */

static void find_stack(void) {
    pthread_attr_t attributes;
    void *low;
    size_t bytes;
    stack_high = 1;
    if (pthread_getattr_np(pthread_self(), &attributes)) return;
    if (!pthread_attr_getstack(&attributes, &low, &bytes)) {
        stack_low = (uintptr_t)low;
        stack_high = stack_low + bytes;
    }
    pthread_attr_destroy(&attributes);
}

/* 1 also on a stack that is not the thread's own, as some coroutine libraries have. */
static int has_room(void) {
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (!stack_high) find_stack();
    if (here < stack_low || here >= stack_high) return 1;
    size_t least = (stack_high - stack_low) / 4;
    if (least > HOST_STACK_LEAST_BYTES) least = HOST_STACK_LEAST_BYTES;
    return here - stack_low >= least;
}

/* Answers the request that `f` stopped at, with the GIL. Host functions may be C code that never looks whether another
 * thread wants the GIL or a signal came, and each run between two calls is too short for the ticker: so every other
 * tick, here. -1 with an exception. */
static int serve(struct tl_fiber *f, uint32_t *turn) {
    if (py_serve_request(f)) return -1;
    uint32_t epoch = atomic_load_explicit(&tl_epoch, memory_order_relaxed);
    if (epoch - *turn < 2) return 0;
    *turn = epoch;
    PyEval_RestoreThread(PyEval_SaveThread());
    return check_signals();
}

/* Runs `f` to its next event. The GIL is held at the start and at the end.
 *
 *   lazy     the run starts with the GIL held; the ticker interrupts it after a switch interval, and it goes on
 *            without.
 *   release  it is dropped before the run.
 *
 * A request of WebAssembly code takes it back: in mode `lazy` the code then goes on with it, for another interval.
 *
 * On the main thread the first tick also puts our hooks in front of Python's signal handlers: from then on a signal
 * interrupts native code at once, and one that came before is found here.
 *
 * Returns 0 with *kind set, or -1 with a Python exception (the fiber is then suspended and can be resumed), or -2 with
 * one that says why it could not run. */
int py_run_to_stop(struct tl_fiber *f, PyObject *name, uint8_t gil, enum event_kind *kind) {
    if (!has_room()) {
        PyErr_Format(PyExc_RecursionError, "fiber %U: maximum recursion depth exceeded: calls from native code to Python and "
                     "back have filled the stack of the thread", name);
        return -2;
    }
    PyThreadState *dropped = gil == GIL_RELEASE ? PyEval_SaveThread() : NULL;
    int tick = 1, stop, failed = 0;
    uint32_t turn = atomic_load_explicit(&tl_epoch, memory_order_relaxed);
    uint64_t reported_pc = f->reported_pc;
    if (reported_pc && tl_arch_pc(f) == reported_pc) {
        uint64_t slot = tl_code_breakpoint_slot(reported_pc);
        if (slot) tl_arch_set_pc(f, slot);
    }
    /* A request that ended in an exception: going on means to try again. Results that nobody gave would be words of the
     * arguments, which the code may take for references. */
    if (f->started == TL_STARTED_HOST && tl_arch_request(f).kind != TL_REQUEST_NONE) {
        if (dropped) PyEval_RestoreThread(dropped);
        if (py_serve_request(f)) return -1;
        dropped = gil == GIL_RELEASE ? PyEval_SaveThread() : NULL;
    }
    for (;;) {
        stop = tl_fiber_run(f, tick);
        if (stop == TL_STOP_HOST) {
            if (dropped) PyEval_RestoreThread(dropped);
            dropped = NULL;
            reported_pc = f->reported_pc = 0;
            failed = serve(f, &turn);
            if (failed) break;
            if (gil == GIL_RELEASE) dropped = PyEval_SaveThread();
            tick = 1;
            continue;
        }
        if (stop < 0 && stop != TL_ERR_PARKED) break;
        if (stop == TL_ERR_PARKED || (stop == TL_STOP_INTERRUPT && f->interrupts & TL_PENDING_PARK)) {
            if (!dropped) dropped = PyEval_SaveThread();
            tl_park_wait();
            if (stop == TL_ERR_PARKED) continue;
        }
        if (stop != TL_STOP_INTERRUPT) {
            *kind = settle(f, stop, reported_pc);
            if (*kind != EVENT_NONE) break;
            f->state = TL_SUSPENDED; /* on path `unwind` it is not; the record is complete there too */
            continue;
        }
        uint32_t bits = f->interrupts;
        if (bits & (TL_PENDING_GIL | TL_PENDING_SIGNAL)) {
            if (dropped) PyEval_RestoreThread(dropped);
            failed = check_signals();
            dropped = PyEval_SaveThread();
            tick = 0;
            if (failed) {
                if (bits & TL_PENDING_INTERRUPT) atomic_fetch_or(&f->pending, TL_PENDING_INTERRUPT);
                break;
            }
        }
        if (bits & TL_PENDING_INTERRUPT) break;
    }
    if (dropped) PyEval_RestoreThread(dropped);
    if (stop < 0) {
        py_core_error(name, stop);
        return -2;
    }
    if (stop == TL_STOP_INTERRUPT) *kind = settle(f, stop, reported_pc);
    f->stop_pc = tl_arch_pc(f);
    return failed ? -1 : 0;
}
