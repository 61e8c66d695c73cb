/* Address space without memory behind it. */
#ifndef TL_RESERVE_H
#define TL_RESERVE_H

#include <stddef.h>

/* Reserves bytes at the wish, a hint only, or anywhere when it is NULL. MAP_FAILED with errno set. */
void *tl_reserve(void *wish, size_t bytes);
/* Reserves bytes so that no place of them is 2 GiB from any place of [home, home + home_bytes), where there is room;
 * anywhere where there is none. */
void *tl_reserve_near(const void *home, size_t home_bytes, size_t bytes);

#endif
