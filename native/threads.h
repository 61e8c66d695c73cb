/* The threads that run fibers, seen by the rest of the core. */
#ifndef TL_THREADS_H
#define TL_THREADS_H

#include "fiber.h"

/* Changes whenever each thread must take the slow way into native code once: at each tick, park and fork. */
extern _Atomic uint32_t tl_epoch;
/* Counts the forks that made this process. */
extern uint32_t tl_fork_generation;

int tl_threads_start(void);

/* Set where the kernel has no membarrier: then the fast side of each pairing needs a fence of its own. */
extern int tl_needs_fences;
static inline void tl_fence(void) {
    atomic_signal_fence(memory_order_seq_cst);
    if (tl_needs_fences) atomic_thread_fence(memory_order_seq_cst);
}
/* Enlists the thread; checks alternate stack, handlers, signal mask, ticker. 0, a negative errno, TL_ERR_PARKED. */
int tl_thread_prepare(struct tl_thread *self);
/* The thread on which Python handlers run, or NULL while it has never run native code. */
struct tl_thread *tl_main_thread(void);
/* Every thread checks its alternate stack, the handlers and its signal mask before it next runs native code. */
void tl_threads_recheck(void);
void tl_threads_kick_all(void);
/* Returns when no handler still reads a range table published before the call. */
void tl_threads_wait_readers(void);
void tl_ticker_set_interval(uint32_t interval_us);
/* Gets every other thread out of native code and keeps it out until tl_unpark. 0, or -ETIMEDOUT: some thread is in
 * a C function that native code called; the rest is out. tl_unpark follows in either case;
 * by a thread that does not park it does nothing. */
int tl_park(int64_t timeout_us);
void tl_unpark(void);
/* Waits until nobody parks. */
void tl_park_wait(void);

#endif
