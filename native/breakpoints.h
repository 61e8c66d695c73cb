/* The breakpoints of one copy: offset -> the slot that runs the displaced instruction. */
#ifndef TL_BREAKPOINTS_H
#define TL_BREAKPOINTS_H

#include <stddef.h>
#include <stdint.h>

struct tl_breakpoint {
    uint64_t key; /* offset + 1 */
    uint32_t slot, on;
};

/* Every offset that ever had a breakpoint: open addressing, power-of-two size, key 0 is an empty row. A breakpoint that
 * is taken away keeps its row, switched off: a thread may have hit it just before. */
struct tl_breakpoints {
    struct tl_breakpoint *rows;
    size_t size, filled;
};

/* The row of an offset, or NULL. */
const struct tl_breakpoint *tl_breakpoints_find(const struct tl_breakpoints *breakpoints, uint64_t offset);
/* Switches the breakpoint at an offset on (slot >= 0) or off (slot < 0). 0 or a negative errno. */
int tl_breakpoints_set(struct tl_breakpoints *breakpoints, uint64_t offset, long slot);

#endif
