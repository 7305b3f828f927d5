/* The caches of the processor. */
#ifndef TINYLM_CACHES_H
#define TINYLM_CACHES_H

#include <stdint.h>

/* The bytes of a core's L2 cache, or 512 KB if the system does not tell. */
int64_t level2_cache(void);

#endif
