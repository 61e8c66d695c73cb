/* Address space without memory behind it, near something where that is wanted. */
#define _GNU_SOURCE
#include "reserve.h"

#include <stdint.h>
#include <sys/mman.h>

void *tl_reserve(void *wish, size_t bytes) {
    return mmap(wish, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/* Asks above and below, further and further away; the kernel goes elsewhere where a place is taken. */
void *tl_reserve_near(const void *home, size_t home_bytes, size_t bytes) {
    const uint64_t reach = (uint64_t)1 << 31, stride = (uint64_t)16 << 20;
    uint64_t start = (uint64_t)home, stop = start + home_bytes;
    for (uint64_t away = 0; away + home_bytes + bytes < reach; away += stride) {
        uint64_t wishes[2] = {stop + away, start - away - bytes};
        for (int i = 0; i < 2; i++) {
            void *m = tl_reserve((void *)(uintptr_t)wishes[i], bytes);
            uint64_t at = (uint64_t)m, low = at < start ? at : start, high = at + bytes > stop ? at + bytes : stop;
            if (m == MAP_FAILED || high - low < reach) return m;
            munmap(m, bytes);
        }
    }
    return tl_reserve(NULL, bytes); /* most instructions can do without */
}
