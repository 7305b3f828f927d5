/* layer_norm and rms_norm over the rows of x (rows, columns), as tinylm/ops/normalization.py has them:
   y = weight x̂ + bias with x̂ = (x - mean) rstd and rstd = 1/√(mean((x - mean)²) + eps). RMS norm is the same with a
   mean of 0, so one code serves both; `centred` says which it is.

   Forward: y, and kept (2, rows) with the means and the rstds, from which the backward pass computes x̂ again.
   Backward, with dx̂ = dy weight: dx = rstd (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂)), without mean(dx̂) where the mean is the
   constant 0; dweight = Σ dy x̂ and dbias = Σ dy over the rows. These sums are first those of each block of rows,
   whoever computes it, and then those of the blocks, so that they do not depend on the number of parts. */

#include "pool.h"
#include "products.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 32 }; /* of a block */

typedef struct {
    int64_t rows, columns;
    int centred;
    const float *x, *weight, *bias;
    float eps, *y, *means, *rstds;
} Forward;

enum { LANES = 16, SUMS = 4 };

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));
typedef float Half __attribute__((vector_size(LANES / 2 * sizeof(float))));
typedef float Quarter __attribute__((vector_size(LANES / 4 * sizeof(float))));

static inline float total(Vector v) {
    Half h, upper_h;
    Quarter q, upper_q;
    memcpy(&h, &v, sizeof h);
    memcpy(&upper_h, (char *)&v + sizeof h, sizeof h);
    h += upper_h;
    memcpy(&q, &h, sizeof q);
    memcpy(&upper_q, (char *)&h + sizeof q, sizeof q);
    q += upper_q;
    return q[0] + q[1] + (q[2] + q[3]);
}

/* Σ (x - c)^power for a power of 1 or 2, of n numbers. Four sums at once: an addition waits for the one before it. */
static inline float sum_of(const float *x, int64_t n, float c, int power) {
    Vector sums[SUMS] = {{0}}, v;
    int64_t j = 0;
    for (; j + SUMS * LANES <= n; j += SUMS * LANES) {
        for (int i = 0; i < SUMS; i++) {
            memcpy(&v, x + j + i * LANES, sizeof v);
            v -= c;
            sums[i] += power == 2 ? v * v : v;
        }
    }
    float rest = 0;
#pragma omp simd reduction(+ : rest)
    for (int64_t i = j; i < n; i++) rest += power == 2 ? (x[i] - c) * (x[i] - c) : x[i] - c;
    return rest + total(sums[0] + sums[1] + (sums[2] + sums[3]));
}

static void forward_share(void *argument, int part, int parts) {
    const Forward *f = argument;
    const float *weight = f->weight, *bias = f->bias;
    const int64_t columns = f->columns;
    int64_t first, last;
    share(f->rows, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *x = f->x + row * columns;
        float *y = f->y + row * columns;
        float mean = f->centred ? sum_of(x, columns, 0, 1) / (float)columns : 0;
        float rstd = 1 / sqrtf(sum_of(x, columns, mean, 2) / (float)columns + f->eps);
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
    pool_run(forward_share, &f, rows * columns * 4);
    return 0;
}

typedef struct {
    int64_t rows, columns;
    int centred;
    const float *x, *weight, *means, *rstds, *dy;
    float *dx, *dweights, *dbiases; /* the last two: a row for each block */
} Backward;

static void backward_share(void *argument, int part, int parts) {
    const Backward *b = argument;
    const float *weight = b->weight;
    const int64_t columns = b->columns;
    int64_t first, last;
    share(b->rows, ROWS, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *x = b->x + row * columns, *dy = b->dy + row * columns;
        const float mean = b->means[row], rstd = b->rstds[row];
        float *dx = b->dx + row * columns, *dweight = b->dweights + row / ROWS * columns, *dbias = b->dbiases + row / ROWS * columns;
        if (row % ROWS == 0) {
            for (int64_t j = 0; j < columns; j++) dweight[j] = dbias[j] = 0;
        }
        float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
        for (int64_t j = 0; j < columns; j++) {
            float xhat = (x[j] - mean) * rstd, dxhat = dy[j] * weight[j];
            dx[j] = dxhat;
            dweight[j] += dy[j] * xhat;
            dbias[j] += dy[j];
            sum += dxhat;
            product += dxhat * xhat;
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
    float *room = malloc((size_t)(2 * blocks * columns + 1) * sizeof(float));
    if (!room) return 1;
    Backward b = {rows, columns, centred, x, weight, kept, kept + rows, dy, dx, room, room + blocks * columns};
    pool_run(backward_share, &b, rows * columns * 8);
    const ColumnSums sums[] = {{b.dweights, blocks, columns, columns, dweight}, {b.dbiases, blocks, columns, columns, dbias}};
    products_run(0, 0, sums, 2);
    free(room);
    return 0;
}
