/* Weights as their file has them, decoded as they are read: see stored_weights.c.

   A row of a stored matrix is a row of blocks. With d, m scales of 16 bits, a number is, for each format:
     float16, bfloat16   itself                                             a block is one number
     Q4_0                d (q - 8), q of 4 bits                             32 numbers in 18 bytes: d, q
     Q4_1                d q + m, q of 4 bits                               32 in 20: d, m, q
     Q8_0                d q, q of 8 bits with a sign                       32 in 34: d, q
     Q4_K                d s q - m t, q of 4 bits, s and t of 6 bits        256 in 144: d, m, (s, t) of 8 groups, q
     Q6_K                d s (q - 32), q of 6 bits, s of 8 with a sign      256 in 210: low bits of q, high bits, s of 16 groups, d
   as the `gguf` library decodes them; each product and sum below rounds as there, so that the numbers are the same ones. */
#ifndef TINYLM_STORED_WEIGHTS_H
#define TINYLM_STORED_WEIGHTS_H

#include "vectors.h"

#include <stdint.h>
#if defined(__F16C__) || defined(__AVX2__)
#include <immintrin.h>
#endif

/* What is stored; the binding has the same numbers. */
enum { FLOAT32, FLOAT16, BFLOAT16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K };

/* Numbers that are decoded at a time. Blocks hold whole pieces. */
enum { PIECE = 32, PIECE_VECTORS = PIECE / LANES };

/* The bytes of a row of `columns` numbers, whole blocks of them. */
static inline int64_t stored_row(int format, int64_t columns) {
    switch (format) {
    case FLOAT16:
    case BFLOAT16: return columns * 2;
    case Q4_0: return columns / 32 * 18;
    case Q4_1: return columns / 32 * 20;
    case Q8_0: return columns / 32 * 34;
    case Q4_K: return columns / 256 * 144;
    case Q6_K: return columns / 256 * 210;
    default: return columns * (int64_t)sizeof(float);
    }
}

typedef int32_t Ints __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef uint8_t Bytes __attribute__((vector_size(LANES)));
typedef int8_t SignedBytes __attribute__((vector_size(LANES)));
typedef uint16_t Shorts __attribute__((vector_size(LANES * sizeof(uint16_t))));
typedef int16_t SignedShorts __attribute__((vector_size(LANES * sizeof(int16_t))));

/* LANES bytes as integers. gcc 12 does not find the instruction for __builtin_convertvector, and takes the bytes one by one; twice the
   width it can do. */
static inline Ints load_bytes(const uint8_t *p) {
#if defined(__AVX512F__)
    return (Ints)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif defined(__AVX2__) && !defined(EMULATED_TILES)
    return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#else
    Bytes b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(__builtin_convertvector(b, Shorts), Ints);
#endif
}

static inline Ints load_signed_bytes(const uint8_t *p) {
#if defined(__AVX512F__)
    return (Ints)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif defined(__AVX2__) && !defined(EMULATED_TILES)
    return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
#else
    SignedBytes b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(__builtin_convertvector(b, SignedShorts), Ints);
#endif
}

static inline Vector floats_of(Ints q) { return __builtin_convertvector(q, Vector); }

/* LANES numbers of bfloat16: the upper halves of floats. */
static inline Vector load_bfloat16(const uint8_t *p) {
    Shorts s;
    memcpy(&s, p, sizeof s);
    const Ints bits = __builtin_convertvector(s, Ints) << 16;
    Vector v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* LANES numbers of float16. Without an instruction for it: the exponent gets float's bias by a multiplication with 2^112, which
   makes the denormal numbers right too; of an infinity's or NaN's all bits are set. */
static inline Vector load_float16(const uint8_t *p) {
#if defined(__F16C__) && defined(__AVX512F__)
    const __m512 v = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
    return (Vector)v;
#elif defined(__F16C__) && !defined(EMULATED_TILES)
    const __m256 v = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
    return (Vector)v;
#else
    Shorts s;
    memcpy(&s, p, sizeof s);
    const Ints h = __builtin_convertvector(s, Ints), size = (h & 0x7fff) << 13, special = (size >= 0x0f800000) & 0x7f800000;
    const Vector scaled = (Vector)size * 0x1p112f;
    return (Vector)((Ints)scaled | special | ((h & 0x8000) << 16));
#endif
}

static inline float float16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    const uint32_t size = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    float v;
    memcpy(&v, &size, sizeof v);
    v *= 0x1p112f;
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    bits = (size >= 0x0f800000 ? size | 0x7f800000 : bits) | sign;
    memcpy(&v, &bits, sizeof v);
    return v;
#endif
}

