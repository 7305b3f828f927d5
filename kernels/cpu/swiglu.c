/* y = silu(a) b over n numbers, and with σ = σ(a): da = dy b σ (1 + a (1 - σ)), db = dy a σ. */

#include "functions.h"
#include "pool.h"

typedef struct {
    int64_t size;
    const float *a, *b, *dy;
    float *y, *da, *db;
} Gates;

static void forward_part(void *argument, int part, int parts) {
    const Gates *g = argument;
    const float *a = g->a, *b = g->b;
    float *y = g->y;
    int64_t first, last;
    part_range(g->size, 16, part, parts, &first, &last);
#pragma omp simd
    for (int64_t i = first; i < last; i++) y[i] = silu_of(a[i]) * b[i];
}

EXPORT int swiglu_forward(int64_t size, const float *a, const float *b, float *y) {
    Gates g = {.size = size, .a = a, .b = b, .y = y};
    pool_run(forward_part, &g, size * 16);
    return 0;
}

static void backward_part(void *argument, int part, int parts) {
    const Gates *g = argument;
    const float *a = g->a, *b = g->b, *dy = g->dy;
    float *da = g->da, *db = g->db;
    int64_t first, last;
    part_range(g->size, 16, part, parts, &first, &last);
#pragma omp simd
    for (int64_t i = first; i < last; i++) {
        float s = sigmoid_of(a[i]);
        da[i] = dy[i] * b[i] * (s * (1 + a[i] * (1 - s)));
        db[i] = dy[i] * (a[i] * s);
    }
}

EXPORT int swiglu_backward(int64_t size, const float *a, const float *b, const float *dy, float *da, float *db) {
    Gates g = {.size = size, .a = a, .b = b, .dy = dy, .da = da, .db = db};
    pool_run(backward_part, &g, size * 16);
    return 0;
}
