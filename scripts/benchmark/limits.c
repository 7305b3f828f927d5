/* What the cores of this machine can do at most, for scripts/benchmark.py: see limits.py. It is compiled with pool.c of
   kernels/cpu, for the same target as the kernels. */

#include "pool.h"
#include "vectors.h"

#include <string.h>

#if (defined(__x86_64__) || defined(__i386__)) && !defined(__AVX512F__)
enum { SUMS = 12 }; /* of 16 registers */
#else
enum { SUMS = 24 }; /* of 32 */
#endif

typedef struct {
    int64_t n, repeats;
    const float *values;
    float *out;
} Limit;

/* Each sum is independent of the others, so that no multiply-add waits for the one before. */
static void multiply_adds_part(void *argument, int part, int parts) {
    const Limit *l = argument;
    Vector factor = l->values[0] - (Vector){0}, term = l->values[1] - (Vector){0}, sums[SUMS], total = {0};
    (void)parts;
#pragma GCC unroll 24
    for (int i = 0; i < SUMS; i++) sums[i] = term * (float)i;
    for (int64_t r = 0; r < l->repeats; r++) {
#pragma GCC unroll 24
        for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * factor + term;
    }
#pragma GCC unroll 24
    for (int i = 0; i < SUMS; i++) total += sums[i];
    memcpy(l->out + part * LANES, &total, sizeof total);
}

/* `repeats` times SUMS vector multiply-adds on each core. values has 2 floats, out has 16 for each part, done becomes the number of
   multiply-adds of all cores. */
EXPORT int multiply_adds(int64_t repeats, const float *values, float *out, int64_t *done) {
    Limit l = {0, repeats, values, out};
    pool_run(multiply_adds_part, &l, INT64_MAX);
    *done = repeats * SUMS * LANES * pool_parts();
    return 0;
}

/* Each core adds up its own n floats, `repeats` times. n is a multiple of 128. */
static void read_again_part(void *argument, int part, int parts) {
    const Limit *l = argument;
    const float *mine = l->values + part * l->n;
    Vector sums[8], total = {0};
    (void)parts;
    memset(sums, 0, sizeof sums);
    for (int64_t r = 0; r < l->repeats; r++) {
        for (int64_t at = 0; at < l->n; at += 8 * LANES) {
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                Vector v;
                memcpy(&v, mine + at + i * LANES, sizeof v);
                sums[i] += v;
            }
        }
        __asm__ volatile("" ::: "memory"); /* the next time is not the same to the compiler */
    }
    for (int i = 0; i < 8; i++) total += sums[i];
    memcpy(l->out + part * LANES, &total, sizeof total);
}

EXPORT int read_again(int64_t n, int64_t repeats, const float *values, float *out) {
    Limit l = {n, repeats, values, out};
    pool_run(read_again_part, &l, INT64_MAX);
    return 0;
}
