/* Code memory: images, copies, patches, slots, and the table of ranges that handlers search. */
#ifndef TL_CODE_H
#define TL_CODE_H

#include <stddef.h>
#include <stdint.h>

#include "ranges.h"

#define TL_SLOT_BYTES 64 /* must match trapline.tuning.SLOT_BYTES */
#define TL_SPARE_SLOTS 65536 /* must match trapline.tuning.STEPPING_SLOTS */

#define TL_ERR_CAPACITY (-2010) /* the bytes do not fit */
#define TL_ERR_RANGE (-2011)    /* offset outside the code */
#define TL_ERR_KIND (-2013)     /* a patch of an image, a copy of a copy */
#define TL_ERR_BROKEN (-2014)   /* the child of a fork could not get its own memory for this code */
#define TL_ERR_CLOSED (-2015)   /* somebody closed the memfd's descriptor */

int tl_code_start(void);

/* A new image that can hold capacity_bytes (rounded up to pages). */
struct tl_code *tl_code_image(size_t capacity_bytes, int *error);
/* A copy of `image` with room for `slots` displaced instructions. A stepping copy names its home, else NULL. */
struct tl_code *tl_code_copy(struct tl_code *image, size_t slots, struct tl_code *home, int *error);
/* Unmaps, as soon as no copy of it is left. */
int tl_code_free(struct tl_code *code);
uint64_t tl_code_base(const struct tl_code *code);
uint64_t tl_code_slot_address(const struct tl_code *code, size_t slot);
size_t tl_code_used(const struct tl_code *code);
size_t tl_code_capacity(const struct tl_code *code);
size_t tl_code_slots(const struct tl_code *code);
size_t tl_code_own_pages(const struct tl_code *code);

/* Appends to an image, and so to every copy, at the next multiple of align_bytes (a power of two). */
int tl_code_publish(struct tl_code *image, const uint8_t *bytes, size_t count, size_t align_bytes, size_t *offset);
/* Writes over published bytes of a copy. A page patched for the first time becomes the copy's own. */
int tl_code_patch(struct tl_code *copy, size_t offset, const uint8_t *bytes, size_t count);
/* Writes the same bytes at each of n offsets. */
int tl_code_patch_each(struct tl_code *copy, const uint32_t *offsets, size_t n, const uint8_t *bytes, size_t count);
int tl_code_read(const struct tl_code *code, size_t offset, uint8_t *bytes, size_t count);

/* What a pc at or above `start` (and below the next row's) in a slot means: the program is at `pc`, or at the address
 * in general register `pc_register` where that is not -1, once sp_adjust is added to the stack pointer. */
struct tl_slot_place {
    uint64_t pc;
    uint8_t start;
    int8_t sp_adjust;
    int8_t pc_register;
};
#define TL_SLOT_PLACES 6

/* Puts one relocated instruction into a slot, with the meaning of each of its pcs, in order of `start`. */
int tl_code_slot_write(struct tl_code *copy, size_t slot, const uint8_t *bytes, size_t count,
                       const struct tl_slot_place *places, size_t n);
/* Switches on (slot >= 0) or off (slot < 0) the breakpoint at an offset; the trap itself is patched apart. */
int tl_code_breakpoint(struct tl_code *copy, size_t offset, long slot);

/* What a pc means to a debugger: the pc in the copy the fiber belongs to. */
enum tl_place {
    TL_PLACE_OUTSIDE,    /* not in registered code */
    TL_PLACE_CODE,       /* in an image or a private copy */
    TL_PLACE_BREAKPOINT, /* the same, and a breakpoint is there */
    TL_PLACE_GONE,       /* the same, and a breakpoint was there once */
    TL_PLACE_STEP,       /* in a stepping copy; the meaning is the same place in its home */
    TL_PLACE_SLOT,       /* in a slot */
};
enum tl_place tl_code_place(uint64_t pc, struct tl_slot_place *meaning);
/* The address of the slot that runs the instruction displaced by the breakpoint at `pc`; 0 if there is none. */
uint64_t tl_code_breakpoint_slot(uint64_t pc);

#endif
