/* layer_norm and rms_norm over the rows of x (rows, columns), as tinylm/ops/normalization.py has them:
   y = weight x̂ + bias with x̂ = (x - mean) rstd and rstd = 1/√(mean((x - mean)²) + eps). RMS norm is the same with a
   mean of 0, so one code serves both; `centred` is 1 for layer norm.

   Forward: y, and kept (2, rows) with the means and the rstds, from which the backward pass computes x̂ again.
   Backward, with dx̂ = dy weight: dx = rstd (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂)), without mean(dx̂) where the mean is the
   constant 0; dweight = Σ dy x̂ and dbias = Σ dy over the rows. Each block of rows is summed first,
   and then the blocks, so that the sums do not depend on the number of parts. */

#include "pool.h"
#include "products.h"
#include "vectors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 32, SUM_COLUMNS = 1024 }; /* of a block: rows, and columns that are added up in one sum */

typedef struct {
    int64_t rows, columns;
    int centred;
    const float *x, *weight, *bias;
    float eps, *y, *means, *rstds;
} Forward;

enum { SUMS = 4 }; /* at once: an addition waits for the one before it in the same sum */

/* Σ (x - c)^power for a power of 1 or 2, of n numbers, in the same order for every width of the target's vectors but for the last
   numbers, fewer than 64. */
static inline float sum_of_powers(const float *x, int64_t n, float c, int power) {
    Sixteen sums[SUMS] = {{0}}, v;
    int64_t j = 0;
    for (; j + SUMS * 16 <= n; j += SUMS * 16) {
        for (int i = 0; i < SUMS; i++) {
            memcpy(&v, x + j + i * 16, sizeof v);
            v -= c;
            sums[i] += power == 2 ? v * v : v;
        }
    }
    float lanes[16], rest = 0;
#pragma omp simd reduction(+ : rest)
    for (int64_t i = j; i < n; i++) rest += power == 2 ? (x[i] - c) * (x[i] - c) : x[i] - c;
    v = sums[0] + sums[1] + (sums[2] + sums[3]);
    memcpy(lanes, &v, sizeof lanes);
    for (int half = 8; half >= 4; half /= 2) {
#pragma omp simd
        for (int i = 0; i < half; i++) lanes[i] += lanes[half + i];
    }
    return rest + (lanes[0] + lanes[1] + (lanes[2] + lanes[3]));
}

static void forward_part(void *argument, int part, int parts) {
    const Forward *f = argument;
    const float *weight = f->weight, *bias = f->bias;
    const int64_t columns = f->columns;
    int64_t first, last;
    part_range(f->rows, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *x = f->x + row * columns;
        float *y = f->y + row * columns;
        float mean = f->centred ? sum_of_powers(x, columns, 0, 1) / (float)columns : 0;
        float rstd = 1 / sqrtf(sum_of_powers(x, columns, mean, 2) / (float)columns + f->eps);
#pragma omp simd
        for (int64_t j = 0; j < columns; j++) y[j] = (x[j] - mean) * rstd * weight[j] + bias[j];
        f->means[row] = mean;
        f->rstds[row] = rstd;
    }
}

EXPORT int norm_forward(
    int64_t rows, int64_t columns, int centred, const float *x, const float *weight, const float *bias, float eps, float *y,
    float *kept
) {
    Forward f = {rows, columns, centred, x, weight, bias, eps, y, kept, kept + rows};
    pool_run(forward_part, &f, rows * columns * 4);
    return 0;
}

typedef struct {
    int64_t rows, columns;
    int centred;
    const float *x, *weight, *means, *rstds, *dy;
    float *dx, *dweights, *dbiases; /* the last two: one row per block */
} Backward;

static void backward_part(void *argument, int part, int parts) {
    const Backward *b = argument;
    const float *weight = b->weight;
    const int64_t columns = b->columns;
    int64_t first, last;
    part_range(b->rows, ROWS, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *x = b->x + row * columns, *dy = b->dy + row * columns;
        const float mean = b->means[row], rstd = b->rstds[row];
        float *dx = b->dx + row * columns, *dweight = b->dweights + row / ROWS * columns, *dbias = b->dbiases + row / ROWS * columns;
        if (row % ROWS == 0) {
            for (int64_t j = 0; j < columns; j++) dweight[j] = dbias[j] = 0;
        }
        float sum = 0, product = 0;
        for (int64_t from = 0; from < columns; from += SUM_COLUMNS) {
            const int64_t to = columns - from < SUM_COLUMNS ? columns : from + SUM_COLUMNS;
            float block_sum = 0, block_product = 0;
#pragma omp simd reduction(+ : block_sum, block_product)
            for (int64_t j = from; j < to; j++) {
                float xhat = (x[j] - mean) * rstd, dxhat = dy[j] * weight[j];
                dx[j] = dxhat;
                dweight[j] += dy[j] * xhat;
                dbias[j] += dy[j];
                block_sum += dxhat;
                block_product += dxhat * xhat;
            }
            sum += block_sum;
            product += block_product;
        }
        sum = b->centred ? sum / (float)columns : 0;
        product /= (float)columns;
#pragma omp simd
        for (int64_t j = 0; j < columns; j++) dx[j] = rstd * (dx[j] - sum - (x[j] - mean) * rstd * product);
    }
}

EXPORT int norm_backward(
    int64_t rows, int64_t columns, int centred, const float *x, const float *weight, const float *kept, const float *dy,
    float *dx, float *dweight, float *dbias
) {
    int64_t blocks = (rows + ROWS - 1) / ROWS;
    float *workspace = malloc((size_t)(2 * blocks * columns + 1) * sizeof(float));
    if (!workspace) return NO_MEMORY;
    Backward b = {rows, columns, centred, x, weight, kept, kept + rows, dy, dx, workspace, workspace + blocks * columns};
    pool_run(backward_part, &b, rows * columns * 8);
    const ColumnSums sums[] = {{b.dweights, blocks, columns, columns, dweight}, {b.dbiases, blocks, columns, columns, dbias}};
    products_run(0, 0, sums, 2);
    free(workspace);
    return 0;
}
