/* The vector types of the kernels. */
#ifndef TINYLM_VECTORS_H
#define TINYLM_VECTORS_H

#include <string.h>

/* The floats of a register of the target, and how many such registers it has. */
#if defined(__AVX512F__) || defined(EMULATED_TILES) /* tiles.h */
enum { LANES = 16, REGISTERS = 32 };
#elif defined(__AVX__)
enum { LANES = 8, REGISTERS = 16 };
#elif defined(__aarch64__)
enum { LANES = 4, REGISTERS = 32 };
#else
enum { LANES = 4, REGISTERS = 16 }; /* SSE */
#endif

/* Before a loop over registers: the compiler must repeat its body for each, since a register has no address. */
#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

/* As many floats as a register of the target has. */
typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

/* 16 floats on every target, in as many registers as it takes: sums in its lanes do not depend on the width of a register. */
typedef float Sixteen __attribute__((vector_size(16 * sizeof(float))));

/* 4 floats: what can be transposed by the same shuffles on every target. */
typedef float Four __attribute__((vector_size(4 * sizeof(float))));
typedef int FourIndices __attribute__((vector_size(4 * sizeof(int))));

/* Keeps a loaded vector in its register. Without this, gcc tuned for Zen loads it again for each multiply-add that uses it. */
#if defined(__x86_64__)
#define KEEP(vector) __asm__("" : "+v"(vector))
#else
#define KEEP(vector)
#endif

static inline Vector load(const float *p) {
    Vector v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline Four load_four(const float *p) {
    Four v;
    memcpy(&v, p, sizeof v);
    return v;
}

#if defined(__clang__)
#define SHUFFLED(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else /* gcc has the former since version 12 */
#define SHUFFLED(a, b, i, j, k, l) __builtin_shuffle(a, b, (FourIndices){i, j, k, l})
#endif

/* The transpose of a matrix with these rows. */
static inline void transpose(Four *rows) {
    const Four low01 = SHUFFLED(rows[0], rows[1], 0, 4, 1, 5), high01 = SHUFFLED(rows[0], rows[1], 2, 6, 3, 7);
    const Four low23 = SHUFFLED(rows[2], rows[3], 0, 4, 1, 5), high23 = SHUFFLED(rows[2], rows[3], 2, 6, 3, 7);
    rows[0] = SHUFFLED(low01, low23, 0, 1, 4, 5);
    rows[1] = SHUFFLED(low01, low23, 2, 3, 6, 7);
    rows[2] = SHUFFLED(high01, high23, 0, 1, 4, 5);
    rows[3] = SHUFFLED(high01, high23, 2, 3, 6, 7);
}

#endif
