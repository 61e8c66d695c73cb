/* Fibers: the record that holds a suspended fiber's state, its stack, and the threads that run fibers.
 *
 * No file of the core includes Python.h but core_module.c: a fiber can be run from plain C (tests/stubs does).
 */
#ifndef TL_FIBER_H
#define TL_FIBER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../stubs/stubs.h"

/* How a fault leaves native code. Must match trapline.tuning.PATHS. */
enum tl_path { TL_PATH_INJECT, TL_PATH_DIRECT, TL_PATH_UNWIND };

/*            start            stop (trap, interrupt, check)
 *   READY ----------> RUNNING ------------------------------> SUSPENDED
 *     |                |  ^              resume                  |
 *     |                |  +--------------------------------------+
 *     |       returned |                                         |
 *     |                +--> FINISHED                             |
 *     +---------------------------------------> UNWOUND <--------+   unwind, or a trap on the path `unwind`
 *   RUNNING --> LOST in the child of a fork made by another thread: that thread is not there.
 */
enum tl_state { TL_READY, TL_RUNNING, TL_SUSPENDED, TL_FINISHED, TL_UNWOUND, TL_LOST };

/* How much of the record counts, and so which stub runs the fiber next. */
enum tl_started {
    TL_STARTED_NOT,  /* the arguments: tl_stub_enter */
    TL_STARTED,      /* everything: tl_stub_resume */
    TL_STARTED_HOST, /* what tl_stub_host saves: tl_stub_resume_host */
};

/* Bits of `pending`: why native code is asked to come to the host. */
#define TL_PENDING_INTERRUPT 1u /* tl_fiber_interrupt */
#define TL_PENDING_GIL 2u       /* the ticker: it has run for a switch interval with the GIL held */
#define TL_PENDING_SIGNAL 4u    /* a signal with a Python handler arrived */
#define TL_PENDING_PARK 8u      /* somebody needs every thread out of native code */

/* What the handler learned about a fault, read by the host after the stop. */
struct tl_fault {
    uint64_t address;  /* of the access; 0 where the machine does not say */
    int32_t signal;
    int32_t code;      /* si_code */
    uint32_t trap;     /* x86-64: exception vector; aarch64: exception class */
    uint32_t error;    /* x86-64: error code of the vector; aarch64: ESR where the frame has it */
    uint32_t fetch;    /* 1: the instruction itself could not be fetched */
    uint32_t reserved;
};

struct tl_fiber {
    uint64_t record[TL_PENDING / 8]; /* registers by the offsets of stubs.h, then the host stack pointer */
    _Atomic uint32_t pending;
    uint32_t stop;
#if defined(__x86_64__)
    uint32_t xsave_mask[2];
#else
    uint32_t fpcr, fpsr;
#endif
    struct tl_fault fault;
    _Atomic int32_t tid;  /* the thread that runs it now, or 0 */
    uint8_t state;        /* enum tl_state */
    uint8_t path;         /* enum tl_path */
    uint8_t started;      /* enum tl_started */
    uint32_t fork_generation;
    uint32_t interrupts;  /* bits of `pending` that the last TL_STOP_INTERRUPT stop consumed */
    uint64_t stops;       /* counts stops: an event is valid for one of them */
    uint64_t stop_pc;     /* the pc as the last stop left it, whatever the host has written since */
    uint64_t reported_pc; /* the breakpoint here has been reported: resuming at it steps past it; 0: none */
    uint8_t *stack_reserved; /* lowest address that growing may reach */
    uint8_t *stack_low;      /* lowest usable address */
    uint8_t *stack_high;     /* one past the highest */
    uint8_t *mapping;
    size_t mapping_bytes;
    size_t initial_stack_bytes;
    struct tl_fiber *next; /* in the pool */
};

_Static_assert(offsetof(struct tl_fiber, pending) == TL_PENDING, "must match stubs.h");
_Static_assert(offsetof(struct tl_fiber, stop) == TL_STOP, "must match stubs.h");
#if defined(__x86_64__)
_Static_assert(offsetof(struct tl_fiber, xsave_mask) == TL_XSAVE_MASK, "must match stubs.h");
_Static_assert(sizeof(struct tl_fiber) <= TL_XSAVE, "the XSAVE area follows the struct");
#else
_Static_assert(offsetof(struct tl_fiber, fpcr) == TL_FPCR, "must match stubs.h");
_Static_assert(offsetof(struct tl_fiber, fpsr) == TL_FPSR, "must match stubs.h");
_Static_assert(sizeof(struct tl_fiber) <= TL_Q, "the vector registers follow the struct");
#endif

