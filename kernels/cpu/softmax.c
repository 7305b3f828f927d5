/* softmax and log_softmax of the rows of x (rows, columns), as tinylm/ops/probabilities.py has them:
   y = e / Σ e with e = e^(x - top), zeros where all of x is -infinity, dx = y (dy - Σ dy y);
   y = x - top - log Σ e, dx = dy - e^y Σ dy. */

#include "exponentials.h"
#include "pool.h"

typedef struct {
    int64_t rows, columns;
    const float *x;
    float *y;
} Forward;

typedef struct {
    int64_t rows, columns;
    const float *y, *dy;
    float *dx;
} Backward;

static void softmax_forward_share(void *argument, int part, int parts) {
    const Forward *f = argument;
    int64_t first, last;
    share(f->rows, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *x = f->x + row * f->columns;
        float *y = f->y + row * f->columns, total = exponentials(x, f->columns, top_of(x, f->columns), y);
        const float factor = 1 / (total == 0 ? 1 : total);
#pragma omp simd
        for (int64_t j = 0; j < f->columns; j++) y[j] *= factor;
    }
}

static void softmax_backward_share(void *argument, int part, int parts) {
    const Backward *b = argument;
    int64_t first, last;
    share(b->rows, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *y = b->y + row * b->columns, *dy = b->dy + row * b->columns;
        float *dx = b->dx + row * b->columns, sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < b->columns; j++) sum += dy[j] * y[j];
#pragma omp simd
        for (int64_t j = 0; j < b->columns; j++) dx[j] = y[j] * (dy[j] - sum);
    }
}

static void log_softmax_forward_share(void *argument, int part, int parts) {
    const Forward *f = argument;
    int64_t first, last;
    share(f->rows, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *x = f->x + row * f->columns, top = top_of(x, f->columns);
        const float log_total = logf(exponentials(x, f->columns, top, 0));
        float *y = f->y + row * f->columns;
#pragma omp simd
        for (int64_t j = 0; j < f->columns; j++) y[j] = x[j] - top - log_total;
    }
}

static void log_softmax_backward_share(void *argument, int part, int parts) {
    const Backward *b = argument;
    int64_t first, last;
    share(b->rows, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *y = b->y + row * b->columns, *dy = b->dy + row * b->columns;
        float *dx = b->dx + row * b->columns, sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < b->columns; j++) sum += dy[j];
#pragma omp simd
        for (int64_t j = 0; j < b->columns; j++) dx[j] = dy[j] - exp_to_0(y[j]) * sum;
    }
}

/* logs: whether it is log_softmax. */
EXPORT int softmax_forward(int64_t rows, int64_t columns, int logs, const float *x, float *y) {
    Forward f = {rows, columns, x, y};
    pool_run(logs ? log_softmax_forward_share : softmax_forward_share, &f, rows * columns * 16);
    return 0;
}

EXPORT int softmax_backward(int64_t rows, int64_t columns, int logs, const float *y, const float *dy, float *dx) {
    Backward b = {rows, columns, y, dy, dx};
    pool_run(logs ? log_softmax_backward_share : softmax_backward_share, &b, rows * columns * (logs ? 16 : 2));
    return 0;
}
