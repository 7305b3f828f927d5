/* softmax and log_softmax of the rows of x (rows, columns), as tinylm/ops/losses.py has them:
   y = e / Σ e with e = e^(x - top), zeros where all of x is -infinity, dx = y (dy - Σ dy y);
   y = x - top - log Σ e, dx = dy - e^y Σ dy. */

#include "exponentials.h"
#include "pool.h"

typedef struct {
    int64_t rows, columns;
    int logs; /* whether it is log_softmax */
    const float *x;
    float *y;
} Forward;

typedef struct {
    int64_t rows, columns;
    int logs;
    const float *y, *dy;
    float *dx;
} Backward;

static void softmax_row(const float *x, int64_t n, float *y) {
    const float total = exponentials(x, n, top_of(x, n), y), factor = 1 / (total == 0 ? 1 : total);
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] *= factor;
}

static void log_softmax_row(const float *x, int64_t n, float *y) {
    const float top = top_of(x, n), log_total = logf(exponentials(x, n, top, 0));
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] = x[j] - top - log_total;
}

static void softmax_gradient(const float *y, const float *dy, int64_t n, float *dx) {
    float sum = 0;
    for (int64_t from = 0; from < n; from += BLOCK) {
        const int64_t to = n - from < BLOCK ? n : from + BLOCK;
        float block = 0;
#pragma omp simd reduction(+ : block)
        for (int64_t j = from; j < to; j++) block += dy[j] * y[j];
        sum += block;
    }
#pragma omp simd
    for (int64_t j = 0; j < n; j++) dx[j] = y[j] * (dy[j] - sum);
}

static void log_softmax_gradient(const float *y, const float *dy, int64_t n, float *dx) {
    float sum = 0;
    for (int64_t from = 0; from < n; from += BLOCK) {
        const int64_t to = n - from < BLOCK ? n : from + BLOCK;
        float block = 0;
#pragma omp simd reduction(+ : block)
        for (int64_t j = from; j < to; j++) block += dy[j];
        sum += block;
    }
#pragma omp simd
    for (int64_t j = 0; j < n; j++) dx[j] = dy[j] - exp_to_0(y[j]) * sum;
}

static void forward_part(void *argument, int part, int parts) {
    const Forward *f = argument;
    int64_t first, last, n = f->columns;
    part_range(f->rows, 1, part, parts, &first, &last);
    for (int64_t at = first * n; at < last * n; at += n) (f->logs ? log_softmax_row : softmax_row)(f->x + at, n, f->y + at);
}

static void backward_part(void *argument, int part, int parts) {
    const Backward *b = argument;
    int64_t first, last, n = b->columns;
    part_range(b->rows, 1, part, parts, &first, &last);
    for (int64_t at = first * n; at < last * n; at += n) {
        (b->logs ? log_softmax_gradient : softmax_gradient)(b->y + at, b->dy + at, n, b->dx + at);
    }
}

EXPORT int softmax_forward(int64_t rows, int64_t columns, int logs, const float *x, float *y) {
    Forward f = {rows, columns, logs, x, y};
    pool_run(forward_part, &f, rows * columns * 16);
    return 0;
}

EXPORT int softmax_backward(int64_t rows, int64_t columns, int logs, const float *y, const float *dy, float *dx) {
    Backward b = {rows, columns, logs, y, dy, dx};
    pool_run(backward_part, &b, rows * columns * (logs ? 16 : 2));
    return 0;
}
