/* What a BLAS does for one large product costs too much for one of a few rows: it packs the matrix B into
   its own order at every call. Here B is packed once and used at every step of a sequence.

   A panel is PANEL columns of B, all k rows of it one after the other. A tile of up to TILE_ROWS rows of C
   and the columns of one panel stays in registers while k runs: each step loads two vectors of the panel and one
   number of A a row, and does two multiply-adds a row. All row tiles use a panel before the next one is
   looked at. */

#include "panels.h"

#include "pool.h"

#include <string.h>

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

static inline Vector load(const float *p) {
    Vector v;
    memcpy(&v, p, sizeof v);
    return v;
}

void panels_pack_share(const float *b, int64_t k, int64_t n, int transposed, float *packed, int part, int parts) {
    int64_t first, last;
    share(panels_columns(n), PANEL, part, parts, &first, &last);
    for (int64_t column = first; column < last; column += PANEL) {
        float *panel = packed + column * k;
        int width = (int)(n - column < PANEL ? n - column : PANEL);
        if (width < PANEL) memset(panel, 0, sizeof(float) * (size_t)(k * PANEL));
        if (transposed) {
            for (int64_t block = 0; block < k; block += LANES) { /* what is written stays in the first cache */
                int64_t end = k - block < LANES ? k : block + LANES;
                for (int j = 0; j < width; j++) {
                    const float *from = b + (column + j) * k;
                    for (int64_t i = block; i < end; i++) panel[i * PANEL + j] = from[i];
                }
            }
        } else {
            for (int64_t i = 0; i < k; i++) memcpy(panel + i * PANEL, b + i * n + column, sizeof(float) * (size_t)width);
        }
    }
}

/* One tile: `rows` is a constant wherever this is expanded, so that the sums are registers. */
static inline __attribute__((always_inline)) void tile(
    const int rows, const float *restrict a, int64_t a_stride, int64_t k, const float *restrict panel, float *restrict c, int64_t c_stride,
    int add
) {
    Vector left[TILE_ROWS], right[TILE_ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        left[r] = add ? load(c + r * c_stride) : (Vector){0};
        right[r] = add ? load(c + r * c_stride + LANES) : (Vector){0};
    }
    for (int64_t i = 0; i < k; i++) {
        Vector b0 = load(panel + i * PANEL), b1 = load(panel + i * PANEL + LANES);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            float value = a[r * a_stride + i];
            left[r] += value * b0;
            right[r] += value * b1;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        memcpy(c + r * c_stride, &left[r], sizeof(Vector));
        memcpy(c + r * c_stride + LANES, &right[r], sizeof(Vector));
    }
}

void panels_multiply(
    const float *a, int64_t a_stride, int64_t rows, int64_t k, const float *packed, int64_t n, float *c, int64_t c_stride, int add
) {
    int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t column = 0; column < n; column += PANEL) {
        const float *panel = packed + column * k;
        for (int64_t t = 0; t < tiles; t++) { /* tiles of equal height, or one less */
            int64_t first = rows * t / tiles, height = rows * (t + 1) / tiles - first;
            const float *from = a + first * a_stride;
            float *to = c + first * c_stride + column;
#define CASE(R) case R: tile(R, from, a_stride, k, panel, to, c_stride, add); break;
            switch (height) {
                CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if !defined(__AVX__) || defined(__AVX512F__)
                CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
            }
#undef CASE
        }
    }
}
