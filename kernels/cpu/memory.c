/* Keeps the memory of freed arrays in the process.

   The GNU C library returns large blocks, and the end of its heap, to the system as soon as they are free. A training
   step frees everything it has allocated, and the next one allocates the same again: the system would provide newly zeroed pages at
   every step, which takes up to a quarter of its time. Other C libraries are left as they are. */

#include "pool.h"

#include <stdlib.h>

#ifdef __GLIBC__
#include <limits.h>
#include <malloc.h>
#endif

EXPORT int keep_memory(void) {
#ifdef __GLIBC__
    if (getenv("MALLOC_TRIM_THRESHOLD_") || getenv("MALLOC_MMAP_THRESHOLD_")) return 0; /* the user's own settings */
    mallopt(M_MMAP_THRESHOLD, INT_MAX);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
    return 0;
}
