/* total += Σ g² over n numbers, as tinylm/optim/clipping.py has it. The sums of blocks are in float, their sum in double:
   its order does not depend on the number of parts, and it does not lose small gradients beside millions of others. */

#include "pool.h"

#include <stdlib.h>

enum { BLOCK = 2048 };

typedef struct {
    int64_t n;
    const float *g;
    double *sums; /* of each block */
} Norm;

static void norm_share(void *argument, int part, int parts) {
    const Norm *s = argument;
    const float *g = s->g;
    int64_t first, last;
    share(s->n, BLOCK, part, parts, &first, &last);
    for (int64_t from = first; from < last; from += BLOCK) {
        int64_t to = last - from < BLOCK ? last : from + BLOCK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = from; i < to; i++) sum += g[i] * g[i];
        s->sums[from / BLOCK] = sum;
    }
}

EXPORT int squared_norm(int64_t n, const float *g, float *total) {
    int64_t blocks = (n + BLOCK - 1) / BLOCK;
    double sum = 0, *sums = malloc((size_t)(blocks + 1) * sizeof(double));
    if (!sums) return 1;
    Norm s = {n, g, sums};
    pool_run(norm_share, &s, n);
    for (int64_t i = 0; i < blocks; i++) sum += sums[i];
    *total += (float)sum;
    free(sums);
    return 0;
}
