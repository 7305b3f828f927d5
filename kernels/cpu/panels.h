/* The inner part of every matrix product: some rows times a packed matrix. See panels.c. */
#ifndef TINYLM_PANELS_H
#define TINYLM_PANELS_H

#include "vectors.h"

#include <stdint.h>

#if defined(__AVX__) && !defined(__AVX512F__) && !defined(EMULATED_TILES)
enum { TILE_ROWS = 6 }; /* 6 x 2 of 16 registers are sums */
#else
enum { TILE_ROWS = 12 }; /* 12 x 2 of 32; SSE has only 16, but its tiles are fast enough from the L1 cache */
#endif
enum { PANEL = 2 * LANES }; /* columns of a panel */

/* n columns rounded up to whole panels. */
static inline int64_t panels_columns(int64_t n) { return (n + PANEL - 1) / PANEL * PANEL; }

/* The floats that k numbers of a packed column take. Rounded operands are packed in another way: see panels_bfloat16.c. */
int64_t panels_depth(int64_t k, int rounded);

/* Packs B (k, n), or the transpose of what is stored as (n, k), zeros beyond column n. packed has
   panels_depth(k) panels_columns(n) floats. */
void panels_pack(const float *b, int64_t b_stride, int b_transposed, int64_t k, int64_t n, float *packed, int rounded);

/* This part's panels of the same; B has no gaps between its rows. */
void panels_pack_part(const float *b, int64_t k, int64_t n, int transposed, float *packed, int rounded, int part, int parts);

/* One panel, of which `width` columns are B's. */
void pack_panel(const float *b, int64_t stride, int transposed, int64_t k, int width, float *panel);

/* C = A B, or C += A B, in the calling thread: A (rows, k), or the transpose of what is stored as (k, rows); B the first k of
   packed_k packed rows (packed_k, n); C (rows, n). The strides are those of the rows as they are stored. rounded: both operands are rounded
   to bfloat16, and B was packed so. */
void panels_multiply(
    const float *a, int64_t a_stride, int a_transposed, int64_t rows, int64_t k, const float *packed, int64_t packed_k, int64_t n, float *c,
    int64_t c_stride, int add, int rounded
);

#endif
