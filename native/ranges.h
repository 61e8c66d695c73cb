/* Which code an address belongs to: the rows that handlers search. */
#ifndef TL_RANGES_H
#define TL_RANGES_H

#include <stddef.h>
#include <stdint.h>

/* What the pages of a struct tl_code are for. */
enum tl_code_kind {
    TL_CODE_IMAGE,    /* canonical, appended to, never patched */
    TL_CODE_PRIVATE,  /* a copy that breakpoints are patched into */
    TL_CODE_STEPPING, /* a copy with a trap at every stop point; stands for its home, where a step began */
};

struct tl_code;

/* A row: [start, stop), rows sorted by start and disjoint. */
struct tl_range {
    uint64_t start, stop;
    struct tl_code *code;
    uint64_t slots; /* where the slots begin; == stop where there are none */
    enum tl_code_kind kind;
};

/* Copies the row that holds `pc` and returns 1, or returns 0. Called by handlers: no lock, no allocation. */
int tl_range_find(uint64_t pc, struct tl_range *row);
/* Puts these rows, in any order, in the place of all there are; the caller holds the code lock. Frees the old ones when
 * no handler reads them any more. 0 or a negative errno. */
int tl_ranges_replace(const struct tl_range *rows, size_t count);

#endif
