/* Rotary position embedding: y of x (N, heads, T, D), read and written where they lie, by their strides. Each row's pairs
   (a, b) become (a cos - b sin, a sin + b cos), with the cosines and sines (T, D/2) of its position; backwards, dx of dy
   is the same with the sines negated. y may be x. */

#include "attention.h"
#include "pool.h"
#include "rotary.h"

#include <string.h>

/* What Python hands over as numbers, in this order. */
typedef struct {
    int64_t batch, heads, steps, pairs;
    Strides x, y;
} Turns;

typedef struct {
    Turns at;
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

static void rows_share(void *argument, int part, int parts) {
    const Rotary *r = argument;
    const Turns *at = &r->at;
    int64_t first, last;
    share(at->batch * at->heads * at->steps, 1, part, parts, &first, &last);
    for (int64_t i = first; i < last; i++) { /* heads innermost, as they mostly lie in memory */
        int64_t head = i % at->heads, step = i / at->heads % at->steps, entry = i / at->heads / at->steps;
        const float *x = r->x + entry * at->x.batch + head * at->x.head + step * at->x.row;
        float *y = r->y + entry * at->y.batch + head * at->y.head + step * at->y.row;
        turn_row(r, x, r->cos + step * at->pairs, r->sin + step * at->pairs, y);
    }
}

/* numbers: Turns. sign: 1, or -1 to turn back. */
EXPORT int rotary(const int64_t *numbers, const float *x, const float *cos, const float *sin, float sign, int interleaved, float *y) {
    Rotary r = {.x = x, .cos = cos, .sin = sin, .y = y, .sign = sign, .interleaved = interleaved};
    memcpy(&r.at, numbers, sizeof r.at);
    pool_run(rows_share, &r, r.at.batch * r.at.heads * r.at.steps * r.at.pairs * 4);
    return 0;
}
