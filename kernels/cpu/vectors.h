/* The vector types of the kernels. */
#ifndef TINYLM_VECTORS_H
#define TINYLM_VECTORS_H

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 }; /* SSE, NEON */
#endif

/* As many floats as a register of the target has. */
typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

/* 16 floats on every target, in as many registers as it takes: sums in its lanes do not depend on the width of a register. */
typedef float Sixteen __attribute__((vector_size(16 * sizeof(float))));

#endif
