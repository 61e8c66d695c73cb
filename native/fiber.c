/* Fibers: making, running, interrupting, unwinding, growing.
 *
 * One mapping a fiber:
 *
 *   [guard | reserve .. | usable stack | slack | struct tl_fiber | extended state]
 *   mapping  stack_reserved  stack_low    stack_high
 *
 * Everything below stack_low faults. The slack takes signal frames that handlers without an alternate stack push
 * while a stub's stack pointer stands at the record.
 */
#define _GNU_SOURCE
#include "fiber.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "context.h"
#include "signals.h"
#include "threads.h"
#include "code.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
#ifndef MADV_GUARD_INSTALL /* Linux 6.13 */
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define GUARD_BYTES 65536u
#define POOL_MOST 64

size_t tl_page_bytes, tl_state_bytes, tl_slack_bytes;
__thread struct tl_thread tl_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

static struct tl_fiber *pool;
static unsigned pool_count;
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static int guards_by_madvise;
static pid_t process;

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static int sizes_start(void) {
    tl_page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    int error = tl_arch_start();
    if (error) return error;
    size_t frame_bytes = getauxval(AT_MINSIGSTKSZ);
    if (frame_bytes < tl_state_bytes + 2048) frame_bytes = tl_state_bytes + 2048;
    tl_slack_bytes = round_up(frame_bytes + 8192, 4096);
    if (tl_slack_bytes < 16384) tl_slack_bytes = 16384;
    void *probe = mmap(NULL, tl_page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe == MAP_FAILED) return -errno;
    /* Not where any advice is taken: emulators (qemu-user) say yes and do nothing. */
    guards_by_madvise = madvise(probe, tl_page_bytes, 9999) != 0 && madvise(probe, tl_page_bytes, MADV_GUARD_INSTALL) == 0;
    munmap(probe, tl_page_bytes);
    return 0;
}

static void pool_before_fork(void) { pthread_mutex_lock(&pool_lock); }
static void pool_after_fork(void) { pthread_mutex_unlock(&pool_lock); }
static void process_in_child(void) {
    process = getpid();
    pthread_mutex_unlock(&pool_lock);
}

int tl_start(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int done;
    int error = 0;
    pthread_mutex_lock(&lock);
    if (!done) {
        process = getpid();
        error = sizes_start();
        if (!error) error = tl_threads_start();
        if (!error) error = tl_code_start();
        if (!error) error = tl_signals_start();
        if (!error) error = -pthread_atfork(pool_before_fork, pool_after_fork, process_in_child);
        done = !error;
    } else {
        error = tl_signals_install();
    }
    pthread_mutex_unlock(&lock);
    return error;
}

/* madvise writes an entry of the page table for every page, 2 MiB of them for each GiB: a large reserve gets a mapping of
 * its own instead. */
#define MADVISE_MOST_BYTES (64u << 20)

static int guard(size_t reserve_bytes, uint8_t *start, uint8_t *stop, int on) {
    size_t bytes = (size_t)(stop - start);
    if (!bytes) return 0;
    int failed = guards_by_madvise && reserve_bytes <= MADVISE_MOST_BYTES
                                   ? madvise(start, bytes, on ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE)
                                   : mprotect(start, bytes, on ? PROT_NONE : PROT_READ | PROT_WRITE);
    return failed ? -errno : 0;
}

static size_t reserve_bytes(const struct tl_fiber *f) { return (size_t)(f->stack_high - f->stack_reserved); }

static struct tl_fiber *pool_take(size_t stack_bytes, size_t max_stack_bytes) {
    struct tl_fiber *found = NULL;
    pthread_mutex_lock(&pool_lock);
    for (struct tl_fiber **at = &pool; *at; at = &(*at)->next) {
        struct tl_fiber *f = *at;
        if (f->initial_stack_bytes != stack_bytes || reserve_bytes(f) != max_stack_bytes)
            continue;
        *at = f->next;
        pool_count--;
        found = f;
        break;
    }
    pthread_mutex_unlock(&pool_lock);
    return found;
}

