/* One pool of threads for everything in this library: see pool.c. */
#ifndef TINYLM_POOL_H
#define TINYLM_POOL_H

#include <stdint.h>

/* What Python calls; it returns 0, or 1 if there was not enough memory, or 2 if an id was out of range. */
#define EXPORT __attribute__((visibility("default")))

enum { NO_MEMORY = 1, ID_OUT_OF_RANGE = 2 };

/* For a struct that Python fills by name: its size here, which Python compares with its own. */
#define EXPORT_SIZE(name) \
    EXPORT int size_of_##name(void) { return (int)sizeof(name); }

/* One part of some work: part `part` of `parts`. */
typedef void Work(void *argument, int part, int parts);

/* Runs all parts of the work, part 0 in the calling thread, and returns when all are done. The number of parts is the same in
   every run, however many threads there are, and no part waits for another one: what is computed depends on that number alone.
   operations: about how many multiply-adds all parts take together; with few of them the caller does all parts itself, which is
   faster than waking the other threads. */
void pool_run(Work *work, void *argument, int64_t operations);

/* The number of parts of every run. */
int pool_parts(void);

/* Ends the threads; the next run starts with `parts` parts. */
int pool_size(int parts);

/* The items [first, last) of n that belong to this part: whole grains, except for the very last one. */
static inline void part_range(int64_t n, int64_t grain, int part, int parts, int64_t *first, int64_t *last) {
    int64_t grains = (n + grain - 1) / grain;
    *first = grains * part / parts * grain;
    *last = grains * (part + 1) / parts * grain;
    if (*first > n) *first = n;
    if (*last > n) *last = n;
}

#endif
