/* The table of code ranges that handlers search: immutable, replaced as a whole. */
#include "ranges.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

struct table {
    size_t count;
    struct tl_range rows[];
};

static struct table empty_table;
static _Atomic(struct table *) table = &empty_table;

int tl_range_find(uint64_t pc, struct tl_range *row) {
    struct tl_thread *self = &tl_self;
    int found = 0;
    /* Only this thread changes its counter; a handler that interrupts us here leaves it as it was. */
    atomic_store_explicit(&self->reading, atomic_load_explicit(&self->reading, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    tl_fence(); /* pairs with tl_threads_wait_readers */
    struct table *t = atomic_load(&table);
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (t->rows[middle].stop <= pc) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < t->count && t->rows[low].start <= pc) {
        *row = t->rows[low];
        found = 1;
    }
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&self->reading, atomic_load_explicit(&self->reading, memory_order_relaxed) - 1,
                          memory_order_relaxed);
    return found;
}

static int by_start(const void *a, const void *b) {
    uint64_t x = ((const struct tl_range *)a)->start, y = ((const struct tl_range *)b)->start;
    return x < y ? -1 : x > y;
}

int tl_ranges_replace(const struct tl_range *rows, size_t count) {
    struct table *fresh = malloc(sizeof *fresh + count * sizeof fresh->rows[0]);
    if (!fresh) return -ENOMEM;
    fresh->count = count;
    if (count) memcpy(fresh->rows, rows, count * sizeof *rows);
    qsort(fresh->rows, count, sizeof fresh->rows[0], by_start);
    struct table *old = atomic_exchange(&table, fresh);
    tl_threads_wait_readers();
    if (old != &empty_table) free(old);
    return 0;
}
