/* The one vector type of the kernels: as many floats as a register of the target has. */
#ifndef TINYLM_VECTORS_H
#define TINYLM_VECTORS_H

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 }; /* SSE, NEON */
#endif

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

#endif
