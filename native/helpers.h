/* What compiled code calls in C, by index, through the instance block. */
#ifndef TL_HELPERS_H
#define TL_HELPERS_H

#include <stddef.h>
#include <stdint.h>

/* The words that every instance block begins with; a host function's block has the first five. */
enum tl_block_word {
    TL_BLOCK_MEMORY_BASE,
    TL_BLOCK_MEMORY,
    TL_BLOCK_HOST_STUB,
    TL_BLOCK_HELPERS,
    TL_BLOCK_OBJECT,
    TL_BLOCK_TABLES,
    TL_BLOCK_DATA,
    TL_BLOCK_ELEMENTS,
    TL_BLOCK_WORDS,
};

/* A function record, which a funcref points at. */
struct tl_function_record {
    uint64_t entry;
    uint64_t *block;
    uint64_t type_number;
    uint64_t index;
};

/* Kinds of request that thunks make through tl_stub_host. */
enum tl_request_kind {
    TL_REQUEST_NONE,
    TL_REQUEST_HOST_CALL, /* words: arguments in, results out; the block is the host function's */
    TL_REQUEST_COMPILE,   /* words[0]: function index in, entry address out; the block is the instance's */
};

#define TL_HELPER_COUNT 18
/* System V (AAPCS64) functions. rdi (x0) = block, three operands, an immediate; the last eight: a float -> a float. */
extern const void *const tl_helpers[TL_HELPER_COUNT];
extern const char __start_tl_helper_code[], __stop_tl_helper_code[]; /* the linker's bounds of the section */

#endif
