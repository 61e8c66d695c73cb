/* What compiled code calls in C: bulk operations on memories and tables, growing, and rounding for machines without
 * an instruction for it.
 *
 * All run on a fiber's stack, whose lowest 32 KiB the caller keeps free. None allocates, none locks but to grow, none
 * leaves but by its return. They lie in a section of their own, so that a fault in one can be attributed.
 *
 * Operands are u32 values, zero-extended. Every range is checked as a whole, in 64 bits, before the first byte is
 * written (WebAssembly core specification 2.0, 4.4.6 and 4.4.7).
 */
#include "helpers.h"

#include <string.h>

#include "memory.h"
#include "table.h"

#define HELPER __attribute__((section("tl_helper_code"), noinline, used)) static

#define DONE 0u
#define OUT_OF_BOUNDS 1u

struct data_row {
    uint64_t address, bytes;
};
struct element_row {
    uint64_t address, count; /* of u64 words */
};

#define MEMORY_OF(block) ((struct tl_memory *)(block)[TL_BLOCK_MEMORY])
#define TABLE_OF(block, index) (((struct tl_table **)(block)[TL_BLOCK_TABLES])[index])
#define DATA_OF(block, index) (&((struct data_row *)(block)[TL_BLOCK_DATA])[index])
#define ELEMENT_OF(block, index) (&((struct element_row *)(block)[TL_BLOCK_ELEMENTS])[index])
#define OUTSIDE(start, n, size) ((start) + (n) > (size)) /* of u32 values in 64 bits: no overflow */

/* ---- memory ---- */

HELPER uint64_t memory_grow(const uint64_t *block, uint64_t delta) {
    return tl_memory_grow(MEMORY_OF(block), (uint32_t)delta);
}

HELPER uint64_t memory_fill(const uint64_t *block, uint64_t dest, uint64_t value, uint64_t n) {
    struct tl_memory *m = MEMORY_OF(block);
    if (OUTSIDE(dest, n, m->bytes)) return OUT_OF_BOUNDS;
    memset(m->base + dest, (int)value, n);
    return DONE;
}

HELPER uint64_t memory_copy(const uint64_t *block, uint64_t dest, uint64_t source, uint64_t n) {
    struct tl_memory *m = MEMORY_OF(block);
    uint64_t bytes = m->bytes;
    if (OUTSIDE(dest, n, bytes) || OUTSIDE(source, n, bytes)) return OUT_OF_BOUNDS;
    memmove(m->base + dest, m->base + source, n);
    return DONE;
}

HELPER uint64_t memory_init(const uint64_t *block, uint64_t dest, uint64_t source, uint64_t n, uint64_t segment) {
    struct tl_memory *m = MEMORY_OF(block);
    const struct data_row *data = DATA_OF(block, segment);
    if (OUTSIDE(dest, n, m->bytes) || OUTSIDE(source, n, data->bytes)) return OUT_OF_BOUNDS;
    if (n) memcpy(m->base + dest, (const uint8_t *)data->address + source, n);
    return DONE;
}

HELPER uint64_t data_drop(const uint64_t *block, uint64_t a, uint64_t b, uint64_t c, uint64_t segment) {
    (void)a, (void)b, (void)c;
    DATA_OF(block, segment)->bytes = 0;
    return DONE;
}

/* ---- tables ---- */

HELPER uint64_t table_grow(const uint64_t *block, uint64_t init, uint64_t delta, uint64_t unused, uint64_t table) {
    (void)unused;
    return tl_table_grow(TABLE_OF(block, table), init, (uint32_t)delta);
}

HELPER uint64_t table_fill(const uint64_t *block, uint64_t start, uint64_t value, uint64_t n, uint64_t table) {
    struct tl_table *t = TABLE_OF(block, table);
    if (OUTSIDE(start, n, t->count)) return OUT_OF_BOUNDS;
    for (uint64_t i = 0; i < n; i++) t->elements[start + i] = value;
    return DONE;
}

HELPER uint64_t table_copy(const uint64_t *block, uint64_t dest, uint64_t source, uint64_t n, uint64_t tables) {
    struct tl_table *to = TABLE_OF(block, (uint32_t)tables), *from = TABLE_OF(block, tables >> 32);
    if (OUTSIDE(dest, n, to->count) || OUTSIDE(source, n, from->count)) return OUT_OF_BOUNDS;
    memmove(to->elements + dest, from->elements + source, n * sizeof *to->elements);
    return DONE;
}

HELPER uint64_t table_init(const uint64_t *block, uint64_t dest, uint64_t source, uint64_t n, uint64_t immediate) {
    struct tl_table *t = TABLE_OF(block, (uint32_t)immediate);
    const struct element_row *elements = ELEMENT_OF(block, immediate >> 32);
    if (OUTSIDE(dest, n, t->count) || OUTSIDE(source, n, elements->count)) return OUT_OF_BOUNDS;
    if (n) memcpy(t->elements + dest, (const uint64_t *)elements->address + source, n * sizeof *t->elements);
    return DONE;
}

HELPER uint64_t elem_drop(const uint64_t *block, uint64_t a, uint64_t b, uint64_t c, uint64_t segment) {
    (void)a, (void)b, (void)c;
    ELEMENT_OF(block, segment)->count = 0;
    return DONE;
}

/* ---- rounding, in the round-to-nearest-even mode that native code starts with ----
 *
 * From 2**23 (2**52) on every value is an integer, and an addition makes a NaN quiet. Below, conversion to an integer
 * truncates, and adding and subtracting 2**23 (2**52) rounds to nearest, ties to even. The sign is the operand's, so
 * that a zero keeps it. The barrier keeps the compiler from simplifying. */
#define ROUNDING(type, integer, suffix, abs, copysign, limit)                                              \
    HELPER type trunc_##suffix(type x) {                                                                   \
        if (!(abs(x) < (limit))) return x + 0;                                                             \
        return copysign((type)(integer)x, x);                                                              \
    }                                                                                                      \
    HELPER type ceil_##suffix(type x) {                                                                    \
        if (!(abs(x) < (limit))) return x + 0;                                                             \
        type whole = (type)(integer)x;                                                                     \
        return copysign(whole < x ? whole + 1 : whole, x);                                                 \
    }                                                                                                      \
    HELPER type floor_##suffix(type x) {                                                                   \
        if (!(abs(x) < (limit))) return x + 0;                                                             \
        type whole = (type)(integer)x;                                                                     \
        return copysign(whole > x ? whole - 1 : whole, x);                                                 \
    }                                                                                                      \
    HELPER type nearest_##suffix(type x) {                                                                 \
        if (!(abs(x) < (limit))) return x + 0;                                                             \
        volatile type sum = abs(x) + (limit);                                                              \
        return copysign(sum - (limit), x);                                                                 \
    }

ROUNDING(float, int32_t, f32, __builtin_fabsf, __builtin_copysignf, 8388608.0f)
ROUNDING(double, int64_t, f64, __builtin_fabs, __builtin_copysign, 4503599627370496.0)

const void *const tl_helpers[TL_HELPER_COUNT] = {
    memory_grow, memory_fill, memory_copy, memory_init, data_drop,   table_grow,  table_fill, table_copy,  table_init,
    elem_drop,   ceil_f32,    floor_f32,   trunc_f32,   nearest_f32, ceil_f64,    floor_f64,  trunc_f64,   nearest_f64,
};
