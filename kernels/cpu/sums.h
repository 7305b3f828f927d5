/* Sums and maxima of a row, in an order that does not depend on the width of the target's vectors: there are always 16 or 32 partial
   sums. The compiler makes vectors of the loops over them. With a `reduction` it would choose the order itself, and add the
   lanes of its vector one after the other, which for a row of some tens of numbers takes longer than the rest of the sum. */
#ifndef TINYLM_SUMS_H
#define TINYLM_SUMS_H

#include <math.h>
#include <stdint.h>

enum { SUMS = 16 };

/* Σ of twice 16 numbers, which are overwritten. */
static inline float add_up(float *sums) {
#pragma omp simd
    for (int i = 0; i < SUMS; i++) sums[i] += sums[SUMS + i];
#pragma omp simd
    for (int i = 0; i < 4; i++) sums[i] = sums[i] + sums[4 + i] + sums[8 + i] + sums[12 + i];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

/* Σ x over n numbers. */
static inline float sum_of(const float *x, int64_t n) {
    float sums[2 * SUMS] = {0}, rest = 0;
    int64_t j = 0;
    for (; j + 2 * SUMS <= n; j += 2 * SUMS) {
#pragma omp simd
        for (int i = 0; i < 2 * SUMS; i++) sums[i] += x[j + i];
    }
    if (j + SUMS <= n) {
#pragma omp simd
        for (int i = 0; i < SUMS; i++) sums[i] += x[j + i];
        j += SUMS;
    }
    for (; j < n; j++) rest += x[j];
    return add_up(sums) + rest;
}

/* Σ x y over n numbers. */
static inline float dot(const float *x, const float *y, int64_t n) {
    float sums[2 * SUMS] = {0}, rest = 0;
    int64_t j = 0;
    for (; j + 2 * SUMS <= n; j += 2 * SUMS) {
#pragma omp simd
        for (int i = 0; i < 2 * SUMS; i++) sums[i] += x[j + i] * y[j + i];
    }
    if (j + SUMS <= n) {
#pragma omp simd
        for (int i = 0; i < SUMS; i++) sums[i] += x[j + i] * y[j + i];
        j += SUMS;
    }
    for (; j < n; j++) rest += x[j] * y[j];
    return add_up(sums) + rest;
}

/* The largest of n numbers; NaNs are ignored. */
static inline float largest_of(const float *x, int64_t n) {
    float most[SUMS], largest = -INFINITY;
    int64_t j = 0;
    for (int i = 0; i < SUMS; i++) most[i] = -INFINITY;
    for (; j + SUMS <= n; j += SUMS) {
#pragma omp simd
        for (int i = 0; i < SUMS; i++) most[i] = x[j + i] > most[i] ? x[j + i] : most[i];
    }
    for (; j < n; j++) largest = x[j] > largest ? x[j] : largest;
    for (int i = 0; i < SUMS; i++) largest = most[i] > largest ? most[i] : largest;
    return largest;
}

#endif
