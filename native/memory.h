/* Linear memories: address space that never moves, pages that grow into it. */
#ifndef TL_MEMORY_H
#define TL_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define TL_WASM_PAGE_BYTES 65536u
#define TL_MEMORY_MOST_PAGES 65536u
#define TL_GROW_FAILED UINT32_MAX

/* Code that this process compiled reads the first four words; jit/trapline/compile/instance.py names them too. */
struct tl_memory {
    uint8_t *base;           /* never moves; [base, base + bytes) can be read and written */
    _Atomic uint64_t bytes;  /* written last when the memory grows, so that every byte below it is there */
    uint64_t reserved_bytes; /* address space from base on: nothing else is ever mapped in it */
    uint64_t max_pages;
    uint32_t checked;        /* 1: the reservation is smaller than what an address can reach, code compares with bytes */
    struct tl_memory *next;  /* in the pool */
};

/* A memory of min_pages pages that can grow to max_pages, zeroed. With `small`, or where the address space of a memory
 * that needs no checks is not to be had, one with `checked`. NULL with *error, a negative errno. */
struct tl_memory *tl_memory_new(uint64_t min_pages, uint64_t max_pages, int small, int *error);
/* Nothing may refer to it any more. */
void tl_memory_free(struct tl_memory *memory);
/* The number of pages before, or TL_GROW_FAILED. From any thread; also called by native code on a fiber's stack. */
uint32_t tl_memory_grow(struct tl_memory *memory, uint32_t delta_pages);
/* Gives the address space of freed memories back to the system. */
void tl_memory_trim(void);
/* Start-up: what a fork must not find locked. 0 or a negative errno. */
int tl_memory_start(void);
/* The lock that growing takes, of memories and tables alike. */
void tl_grow_lock(void);
void tl_grow_unlock(void);

#endif
