/* total += Σ g² over n numbers, as tinylm/optim/optimizer.py has it. A block has 16 sums in float, and the sum of all blocks is in double,
   so that small gradients are not lost among millions of others. The order of the additions depends neither on the number of parts
   nor on the width of the target's vectors: wherever the target has fused multiply-adds, the digits are the same. */

#include "pool.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 2048, SUMS = 16 };

typedef struct {
    int64_t n;
    const float *g;
    double *sums; /* of each block */
} Norm;

static float sum_of_squares(const float *g, int64_t n) {
    float sums[SUMS] = {0}, rest[SUMS] = {0}, total = 0;
    int64_t j = 0;
    for (; j + SUMS <= n; j += SUMS) {
#pragma omp simd
        for (int i = 0; i < SUMS; i++) sums[i] += g[j + i] * g[j + i];
    }
    memcpy(rest, g + j, sizeof(float) * (size_t)(n - j));
#pragma omp simd
    for (int i = 0; i < SUMS; i++) sums[i] += rest[i] * rest[i];
    for (int i = 0; i < SUMS; i++) total += sums[i];
    return total;
}

static void norm_part(void *argument, int part, int parts) {
    const Norm *s = argument;
    int64_t first, last;
    part_range(s->n, BLOCK, part, parts, &first, &last);
    for (int64_t from = first; from < last; from += BLOCK) {
        s->sums[from / BLOCK] = sum_of_squares(s->g + from, last - from < BLOCK ? last - from : BLOCK);
    }
}

EXPORT int squared_norm(int64_t n, const float *g, float *total) {
    int64_t blocks = (n + BLOCK - 1) / BLOCK;
    double sum = 0, *sums = malloc((size_t)(blocks + 1) * sizeof(double));
    if (!sums) return NO_MEMORY;
    Norm s = {n, g, sums};
    pool_run(norm_part, &s, n);
    for (int64_t i = 0; i < blocks; i++) sum += sums[i];
    *total += (float)sum;
    free(sums);
    return 0;
}
