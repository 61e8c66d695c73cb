/* Linear memories.
 *
 * One reservation a memory:
 *
 *   [pages that can be used: bytes | the rest: PROT_NONE]
 *   base                             base + reserved_bytes
 *
 * A 32-bit address plus an offset below 2 GiB plus the widest access stays below FULL_BYTES, so code of a memory with
 * a whole reservation needs no checks. Reservations of that size are kept in a pool when their memory is freed,
 * without pages; smaller ones (checked) go back to the system.
 *
 * A fork copies memories like any private memory. The lock is held for moments: it protects the pool and makes growing
 * one step, since two that grow at once could leave pages usable that no size includes.
 */
#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "reserve.h"

#define FULL_BYTES (((uint64_t)6 << 30) + 65536)
#define MOST_CHECKED_BYTES ((uint64_t)4 << 30)
#define POOL_MOST 32

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tl_memory *pool;
static unsigned pool_count;

void tl_grow_lock(void) { pthread_mutex_lock(&lock); }
void tl_grow_unlock(void) { pthread_mutex_unlock(&lock); }

static uint8_t *reserve(uint64_t bytes) {
    void *m = tl_reserve(NULL, bytes ? bytes : TL_WASM_PAGE_BYTES);
    if (m == MAP_FAILED) {
        tl_memory_trim(); /* the pool may hold the room that is missing */
        m = tl_reserve(NULL, bytes ? bytes : TL_WASM_PAGE_BYTES);
    }
    return m == MAP_FAILED ? NULL : m;
}

/* The declared maximum where that fits, else less and less, down to what the memory starts with. */
static int reserve_checked(struct tl_memory *m, uint64_t min_bytes, uint64_t max_bytes) {
    m->checked = 1;
    for (uint64_t bytes = max_bytes; bytes > min_bytes;) {
        m->reserved_bytes = bytes;
        m->base = reserve(bytes);
        if (m->base) return 0;
        uint64_t half = MOST_CHECKED_BYTES;
        while (half >= bytes) half /= 2;
        bytes = half;
    }
    m->reserved_bytes = min_bytes;
    m->base = reserve(min_bytes);
    return m->base ? 0 : -errno;
}

static void release(struct tl_memory *m) {
    if (m->base) munmap(m->base, m->reserved_bytes ? m->reserved_bytes : TL_WASM_PAGE_BYTES);
    free(m);
}

static struct tl_memory *pool_take(void) {
    pthread_mutex_lock(&lock);
    struct tl_memory *m = pool;
    if (m) {
        pool = m->next;
        pool_count--;
    }
    pthread_mutex_unlock(&lock);
    return m;
}

struct tl_memory *tl_memory_new(uint64_t min_pages, uint64_t max_pages, int small, int *error) {
    uint64_t min_bytes = min_pages * TL_WASM_PAGE_BYTES;
    struct tl_memory *m = small ? NULL : pool_take();
    *error = 0;
    if (!m) {
        m = calloc(1, sizeof *m);
        *error = -ENOMEM;
        if (!m) return NULL;
        m->reserved_bytes = FULL_BYTES;
        m->base = small ? NULL : reserve(FULL_BYTES);
        *error = m->base ? 0 : reserve_checked(m, min_bytes, max_pages * TL_WASM_PAGE_BYTES);
    }
    m->max_pages = max_pages;
    if (!*error && min_bytes && mprotect(m->base, min_bytes, PROT_READ | PROT_WRITE)) *error = -errno;
    if (*error) {
        release(m);
        return NULL;
    }
    atomic_store_explicit(&m->bytes, min_bytes, memory_order_release);
    return m;
}

void tl_memory_free(struct tl_memory *m) {
    uint64_t bytes = atomic_load(&m->bytes);
    /* A mapping over it drops the contents and whatever protections the pages had. */
    int keep = !m->checked && (!bytes || mmap(m->base, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                                              -1, 0) != MAP_FAILED);
    if (keep) {
        atomic_store(&m->bytes, 0);
        pthread_mutex_lock(&lock);
        keep = pool_count < POOL_MOST;
        if (keep) {
            m->next = pool;
            pool = m;
            pool_count++;
        }
        pthread_mutex_unlock(&lock);
    }
    if (!keep) release(m);
}

uint32_t tl_memory_grow(struct tl_memory *m, uint32_t delta_pages) {
    uint32_t before;
    pthread_mutex_lock(&lock);
    uint64_t bytes = atomic_load_explicit(&m->bytes, memory_order_relaxed);
    uint64_t more = (uint64_t)delta_pages * TL_WASM_PAGE_BYTES, limit = m->max_pages * TL_WASM_PAGE_BYTES;
    if (limit > m->reserved_bytes) limit = m->reserved_bytes;
    before = (uint32_t)(bytes / TL_WASM_PAGE_BYTES);
    if (more > limit - bytes || (more && mprotect(m->base + bytes, more, PROT_READ | PROT_WRITE))) {
        before = TL_GROW_FAILED;
    } else {
        atomic_store_explicit(&m->bytes, bytes + more, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    return before;
}

void tl_memory_trim(void) {
    struct tl_memory *m;
    while ((m = pool_take())) release(m);
}

int tl_memory_start(void) { return -pthread_atfork(tl_grow_lock, tl_grow_unlock, tl_grow_unlock); }
