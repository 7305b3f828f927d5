/* Rotary position embedding: x (N, heads, T, D) -> y, read and written in place through their strides. The pairs (a, b) of a row
   become (a cos - b sin, a sin + b cos), with the cosines and sines (T, D/2) of the row's position. The backward pass
   is the same with the sines negated. y may be x. */

#include "rotary.h"

#include "pool.h"

EXPORT_SIZE(RotaryLayout)

typedef struct {
    RotaryLayout at;
    const float *x, *cos, *sin;
    float *y, sign;
    int interleaved;
} Rotary;

static void turn_row(const Rotary *r, const float *x, const float *cos, const float *sin, float *y) {
    const int64_t n = r->at.pairs;
    const float sign = r->sign;
    if (r->interleaved) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float a = x[2 * i], b = x[2 * i + 1], s = sign * sin[i];
            y[2 * i] = a * cos[i] - b * s;
            y[2 * i + 1] = a * s + b * cos[i];
        }
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float a = x[i], b = x[n + i], s = sign * sin[i];
            y[i] = a * cos[i] - b * s;
            y[n + i] = a * s + b * cos[i];
        }
    }
}

static void rows_part(void *argument, int part, int parts) {
    const Rotary *r = argument;
    const RotaryLayout *at = &r->at;
    int64_t first, last;
    part_range(at->batch * at->heads * at->steps, 1, part, parts, &first, &last);
    for (int64_t i = first; i < last; i++) { /* heads innermost, as they usually lie in memory */
        int64_t head = i % at->heads, step = i / at->heads % at->steps, entry = i / at->heads / at->steps;
        const float *x = r->x + entry * at->x.batch + head * at->x.head + step * at->x.row;
        float *y = r->y + entry * at->y.batch + head * at->y.head + step * at->y.row;
        turn_row(r, x, r->cos + step * at->pairs, r->sin + step * at->pairs, y);
    }
}

/* sign: 1, or -1 for the inverse rotation. */
EXPORT int rotary(
    const RotaryLayout *layout, const float *x, const float *cos, const float *sin, float sign, int interleaved, float *y
) {
    Rotary r = {*layout, x, cos, sin, y, sign, interleaved};
    pool_run(rows_part, &r, layout->batch * layout->heads * layout->steps * layout->pairs * 4);
    return 0;
}
