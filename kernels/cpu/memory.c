/* Memory of arrays that are freed stays with the process for the next ones.

   The GNU C library gives large blocks, and the end of its heap, back to the system as soon as they are free. A training
   step frees all it has made and makes the same again: the system would hand out zeroed pages anew at every
   step, which takes up to a quarter of its time. Other C libraries are left as they are. */

#include "pool.h"

#include <stdlib.h>

#ifdef __GLIBC__
#include <limits.h>
#include <malloc.h>
#endif

EXPORT int keep_memory(void) {
#ifdef __GLIBC__
    if (getenv("MALLOC_TRIM_THRESHOLD_") || getenv("MALLOC_MMAP_THRESHOLD_")) return 0; /* the user has decided */
    mallopt(M_MMAP_THRESHOLD, INT_MAX);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
    return 0;
}
