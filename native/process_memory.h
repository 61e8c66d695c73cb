/* Memory of this process by address, for the debugger's reads and writes. */
#ifndef TL_PROCESS_MEMORY_H
#define TL_PROCESS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Copies up to `count` bytes; returns how many could be copied from the start on, or a negative errno
 * (-EFAULT: not even the first). Never faults. */
long tl_memory_read(uint64_t address, uint8_t *bytes, size_t count);
long tl_memory_write(uint64_t address, const uint8_t *bytes, size_t count);

#endif
