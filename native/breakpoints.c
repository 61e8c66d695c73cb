/* The breakpoints of one copy. The caller holds the code lock. */
#include "breakpoints.h"

#include <errno.h>
#include <stdlib.h>

static struct tl_breakpoint *row_of(const struct tl_breakpoints *b, uint64_t key) {
    size_t at = (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & (b->size - 1); /* 2**64 over the golden ratio */
    while (b->rows[at].key && b->rows[at].key != key) at = (at + 1) & (b->size - 1);
    return &b->rows[at];
}

static int grow(struct tl_breakpoints *b) {
    struct tl_breakpoints fresh = {.size = b->size ? b->size * 2 : 16, .filled = b->filled};
    fresh.rows = calloc(fresh.size, sizeof *fresh.rows);
    if (!fresh.rows) return -ENOMEM;
    for (size_t i = 0; i < b->size; i++)
        if (b->rows[i].key) *row_of(&fresh, b->rows[i].key) = b->rows[i];
    free(b->rows);
    *b = fresh;
    return 0;
}

const struct tl_breakpoint *tl_breakpoints_find(const struct tl_breakpoints *b, uint64_t offset) {
    const struct tl_breakpoint *found = b->size ? row_of(b, offset + 1) : NULL;
    return found && found->key ? found : NULL;
}

int tl_breakpoints_set(struct tl_breakpoints *b, uint64_t offset, long slot) {
    if (slot < 0) {
        struct tl_breakpoint *row = b->size ? row_of(b, offset + 1) : NULL;
        if (row) row->on = 0;
        return 0;
    }
    int error = b->filled * 2 >= b->size ? grow(b) : 0;
    if (error) return error;
    struct tl_breakpoint *row = row_of(b, offset + 1);
    b->filled += !row->key;
    *row = (struct tl_breakpoint){offset + 1, (uint32_t)slot, 1};
    return 0;
}
