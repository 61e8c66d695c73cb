/* The image with all native code of machine.h, and fibers: what most programs begin with. After check.h. */
#ifndef TEST_COMMON_H
#define TEST_COMMON_H

#include "check.h"
#include "code.h"
#include "context.h"

static struct tl_code *image;
static uint64_t base;
static size_t code_offset;

/* Where the copy of a symbol of code_<arch>.S is. */
static inline uint64_t at(const uint8_t *linked) { return base + (uint64_t)(linked - trap_code_start); }

static inline size_t offset_of(const uint8_t *linked) { return code_offset + (size_t)(linked - trap_code_start); }

static inline struct tl_fiber *new_fiber(void) {
    int error;
    struct tl_fiber *fiber = tl_fiber_new(65536, 1 << 20, &error);
    NEED(fiber);
    return fiber;
}

static inline void start(void) {
    int error;
    size_t bytes = (size_t)(trap_code_stop - trap_code_start);
    if (image) return;
    NEED(tl_start() == 0);
    machine_start();
    image = tl_code_image(bytes + 65536, &error);
    NEED(image && tl_code_publish(image, trap_code_start, bytes, 64, &code_offset) == 0);
    base = tl_code_base(image) + code_offset;
}

/* Readies a fiber to run one of the functions of one argument. */
static inline void ready(struct tl_fiber *fiber, uint64_t pc, uint64_t argument) {
    tl_fiber_reset(fiber, pc);
    tl_arch_set_int(fiber, 0, argument);
}

#endif
