/* Rounding to bfloat16: a float without its last 16 bits, to nearest, ties to even. NaN stays NaN, and what lies beyond the largest
   bfloat16, 3.39e38, becomes infinity. */
#ifndef TINYLM_BFLOAT16_H
#define TINYLM_BFLOAT16_H

#include "vectors.h"

#include <stdint.h>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

/* The bits of x rounded, as those of a float: the last 16 are zeros. */
static inline uint32_t rounded_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t up = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000; /* a NaN whose bits are only among the last 16 */
    return ((int32_t)(bits & 0x7fffffff) > 0x7f800000 ? quiet : up) & 0xffff0000;
}

static inline float rounded_to_bfloat16(float x) {
    const uint32_t bits = rounded_bits(x);
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The same for a vector. */
static inline Vector rounded_vector(Vector x) {
#if defined(__AVX512BF16__)
    return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x)), 16);
#else
    typedef int32_t Words __attribute__((vector_size(sizeof(Vector))));
    const Words bits = (Words)x, up = (bits + 0x7fff + (bits >> 16 & 1)) & (int32_t)0xffff0000, is_nan = x != x;
    return (Vector)((up & ~is_nan) | (bits & is_nan));
#endif
}

static inline void round_row(const float *x, int64_t n, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = rounded_to_bfloat16(x[i]);
}

/* A pair of rounded numbers in a word, the first one in its lower half, as the processors' dot products take them. */
static inline uint32_t pair_of(float first, float second) { return rounded_bits(first) >> 16 | rounded_bits(second); }

#if defined(__AVX512BF16__)
/* The first n lanes, and the first n numbers with zeros after them, of at most 16. */
static inline __mmask16 first_of(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }
static inline __m512 some_of(const float *x, int64_t n) { return _mm512_maskz_loadu_ps(first_of(n), x); }
#endif

/* The pairs of neighbours of n numbers, and zeros up to `pairs`. */
static inline void pair_neighbours(const float *x, int64_t n, int64_t pairs, uint32_t *words) {
#if defined(__AVX512BF16__)
    for (int64_t i = 0; i < pairs; i += 16) {
        const __m512 low = some_of(x + 2 * i, n - 2 * i), high = some_of(x + 2 * i + 16, n - 2 * i - 16);
        _mm512_mask_storeu_epi32(words + i, first_of(pairs - i), (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
#else
    int64_t i = 0;
    for (; 2 * i + 2 <= n; i++) words[i] = pair_of(x[2 * i], x[2 * i + 1]);
    if (2 * i < n) words[i] = pair_of(x[2 * i], 0), i++;
    for (; i < pairs; i++) words[i] = 0;
#endif
}

/* The pairs of a number of each of two rows; without a second row (null) its numbers are zeros. */
static inline void pair_rows(const float *x, const float *next, int64_t n, uint32_t *words) {
#if defined(__AVX512BF16__)
    static const uint16_t turns[32] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i turn = _mm512_loadu_si512(turns);
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 low = some_of(x + i, n - i), high = next ? some_of(next + i, n - i) : _mm512_setzero_ps();
        const __m512i side_by_side = _mm512_permutexvar_epi16(turn, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        _mm512_mask_storeu_epi32(words + i, first_of(n - i), side_by_side);
    }
#else
    if (next) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) words[i] = pair_of(x[i], next[i]);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) words[i] = pair_of(x[i], 0);
    }
#endif
}

#endif
