/* Tables of references, as words. */
#ifndef TL_TABLE_H
#define TL_TABLE_H

#include <stdint.h>

#define TL_TABLE_MOST 10000000u /* entries; an implementation limit of the embedding */

/* Code that this process compiled reads the first two words. */
struct tl_table {
    uint64_t *elements;     /* never move */
    _Atomic uint64_t count; /* written last when the table grows */
    uint64_t capacity;      /* what the address space has room for */
    uint64_t maximum;       /* what the type allows */
};

/* A table of `minimum` nulls. NULL with *error, a negative errno. */
struct tl_table *tl_table_new(uint64_t minimum, uint64_t maximum, int *error);
void tl_table_free(struct tl_table *table);
/* Grows by `delta` entries that are all `word`: the count before, or TL_GROW_FAILED. From any thread. */
uint32_t tl_table_grow(struct tl_table *table, uint64_t word, uint32_t delta);

#endif