struct tl_fiber *tl_fiber_new(size_t stack_bytes, size_t max_stack_bytes, int *error) {
    stack_bytes = round_up(stack_bytes, tl_page_bytes);
    max_stack_bytes = round_up(max_stack_bytes, tl_page_bytes);
    struct tl_fiber *f = pool_take(stack_bytes, max_stack_bytes);
    if (!f) {
        size_t head = round_up(tl_slack_bytes + 512 + tl_state_bytes, tl_page_bytes);
        size_t bytes = GUARD_BYTES + max_stack_bytes + head;
        uint8_t *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (m == MAP_FAILED) {
            *error = -errno;
            return NULL;
        }
        uint8_t *high = m + GUARD_BYTES + max_stack_bytes;
        *error = guard(max_stack_bytes, m, high - stack_bytes, 1);
        if (*error) {
            munmap(m, bytes);
            return NULL;
        }
        f = (struct tl_fiber *)(m + bytes - round_up(512 + tl_state_bytes, 64));
        f->mapping = m;
        f->mapping_bytes = bytes;
        f->stack_reserved = m + GUARD_BYTES;
        f->stack_low = high - stack_bytes;
        f->stack_high = high;
        f->initial_stack_bytes = stack_bytes;
        tl_arch_record_new(f);
    }
    atomic_store(&f->pending, 0);
    atomic_store(&f->tid, 0);
    f->stops = 0;
    f->state = TL_UNWOUND;
    f->path = TL_PATH_INJECT;
    f->fork_generation = tl_fork_generation;
    *error = 0;
    return f;
}

void tl_fiber_free(struct tl_fiber *f) {
    uint8_t *initial_low = f->stack_high - f->initial_stack_bytes;
    int keep = f->stack_low == initial_low || guard(reserve_bytes(f), f->stack_low, initial_low, 1) == 0;
    f->stack_low = initial_low;
    if (keep) {
        pthread_mutex_lock(&pool_lock);
        keep = pool_count < POOL_MOST;
        if (keep) {
            f->next = pool;
            pool = f;
            pool_count++;
        }
        pthread_mutex_unlock(&pool_lock);
    }
    if (!keep) munmap(f->mapping, f->mapping_bytes);
}

static int fits(const struct tl_fiber *f, size_t stack_bytes, size_t max_stack_bytes) {
    return f->initial_stack_bytes == round_up(stack_bytes, tl_page_bytes) &&
           reserve_bytes(f) == round_up(max_stack_bytes, tl_page_bytes);
}

struct tl_fiber *tl_fiber_borrow(size_t stack_bytes, size_t max_stack_bytes, int *error) {
    struct tl_fiber *f = tl_self.spare;
    if (!f || !fits(f, stack_bytes, max_stack_bytes)) return tl_fiber_new(stack_bytes, max_stack_bytes, error);
    tl_self.spare = NULL;
    return f;
}

void tl_fiber_return(struct tl_fiber *f) {
    if (!tl_self.ready || f->stack_low != f->stack_high - f->initial_stack_bytes) {
        tl_fiber_free(f);
        return;
    }
    struct tl_fiber *before = tl_self.spare;
    tl_self.spare = f; /* the last used: its sizes are the likelier to be asked for, and its stack is in the cache */
    if (before) tl_fiber_free(before);
}

void tl_pool_trim(void) {
    pthread_mutex_lock(&pool_lock);
    while (pool) {
        struct tl_fiber *f = pool;
        pool = f->next;
        munmap(f->mapping, f->mapping_bytes);
    }
    pool_count = 0;
    pthread_mutex_unlock(&pool_lock);
}

void tl_fiber_reset(struct tl_fiber *f, uint64_t entry) {
    /* What an earlier run was asked for does not concern this one; an interrupt does, whenever it was requested. */
    if (atomic_load_explicit(&f->pending, memory_order_relaxed) & ~TL_PENDING_INTERRUPT)
        atomic_fetch_and(&f->pending, TL_PENDING_INTERRUPT);
    tl_arch_record_reset(f, entry);
    f->state = TL_READY;
    f->started = TL_STARTED_NOT;
    f->reported_pc = 0;
    f->stop_pc = entry;
    memset(&f->fault, 0, sizeof f->fault);
}

