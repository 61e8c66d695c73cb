/* The threads that run fibers: their alternate stacks, the ticker, parking, and what a fork leaves of them.
 *
 * Lock order: the code lock (code.c) before the thread lock. The ticker takes the thread lock only.
 */
#define _GNU_SOURCE
#include "threads.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "signals.h"

#define ALTSTACK_BYTES 65536u
#define TICKER_STACK_BYTES 65536u
#define IDLE_TICKS 20
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static pthread_mutex_t thread_lock = PTHREAD_MUTEX_INITIALIZER;
static struct tl_thread *threads;
static _Atomic(struct tl_thread *) main_thread;
static pthread_key_t thread_key;
static pid_t process;

_Atomic uint32_t tl_epoch = 1;
uint32_t tl_fork_generation;
int tl_needs_fences;

static _Atomic uint32_t ticker_armed;
static int ticker_started;
static _Atomic uint32_t ticker_interval_us = 5000;

static _Atomic uint32_t parked; /* how many callers want native code empty */
static _Atomic int32_t parker;  /* the thread that may run native code all the same */

struct tl_thread *tl_main_thread(void) { return atomic_load(&main_thread); }

static long futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout) {
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

/* ---- alternate stacks ---- */

/* The thread's alternate stack takes our handlers and, through them, the previous ones: one that is large enough is
 * kept, whoever made it (faulthandler makes one of 16 KiB for the main thread). */
static int ensure_altstack(struct tl_thread *self) {
    stack_t now;
    if (sigaltstack(NULL, &now)) return -errno;
    if (now.ss_flags & SS_ONSTACK) return 0;
    /* One that disarms itself would stay disarmed when path `direct` leaves the handler. */
    int lasting = !(now.ss_flags & (SS_DISABLE | (int)SS_AUTODISARM));
    if (lasting && now.ss_size >= tl_state_bytes + 12288) return 0;
    if (!self->altstack) {
        size_t bytes = tl_page_bytes + ALTSTACK_BYTES;
        uint8_t *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (m == MAP_FAILED) return -errno;
        if (mprotect(m, tl_page_bytes, PROT_NONE)) {
            int error = -errno;
            munmap(m, bytes);
            return error;
        }
        self->altstack = m;
        self->altstack_bytes = bytes;
    }
    stack_t ours = {.ss_sp = (uint8_t *)self->altstack + tl_page_bytes, .ss_size = ALTSTACK_BYTES};
    return sigaltstack(&ours, NULL) ? -errno : 0;
}

static void thread_ends(void *raw) {
    struct tl_thread *self = raw;
    pthread_mutex_lock(&thread_lock);
    *(self->previous ? &self->previous->next : &threads) = self->next;
    if (self->next) self->next->previous = self->previous;
    if (atomic_load(&main_thread) == self) atomic_store(&main_thread, NULL);
    pthread_mutex_unlock(&thread_lock);
    self->ready = 0;
    self->epoch = 0;
    if (self->spare) tl_fiber_free(self->spare);
    self->spare = NULL;
    if (!self->altstack) return;
    stack_t now, off = {.ss_flags = SS_DISABLE};
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == (uint8_t *)self->altstack + tl_page_bytes) sigaltstack(&off, NULL);
    munmap(self->altstack, self->altstack_bytes);
    self->altstack = NULL;
}

static int enlist(struct tl_thread *self) {
    self->tid = (int32_t)syscall(SYS_gettid);
    int error = -pthread_setspecific(thread_key, self);
    if (error) return error;
    pthread_mutex_lock(&thread_lock);
    self->previous = NULL;
    self->next = threads;
    if (threads) threads->previous = self;
    threads = self;
    if (self->tid == process) atomic_store(&main_thread, self);
    pthread_mutex_unlock(&thread_lock);
    self->ready = 1;
    return 0;
}

/* ---- the ticker ---- */

/* Every interval, for each thread: a run that was already there at the last tick and wants one gets the GIL bit; an
 * interrupt that could not be taken is asked for again. Without native code for a while it sleeps until a thread
 * takes the slow way into tl_fiber_run, which the new epoch makes each do. */
static int tick(pid_t self_process) {
    int any = 0;
    pthread_mutex_lock(&thread_lock);
    for (struct tl_thread *t = threads; t; t = t->next) {
        uint32_t run = atomic_load(&t->running);
        if (run & 1) {
            any = 1;
            int due = t->seen == run && atomic_load(&t->wants_tick);
            if (due || atomic_load(&t->kick)) tl_kick(self_process, t->tid, due ? TL_PENDING_GIL : 0);
        }
        t->seen = run;
    }
    pthread_mutex_unlock(&thread_lock);
    atomic_fetch_add(&tl_epoch, 1);
    return any;
}

static void *ticker(void *unused) {
    (void)unused;
    pid_t self_process = getpid();
    int idle = 0;
    for (;;) {
        if (idle >= IDLE_TICKS) {
            atomic_store(&ticker_armed, 0);
            atomic_fetch_add(&tl_epoch, 1);
            tl_membarrier(); /* pairs with tl_fiber_run, which stores `running` and then reads the epoch */
            if (!tick(self_process)) {
                while (!atomic_load(&ticker_armed)) futex(&ticker_armed, FUTEX_WAIT, 0, NULL);
            }
            atomic_store(&ticker_armed, 1);
            idle = 0;
        }
        uint32_t us = atomic_load(&ticker_interval_us);
        struct timespec interval = {us / 1000000, (long)(us % 1000000) * 1000};
        nanosleep(&interval, NULL);
        idle = tick(self_process) ? 0 : idle + 1;
    }
    return NULL;
}

