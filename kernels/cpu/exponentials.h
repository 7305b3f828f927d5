/* What softmax and the losses built on it need of a row of n scores x: e^(x - top), and their sum. */
#ifndef TINYLM_EXPONENTIALS_H
#define TINYLM_EXPONENTIALS_H

#include "functions.h"

#include <math.h>

/* A long sum adds up the sums of blocks of this length: a single running sum would round too often, above all with narrow vectors. */
enum { BLOCK = 1024 };

static inline float larger(float a, float b) { return a > b ? a : b; }

/* The largest score, or 0 where that is infinite, so that no difference from it is a NaN. A score that is NaN makes the
   sum NaN. Compilers do not split a maximum into several by themselves, since that could treat a NaN in another way. */
static inline float top_of(const float *x, int64_t n) {
    enum { MAXIMA = 16 };
    float top = -INFINITY;
    if (n < MAXIMA) {
        for (int64_t j = 0; j < n; j++) top = larger(x[j], top);
    } else {
        float tops[MAXIMA];
        memcpy(tops, x + n - MAXIMA, sizeof tops);
        for (int64_t j = 0; j + MAXIMA <= n; j += MAXIMA) {
#pragma omp simd
            for (int i = 0; i < MAXIMA; i++) tops[i] = larger(x[j + i], tops[i]);
        }
        for (int i = 0; i < MAXIMA; i++) top = larger(tops[i], top);
    }
    return isfinite(top) ? top : 0;
}

/* exp_of, with 0 and infinity beyond its range: what is masked with -infinity must weigh nothing at all. */
static inline float exp_to_0(float x) {
    float power, r = reduce(x, &power), y = power * exp_minus_1(r) + power;
    y = x < -87.0f ? 0 : y;
    return x > 88.0f ? INFINITY : y;
}

/* Σ e^(x - top), and each of them in y. */
static inline float exponentials(const float *x, int64_t n, float top, float *y) {
    float total = 0;
    for (int64_t from = 0; from < n; from += BLOCK) {
        int64_t to = n - from < BLOCK ? n : from + BLOCK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = from; j < to; j++) {
            float e = exp_to_0(x[j] - top);
            if (y) y[j] = e;
            sum += e;
        }
        total += sum;
    }
    return total;
}

#endif
