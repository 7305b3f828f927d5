/* The nonlinear functions of the kernels, made of arithmetic that compilers vectorise: loops over them carry
   `#pragma omp simd`. A NaN stays one, since every comparison with it is false and leaves it as it is.

   The coefficients are minimax fits of the relative error in double precision, rounded to float. The errors
   stated are those of the whole in float, and tests/bindings/test_cpu_functions.py holds them. */
#ifndef TINYLM_FUNCTIONS_H
#define TINYLM_FUNCTIONS_H

#include <stdint.h>
#include <string.h>

static inline float clamp(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* tanh x = x P(x²) / Q(x²) to 5e-7 relative, from -9 to 9, where it has become ±1. */
static inline float tanh_of(float x) {
    x = clamp(x, -9.0f, 9.0f);
    float s = x * x;
    float p = 1.33545273e-08f;
    p = p * s + 2.06089826e-05f;
    p = p * s + 0.00349558191f;
    p = p * s + 0.133810207f;
    p = p * s + 1.0f;
    float q = 7.776502e-07f;
    q = q * s + 0.000328562484f;
    q = q * s + 0.0258769579f;
    q = q * s + 0.467143357f;
    q = q * s + 1.0f;
    return clamp(x * p / q, -1.0f, 1.0f);
}

/* σ(x) = (1 + tanh(x/2)) / 2 to 3e-7 absolute. */
static inline float sigmoid_of(float x) { return 0.5f + 0.5f * tanh_of(0.5f * x); }

/* erf x = x P(x²) / Q(x²) to 5e-7 relative, from -4 to 4, where it has become ±1. */
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

/* e^x = 2^n e^r, |r| ≤ ln 2 / 2, to 2e-7 relative from -87 to 88, and constant beyond. */
static inline float exp_of(float x) {
    x = clamp(x, -87.0f, 88.0f);
    float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 · 2²³: its last bits are n */
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693145752f; /* ln 2 in two parts */
    r = r - n * 1.42860677e-06f;
    float y = 1.0f / 5040;
    y = y * r + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    int32_t bits, power;
    memcpy(&bits, &shifted, 4);
    memcpy(&power, &y, 4);
    power = (int32_t)((uint32_t)power + ((uint32_t)bits << 23));
    memcpy(&y, &power, 4);
    return y;
}

#endif