/* One a thread that has run native code, in its thread-local storage; linked while the thread lives. */
struct tl_thread {
    struct tl_fiber *cur;          /* the running fiber or NULL; first, because the stubs read it */
    _Atomic uint32_t running;      /* odd while a fiber runs; changes at each run, so the ticker can tell runs apart */
    _Atomic uint32_t wants_tick;   /* the ticker shall interrupt this run after an interval */
    _Atomic uint32_t kick;         /* an interrupt could not be taken where it arrived: ask again */
    _Atomic uint32_t signalled;    /* main thread: a signal with a Python handler came since the host last looked */
    _Atomic uint32_t reading;      /* a handler reads the range table */
    uint32_t epoch;                /* of the last check of handlers and alternate stack */
    int32_t tid;
    uint32_t ready;
    struct tl_fiber *spare;        /* kept for the next call of a function from this thread */
    uint32_t seen;                 /* ticker only: `running` at the last tick */
    void *altstack;
    size_t altstack_bytes;
    uint32_t steps;                /* single steps left of an attempt to reach native code out of a C function */
    uint32_t asked_run, asks;      /* how often the run `asked_run` was asked in a C function */
    struct tl_thread *next, *previous;
};

extern __thread struct tl_thread tl_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Errors of the core are negative errno values, or one of these. */
#define TL_ERR_STATE (-2001)   /* the fiber's state does not allow it */
#define TL_ERR_STACK (-2002)   /* no stack left to grow into */
#define TL_ERR_LOST (-2003)    /* it was running in another thread when the process forked */
#define TL_ERR_SHADOW_STACK (-2005) /* returns are checked against a shadow stack, which switching stacks breaks */
#define TL_ERR_PARKED (-2004)  /* not an error of the caller's: see tl_park */

/* Sizes found at start-up, in bytes. */
extern size_t tl_page_bytes, tl_state_bytes, tl_slack_bytes;

/* Start-up, idempotent: CPU state sizes, handlers, interrupt signal, fork handlers. 0 or a negative errno. */
int tl_start(void);

struct tl_fiber *tl_fiber_new(size_t stack_bytes, size_t max_stack_bytes, int *error);
void tl_fiber_free(struct tl_fiber *fiber);
/* A fiber for one call: the thread's spare one where its sizes fit, else a new one. */
struct tl_fiber *tl_fiber_borrow(size_t stack_bytes, size_t max_stack_bytes, int *error);
void tl_fiber_return(struct tl_fiber *fiber);
/* Makes it READY to run `entry` with an empty stack and no arguments; only when it is not RUNNING. */
void tl_fiber_reset(struct tl_fiber *fiber, uint64_t entry);
/* Runs a READY or SUSPENDED fiber on this thread to its next stop. TL_STOP_* or a negative error. */
int tl_fiber_run(struct tl_fiber *fiber, int wants_tick);
/* Asks a fiber to stop; from any thread. It stops now if it runs, else when it is next resumed. */
void tl_fiber_interrupt(struct tl_fiber *fiber);
void tl_fiber_unwind(struct tl_fiber *fiber);
int tl_fiber_grow(struct tl_fiber *fiber, size_t more_bytes);
/* 1 when `address` lies in the part of the fiber's stack that growing could make usable. */
int tl_fiber_in_guard(const struct tl_fiber *fiber, uint64_t address);
void tl_pool_trim(void);

/* Stubs, in stubs/<arch>. Addresses only, but for enter, the resumes and leave_handler. */
int tl_stub_enter(struct tl_fiber *fiber);
int tl_stub_resume(struct tl_fiber *fiber);
int tl_stub_resume_host(struct tl_fiber *fiber);
void tl_stub_leave_handler(struct tl_fiber *fiber) __attribute__((noreturn));
extern const char tl_stub_exit[], tl_stub_check[], tl_stub_host[], tl_stub_inject[], tl_stub_unwind[];
extern const char tl_enter_restart[], tl_enter_end[], tl_resume_restart[], tl_resume_end[];
extern const char tl_resume_host_restart[], tl_resume_host_end[];

#endif