/* How a run ends for the fiber. */
static uint8_t state_after(const struct tl_fiber *f, int stop) {
    if (stop == TL_STOP_FINISHED) return TL_FINISHED;
    if (stop == TL_STOP_TRAP && f->path == TL_PATH_UNWIND) return TL_UNWOUND;
    return TL_SUSPENDED;
}

int tl_fiber_run(struct tl_fiber *f, int wants_tick) {
    struct tl_thread *self = &tl_self;
    if (f->state != TL_READY && f->state != TL_SUSPENDED)
        return f->state == TL_RUNNING && f->fork_generation != tl_fork_generation ? TL_ERR_LOST : TL_ERR_STATE;
    uint32_t run = atomic_load_explicit(&self->running, memory_order_relaxed);
    atomic_store_explicit(&self->wants_tick, (uint32_t)wants_tick, memory_order_relaxed);
    atomic_store_explicit(&self->running, run + 1, memory_order_relaxed);
    tl_fence(); /* `running` before the epoch: see the ticker */
    if (self->epoch != atomic_load_explicit(&tl_epoch, memory_order_relaxed)) {
        int error = tl_thread_prepare(self);
        if (error) {
            atomic_store_explicit(&self->running, run + 2, memory_order_relaxed);
            return error;
        }
    }
    f->state = TL_RUNNING;
    f->fork_generation = tl_fork_generation;
    atomic_store_explicit(&f->tid, self->tid, memory_order_relaxed);
    uint8_t started = f->started;
    if (started == TL_STARTED) tl_arch_before_resume(f);
    if (started == TL_STARTED_NOT) f->started = TL_STARTED;
    self->cur = f;
    atomic_signal_fence(memory_order_seq_cst);
    /* One that came while no fiber was `cur`; from here on the handler sets the bit itself. */
    if (atomic_load_explicit(&self->signalled, memory_order_relaxed)) atomic_fetch_or(&f->pending, TL_PENDING_SIGNAL);
    int stop = started == TL_STARTED_HOST ? tl_stub_resume_host(f)
               : started == TL_STARTED    ? tl_stub_resume(f)
                                          : tl_stub_enter(f);
    atomic_signal_fence(memory_order_seq_cst);
    self->cur = NULL;
    atomic_store_explicit(&self->kick, 0, memory_order_relaxed);
    atomic_store_explicit(&self->running, run + 2, memory_order_relaxed);
    atomic_store_explicit(&f->tid, 0, memory_order_relaxed);
    f->stops++;
    if (stop == TL_STOP_HOST) {
        f->started = TL_STARTED_HOST;
    } else if (stop == TL_STOP_CHECK) {
        f->started = TL_STARTED; /* as `deliver` says for traps and interrupts that a handler takes */
    }
    f->interrupts = stop == TL_STOP_INTERRUPT ? atomic_exchange(&f->pending, 0) : 0;
    f->state = state_after(f, stop);
    return stop;
}

void tl_fiber_interrupt(struct tl_fiber *f) {
    atomic_fetch_or(&f->pending, TL_PENDING_INTERRUPT);
    /* The runner stores tid and then reads pending, we store pending and then read tid: without a barrier on both
     * sides both could read the old value. membarrier puts one into the runner for us. */
    int fenced = tl_membarrier() == 0;
    int32_t tid = atomic_load(&f->tid);
    if (tid) {
        tl_kick(process, tid, 0);
    } else if (!fenced) {
        tl_threads_kick_all();
    }
}

void tl_fiber_unwind(struct tl_fiber *f) {
    f->state = TL_UNWOUND;
    f->stops++;
}

int tl_fiber_grow(struct tl_fiber *f, size_t more_bytes) {
    more_bytes = round_up(more_bytes, tl_page_bytes);
    if (more_bytes > (size_t)(f->stack_low - f->stack_reserved)) return TL_ERR_STACK;
    int error = guard(reserve_bytes(f), f->stack_low - more_bytes, f->stack_low, 0);
    if (!error) f->stack_low -= more_bytes;
    return error;
}

int tl_fiber_in_guard(const struct tl_fiber *f, uint64_t address) {
    return address >= (uint64_t)f->mapping && address < (uint64_t)f->stack_low;
}
