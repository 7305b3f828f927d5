/* Sums over short rows. A `reduction` of the compiler's adds the lanes of its vector one after the other in the end, which takes
   longer than a row of some tens of numbers itself: here they are added side by side. */
#ifndef TINYLM_SUMS_H
#define TINYLM_SUMS_H

#include "panels.h"

#include <math.h>
#include <string.h>

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef float Four __attribute__((vector_size(4 * sizeof(float))));

static inline Lanes lanes_at(const float *x) {
    Lanes v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline float add_lanes(Lanes v) {
    Four x[LANES / 4];
    memcpy(x, &v, sizeof v);
    for (int i = 1; i < LANES / 4; i++) x[0] += x[i];
    return (x[0][0] + x[0][2]) + (x[0][1] + x[0][3]);
}

/* Σ x over n numbers, a multiple of LANES. */
static inline float sum_of(const float *x, int64_t n) {
    Lanes even = {0}, odd = {0};
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) even += lanes_at(x + i), odd += lanes_at(x + i + LANES);
    if (i < n) even += lanes_at(x + i);
    return add_lanes(even + odd);
}

/* The largest of n numbers, a multiple of LANES; a NaN is not seen. */
static inline float largest_of(const float *x, int64_t n) {
    float most[LANES];
    for (int l = 0; l < LANES; l++) most[l] = -INFINITY;
    for (int64_t i = 0; i < n; i += LANES) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) most[l] = x[i + l] > most[l] ? x[i + l] : most[l];
    }
    float largest = most[0];
    for (int l = 1; l < LANES; l++) largest = most[l] > largest ? most[l] : largest;
    return largest;
}

/* Σ x y over any n. */
static inline float dot(const float *x, const float *y, int64_t n) {
    Lanes even = {0}, odd = {0};
    float rest = 0;
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        even += lanes_at(x + i) * lanes_at(y + i);
        odd += lanes_at(x + i + LANES) * lanes_at(y + i + LANES);
    }
    if (i + LANES <= n) even += lanes_at(x + i) * lanes_at(y + i), i += LANES;
    for (; i < n; i++) rest += x[i] * y[i];
    return add_lanes(even + odd) + rest;
}

#endif
