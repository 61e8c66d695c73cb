/* Tables of references: an array in address space of its own, whose pages come when they are written. */
#define _GNU_SOURCE
#include "table.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "memory.h"

static uint64_t bytes_of(uint64_t capacity) { return (capacity ? capacity : 1) * sizeof(uint64_t); }

struct tl_table *tl_table_new(uint64_t minimum, uint64_t maximum, int *error) {
    struct tl_table *t = calloc(1, sizeof *t);
    *error = -ENOMEM;
    if (!t) return NULL;
    uint64_t capacity = maximum < TL_TABLE_MOST ? maximum : TL_TABLE_MOST;
    if (minimum > capacity) {
        free(t);
        return NULL;
    }
    for (;; capacity = capacity / 2 > minimum ? capacity / 2 : minimum) {
        void *m = mmap(NULL, bytes_of(capacity), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m != MAP_FAILED) {
            *error = 0;
            t->elements = m;
            t->capacity = capacity;
            t->maximum = maximum;
            atomic_store_explicit(&t->count, minimum, memory_order_release);
            return t;
        }
        *error = -errno;
        if (capacity == minimum) break;
    }
    free(t);
    return NULL;
}

void tl_table_free(struct tl_table *t) {
    munmap(t->elements, bytes_of(t->capacity));
    free(t);
}

uint32_t tl_table_grow(struct tl_table *t, uint64_t word, uint32_t delta) {
    tl_grow_lock();
    uint64_t count = atomic_load_explicit(&t->count, memory_order_relaxed);
    uint64_t limit = t->maximum < t->capacity ? t->maximum : t->capacity;
    uint32_t before = delta > limit - count ? TL_GROW_FAILED : (uint32_t)count;
    if (before != TL_GROW_FAILED) {
        /* Fresh pages are zero, and never written below: entries above the count never were used. */
        for (uint64_t i = 0; word && i < delta; i++) t->elements[count + i] = word;
        atomic_store_explicit(&t->count, count + delta, memory_order_release);
    }
    tl_grow_unlock();
    return before;
}
