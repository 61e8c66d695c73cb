/* Reading and writing memory of this process that may not be there, without a fault. */
#define _GNU_SOURCE
#include "process_memory.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

typedef ssize_t transfer(pid_t, const struct iovec *, unsigned long, const struct iovec *, unsigned long, unsigned long);

static long move(transfer *move_pages, uint64_t address, void *bytes, size_t count) {
    struct iovec here = {bytes, count}, there = {(void *)(uintptr_t)address, count};
    ssize_t moved = move_pages(getpid(), &here, 1, &there, 1, 0);
    return moved < 0 ? -errno : (long)moved;
}

long tl_memory_read(uint64_t address, uint8_t *bytes, size_t count) {
    return move(process_vm_readv, address, bytes, count);
}

long tl_memory_write(uint64_t address, const uint8_t *bytes, size_t count) {
    return move(process_vm_writev, address, (void *)(uintptr_t)bytes, count);
}