static inline float bfloat16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    const uint32_t bits = (uint32_t)h << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Numbers 0 to 15 in the lower halves of 16 bytes, 16 to 31 in the upper ones, each less `zero`: y = d q + m. */
static inline __attribute__((always_inline)) void decode_fours(
    const uint8_t *q, int zero, float d, const int has_minimum, float m, Vector *y
) {
#if defined(__AVX512F__) /* the 16 values fit a register: one instruction looks 16 of them up, by the lower half of each byte */
    const Ints values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const Vector scaled = floats_of(values - zero) * d, table = has_minimum ? scaled + m : scaled;
    const Ints both = load_bytes(q);
    y[0] = (Vector)_mm512_permutexvar_ps((__m512i)both, (__m512)table);
    y[1] = (Vector)_mm512_permutexvar_ps((__m512i)(both >> 4), (__m512)table);
#else
UNROLLED
    for (int i = 0; i < PIECE_VECTORS / 2; i++) {
        const Ints both = load_bytes(q + i * LANES);
        const Vector low = floats_of((both & 15) - zero) * d, high = floats_of((both >> 4) - zero) * d;
        y[i] = has_minimum ? low + m : low;
        y[i + PIECE_VECTORS / 2] = has_minimum ? high + m : high;
    }
#endif
}

/* Group g of a block of Q4_K, 0 to 7. The scales s and t of groups 0 to 3 are the low 6 bits of bytes 0 to 3 and 4 to 7; those of
   the others have 4 bits in bytes 8 to 11 and 2 in the high bits of the former. Two groups are in the halves of the same bytes. */
static inline __attribute__((always_inline)) void decode_group_of_q4_k(const uint8_t *block, int g, Vector *y) {
    const uint8_t *scales = block + 4, *q = block + 16 + (g >> 1) * 32;
    const int j = g & 3;
    const int s = g < 4 ? scales[j] & 63 : (scales[j + 8] & 15) | (scales[j] >> 6 << 4);
    const int t = g < 4 ? scales[j + 4] & 63 : (scales[j + 8] >> 4) | (scales[j + 4] >> 6 << 4);
    const float d = float16_at(block) * (float)s, m = float16_at(block + 2) * (float)t;
    const int shift = (g & 1) * 4;
UNROLLED
    for (int i = 0; i < PIECE_VECTORS; i++) y[i] = floats_of((load_bytes(q + i * LANES) >> shift) & 15) * d - m;
}

/* Piece g of a block of Q6_K, 0 to 7: two groups of 16. A half of the block has 64 bytes with the low 4 bits of its four pieces, and
   32 bytes with their 2 high bits. */
static inline __attribute__((always_inline)) void decode_piece_of_q6_k(const uint8_t *block, int g, Vector *y) {
    const uint8_t *low = block + (g >> 2) * 64 + (g & 1) * 32, *high = block + 128 + (g >> 2) * 32;
    const int8_t *scales = (const int8_t *)block + 192 + g * 2;
    const float d = float16_at(block + 208), ds[] = {d * (float)scales[0], d * (float)scales[1]};
    const int shift = (g >> 1 & 1) * 4, high_shift = (g & 3) * 2;
UNROLLED
    for (int i = 0; i < PIECE_VECTORS; i++) {
        const Ints q = ((load_bytes(low + i * LANES) >> shift) & 15) | (((load_bytes(high + i * LANES) >> high_shift) & 3) << 4);
        y[i] = floats_of(q - 32) * ds[i * LANES / 16];
    }
}

/* Numbers [l, l + PIECE) of a row, l a multiple of PIECE. format is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void decode_piece(const int format, const uint8_t *row, int64_t l, Vector *y) {
    const int64_t piece = l / PIECE;
    switch (format) {
    case FLOAT16:
UNROLLED
        for (int i = 0; i < PIECE_VECTORS; i++) y[i] = load_float16(row + (l + i * LANES) * 2);
        break;
    case BFLOAT16:
UNROLLED
        for (int i = 0; i < PIECE_VECTORS; i++) y[i] = load_bfloat16(row + (l + i * LANES) * 2);
        break;
    case Q4_0: decode_fours(row + piece * 18 + 2, 8, float16_at(row + piece * 18), 0, 0, y); break;
    case Q4_1:
        decode_fours(row + piece * 20 + 4, 0, float16_at(row + piece * 20), 1, float16_at(row + piece * 20 + 2), y);
        break;
    case Q8_0: {
        const float d = float16_at(row + piece * 34);
UNROLLED
        for (int i = 0; i < PIECE_VECTORS; i++) y[i] = floats_of(load_signed_bytes(row + piece * 34 + 2 + i * LANES)) * d;
        break;
    }
    case Q4_K: decode_group_of_q4_k(row + piece / 8 * 144, (int)(piece % 8), y); break;
    case Q6_K: decode_piece_of_q6_k(row + piece / 8 * 210, (int)(piece % 8), y); break;
    default:
UNROLLED
        for (int i = 0; i < PIECE_VECTORS; i++) y[i] = load((const float *)row + l + i * LANES);
    }
}

/* y = numbers [from, to) of a row. */
void decode_run(int format, const void *row, int64_t from, int64_t to, float *y);

#endif
