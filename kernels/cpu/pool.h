/* One pool of threads for everything in this library: see pool.c. */
#ifndef TINYLM_POOL_H
#define TINYLM_POOL_H

#include <stdint.h>

/* What Python calls; it returns 0, or 1 when there was not enough memory. */
#define EXPORT __attribute__((visibility("default")))

/* A share of some work: that of part `part` of `parts`. */
typedef void Work(void *argument, int part, int parts);

/* Runs all parts of the work, the caller's own as part 0, and returns when all are done. The number of
   parts is the same in every run, whatever threads there are, and a part never waits for another one:
   what is computed depends on that number alone. operations: about how many multiply-adds it takes all together; the
   caller does few of them itself, sooner than others would wake up. */
void pool_run(Work *work, void *argument, int64_t operations);

/* The number of parts of every run. */
int pool_parts(void);

/* Ends the threads there are, and has the next run begin with `parts` parts. */
int pool_size(int parts);

/* The part's share [first, last) of n items, in whole grains apart from the very last. */
static inline void share(int64_t n, int64_t grain, int part, int parts, int64_t *first, int64_t *last) {
    int64_t grains = (n + grain - 1) / grain;
    *first = grains * part / parts * grain;
    *last = grains * (part + 1) / parts * grain;
    if (*first > n) *first = n;
    if (*last > n) *last = n;
}

#endif
