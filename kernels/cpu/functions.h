/* The nonlinear functions of the kernels, made of arithmetic that compilers vectorise: loops over them carry
   `#pragma omp simd`. A NaN stays one, since every comparison with it is false and leaves it as it is.

   The errors stated are those of the whole function in float; tests/bindings/test_cpu_functions.py checks them. */
#ifndef TINYLM_FUNCTIONS_H
#define TINYLM_FUNCTIONS_H

#include <stdint.h>
#include <string.h>

static inline float clamp(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* Returns r, and sets power to 2^n, for x = n ln 2 + r with a whole n, |r| ≤ ln 2 / 2, |x| ≤ 88. */
static inline float reduce(float x, float *power) {
    float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 · 2²³: the last bits of the sum are those of n */
    float n = shifted - 12582912.0f;
    int32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (int32_t)(((uint32_t)bits + 127) << 23); /* n + 127 is the exponent of 2^n */
    memcpy(power, &bits, 4);
    return x - n * 0.693145752f - n * 1.42860677e-06f; /* ln 2 in two parts */
}

/* e^r - 1 for |r| ≤ ln 2 / 2, to a relative 2e-7: the first seven terms of its series. */
static inline float exp_minus_1(float r) {
    float y = 1.0f / 5040;
    y = y * r + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    return y * r;
}

/* e^x to 3e-7 relative from -87 to 88, and constant beyond. */
static inline float exp_of(float x) {
    float power, r = reduce(clamp(x, -87.0f, 88.0f), &power);
    return power * exp_minus_1(r) + power;
}

/* σ(x) = 1 / (1 + e^-x), to 4e-7 relative from -87 on. */
static inline float sigmoid_of(float x) { return 1.0f / (1.0f + exp_of(-x)); }

/* silu(x) = x σ(x). */
static inline float silu_of(float x) { return x * sigmoid_of(x); }

/* tanh x = E / (E + 2) with E = e^(2|x|) - 1, to 4e-7 relative. Beyond 1/2 it is 1 - 2 / (E + 2), whose only error near 1
   is its own rounding, so that 1 - tanh² keeps its digits; from 9.1 on it is 1. */
static inline float tanh_of(float x) {
    float a = clamp(x < 0 ? -x : x, 0.0f, 9.1f);
    float power, r = reduce(2 * a, &power);
    float e = power * exp_minus_1(r) + (power - 1.0f);
    float q = 1.0f / (e + 2.0f);
    float y = a < 0.5f ? e * q : 1.0f - 2.0f * q;
    return x < 0 ? -y : y;
}

/* erf x = x P(x²) / Q(x²) to 5e-7 relative, from -4 to 4, where it is ±1. P and Q are a minimax fit of the
   relative error. */
static inline float erf_of(float x) {
    x = clamp(x, -4.0f, 4.0f);
    float s = x * x;
    float p = 1.9867764e-06f;
    p = p * s + 0.000284566137f;
    p = p * s + 0.00388336345f;
    p = p * s + 0.0531018041f;
    p = p * s + 0.19354555f;
    p = p * s + 1.12837911f;
    float q = 3.74201263e-05f;
    q = q * s + 0.0011855755f;
    q = q * s + 0.0152072906f;
    q = q * s + 0.115350202f;
    q = q * s + 0.504857838f;
    q = q * s + 1.0f;
    return clamp(x * p / q, -1.0f, 1.0f);
}

#endif