void tl_ticker_set_interval(uint32_t interval_us) {
    atomic_store(&ticker_interval_us, interval_us < 100 ? 100 : interval_us);
}

static int ticker_arm(void) {
    if (atomic_exchange(&ticker_armed, 1)) return 0;
    int error = 0;
    pthread_mutex_lock(&thread_lock);
    if (!ticker_started) {
        pthread_attr_t attributes;
        sigset_t all, old;
        pthread_t thread;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, TICKER_STACK_BYTES < PTHREAD_STACK_MIN ? PTHREAD_STACK_MIN : TICKER_STACK_BYTES);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        error = -pthread_create(&thread, &attributes, ticker, NULL);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attributes);
        if (error) {
            atomic_store(&ticker_armed, 0);
        } else {
            pthread_setname_np(thread, "trapline-tick");
            ticker_started = 1;
        }
    }
    pthread_mutex_unlock(&thread_lock);
    if (!error) futex(&ticker_armed, FUTEX_WAKE, 1, NULL);
    return error;
}

/* ---- entering native code the slow way ---- */

int tl_thread_prepare(struct tl_thread *self) {
    uint32_t epoch = atomic_load(&tl_epoch);
    int error = self->ready ? 0 : enlist(self);
    if (!error && atomic_load(&parked) && atomic_load(&parker) != self->tid) return TL_ERR_PARKED;
    if (!error) error = ensure_altstack(self);
    if (!error) error = tl_signals_install();
    if (!error) error = ticker_arm();
    if (error) return error;
    tl_signals_unblock();
    self->epoch = epoch;
    return 0;
}

void tl_threads_recheck(void) { atomic_fetch_add(&tl_epoch, 1); }

/* ---- every thread at once ---- */

void tl_threads_kick_all(void) {
    pthread_mutex_lock(&thread_lock);
    for (struct tl_thread *t = threads; t; t = t->next) tl_kick(process, t->tid, 0);
    pthread_mutex_unlock(&thread_lock);
}

void tl_threads_wait_readers(void) {
    tl_membarrier();
    pthread_mutex_lock(&thread_lock);
    for (struct tl_thread *t = threads; t; t = t->next) {
        if (t == &tl_self) continue;
        while (atomic_load(&t->reading)) sched_yield();
    }
    pthread_mutex_unlock(&thread_lock);
}

int tl_park(int64_t timeout_us) {
    int32_t tid = (int32_t)syscall(SYS_gettid), none = 0;
    while (!atomic_compare_exchange_strong(&parker, &none, tid)) {
        if (none == tid) break; /* nested */
        none = 0;
        sched_yield();
    }
    atomic_fetch_add(&parked, 1);
    atomic_fetch_add(&tl_epoch, 1);
    tl_membarrier();
    for (int64_t waited_us = 0;; waited_us += 50) {
        int busy = 0;
        pthread_mutex_lock(&thread_lock);
        for (struct tl_thread *t = threads; t; t = t->next) {
            if (t->tid == tid || !(atomic_load(&t->running) & 1)) continue;
            busy = 1;
            if (waited_us % 1000 == 0) tl_kick(process, t->tid, TL_PENDING_PARK);
        }
        pthread_mutex_unlock(&thread_lock);
        if (!busy) return 0;
        if (waited_us >= timeout_us) return -ETIMEDOUT;
        nanosleep(&(struct timespec){0, 50000}, NULL);
    }
}

void tl_unpark(void) {
    if (atomic_load(&parker) != (int32_t)syscall(SYS_gettid)) return;
    if (atomic_load(&parked) == 1) atomic_store(&parker, 0);
    atomic_fetch_sub(&parked, 1);
    futex(&parked, FUTEX_WAKE, INT_MAX, NULL);
}

void tl_park_wait(void) {
    uint32_t count;
    while ((count = atomic_load(&parked)) != 0) futex(&parked, FUTEX_WAIT, count, NULL);
}

/* ---- fork ---- */

static void before_fork(void) { pthread_mutex_lock(&thread_lock); }
static void in_parent(void) { pthread_mutex_unlock(&thread_lock); }

static void in_child(void) {
    struct tl_thread *self = &tl_self;
    process = getpid();
    tl_fork_generation++;
    atomic_store(&ticker_armed, 0);
    ticker_started = 0;
    atomic_store(&parked, 0);
    atomic_store(&parker, 0);
    atomic_fetch_add(&tl_epoch, 1);
    threads = NULL;
    atomic_store(&main_thread, NULL);
    if (self->ready) {
        self->tid = process; /* the only thread of a child is its main thread */
        self->next = self->previous = NULL;
        threads = self;
        atomic_store(&main_thread, self);
        if (self->cur) { /* native code called fork through a C function: it goes on here */
            self->cur->fork_generation = tl_fork_generation;
            atomic_store(&self->cur->tid, self->tid);
        }
    }
    pthread_mutex_unlock(&thread_lock);
}

int tl_threads_start(void) {
    process = getpid();
    tl_membarrier_start();
    tl_needs_fences = tl_membarrier() != 0;
    int error = -pthread_key_create(&thread_key, thread_ends);
    return error ? error : -pthread_atfork(before_fork, in_parent, in_child);
}
