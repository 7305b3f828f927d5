/* The inner part of every matrix product. B is packed: a panel is PANEL columns of it, all k rows one after the other.
   A tile of up to TILE_ROWS rows of C and the columns of one panel stays in registers while k runs: each step
   loads two vectors of the panel and one number of A per row, and does two multiply-adds per row. All row tiles use a
   panel before the next panel is used.

   A caller that needs B several times, as a recurrent layer does at each step, packs it once. */

#include "panels.h"

#include "panels_bfloat16.h"
#include "pool.h"

#include <string.h>

/* Columns [from, from + 4) of a panel and numbers [block, end) of k, transposed 4 x 4 at a time. */
static void transpose_four(const float *b, int64_t stride, int64_t block, int64_t end, float *panel) {
    int64_t i = block;
    for (; i + 4 <= end; i += 4) {
        Four rows[4];
        for (int j = 0; j < 4; j++) rows[j] = load_four(b + j * stride + i);
        transpose(rows);
        for (int j = 0; j < 4; j++) memcpy(panel + (i + j) * PANEL, &rows[j], sizeof rows[j]);
    }
    for (; i < end; i++) {
        for (int j = 0; j < 4; j++) panel[i * PANEL + j] = b[j * stride + i];
    }
}

int64_t panels_depth(int64_t k, int rounded) { return rounded ? rounded_depth(k) : k; }

void pack_panel(const float *b, int64_t stride, int transposed, int64_t k, int width, float *panel) {
    enum { BLOCK = 64 }; /* of k: what is written stays in the L1 cache */
    if (width < PANEL) memset(panel, 0, sizeof(float) * (size_t)(k * PANEL));
    if (transposed) {
        for (int64_t block = 0; block < k; block += BLOCK) {
            int64_t end = k - block < BLOCK ? k : block + BLOCK;
            int j = 0;
            for (; j + 4 <= width; j += 4) transpose_four(b + j * stride, stride, block, end, panel + j);
            for (; j < width; j++) {
                for (int64_t i = block; i < end; i++) panel[i * PANEL + j] = b[j * stride + i];
            }
        }
    } else if (width == PANEL) {
        for (int64_t i = 0; i < k; i++) memcpy(panel + i * PANEL, b + i * stride, sizeof(float) * PANEL);
    } else {
        for (int64_t i = 0; i < k; i++) memcpy(panel + i * PANEL, b + i * stride, sizeof(float) * (size_t)width);
    }
}

static void pack_columns(
    const float *b, int64_t stride, int transposed, int64_t k, int64_t n, float *packed, int rounded, int64_t first, int64_t last
) {
    const int64_t depth = panels_depth(k, rounded);
    for (int64_t column = first; column < last; column += PANEL) {
        int width = (int)(n - column < PANEL ? n - column : PANEL);
        const float *from = b + (transposed ? column * stride : column);
        if (rounded) rounded_pack_panel(from, stride, transposed, k, width, packed + column * depth);
        else pack_panel(from, stride, transposed, k, width, packed + column * depth);
    }
}

void panels_pack(const float *b, int64_t b_stride, int b_transposed, int64_t k, int64_t n, float *packed, int rounded) {
    pack_columns(b, b_stride, b_transposed, k, n, packed, rounded, 0, n);
}

void panels_pack_part(const float *b, int64_t k, int64_t n, int transposed, float *packed, int rounded, int part, int parts) {
    int64_t first, last;
    part_range(n, PANEL, part, parts, &first, &last);
    pack_columns(b, transposed ? k : n, transposed, k, n, packed, rounded, first, last);
}

/* One tile. rows, transposed and wide are constants wherever this is inlined, so that the sums are in registers. A tile
   that is not wide has only the first LANES columns of the panel. What the next tile needs of A and C is fetched meanwhile: the
   processor cannot guess it, since rows lie far apart. An address beyond the end of an array does no harm. */
static inline __attribute__((always_inline)) void tile(
    const int rows, const int transposed, const int wide, const float *restrict a, int64_t a_stride, int64_t k,
    const float *restrict panel, float *restrict c, int64_t c_stride, int add
) {
    enum { STEPS = 16 }; /* of k: a cache line of a row of A, or as far ahead as its transpose is fetched */
    Vector left[TILE_ROWS], right[TILE_ROWS];
UNROLLED
    for (int r = 0; r < rows; r++) {
        __builtin_prefetch(c + (rows + r) * c_stride, 1);
        if (wide) __builtin_prefetch(c + (rows + r) * c_stride + LANES, 1);
        left[r] = add ? load(c + r * c_stride) : (Vector){0};
        right[r] = add && wide ? load(c + r * c_stride + LANES) : (Vector){0};
    }
    for (int64_t block = 0; block < k; block += STEPS) {
        const int64_t end = k - block < STEPS ? k : block + STEPS;
UNROLLED
        for (int r = 0; !transposed && r < rows; r++) __builtin_prefetch(a + (rows + r) * a_stride + block);
        for (int64_t i = block; i < end; i++) {
            const Vector b0 = load(panel + i * PANEL), b1 = load(panel + i * PANEL + LANES);
            if (transposed) __builtin_prefetch(a + (i + STEPS) * a_stride);
UNROLLED
            for (int r = 0; r < rows; r++) {
                const float value = transposed ? a[i * a_stride + r] : a[r * a_stride + i];
                left[r] += value * b0;
                if (wide) right[r] += value * b1;
            }
        }
    }
UNROLLED
    for (int r = 0; r < rows; r++) {
        memcpy(c + r * c_stride, &left[r], sizeof(Vector));
        if (wide) memcpy(c + r * c_stride + LANES, &right[r], sizeof(Vector));
    }
}

/* A tile of any height, for `columns` of the panel, in whole vectors. */
static void some_tile(
    int64_t rows, int transposed, size_t columns, const float *a, int64_t a_stride, int64_t k, const float *panel, float *c,
    int64_t c_stride, int add
) {
#define EXPANDED(R, TRANSPOSED, WIDE) tile(R, TRANSPOSED, WIDE, a, a_stride, k, panel, c, c_stride, add); break;
#define CASE(R) \
    case 4 * R: EXPANDED(R, 0, 0) \
    case 4 * R + 1: EXPANDED(R, 0, 1) \
    case 4 * R + 2: EXPANDED(R, 1, 0) \
    case 4 * R + 3: EXPANDED(R, 1, 1)
    switch (4 * (int)rows + (transposed ? 2 : 0) + (columns > LANES)) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if !defined(__AVX__) || defined(__AVX512F__)
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
#undef CASE
#undef EXPANDED
}

void panels_multiply(
    const float *a, int64_t a_stride, int a_transposed, int64_t rows, int64_t k, const float *packed, int64_t packed_k, int64_t n, float *c,
    int64_t c_stride, int add, int rounded
) {
    if (rounded) {
        rounded_multiply(a, a_stride, a_transposed, rows, k, packed, packed_k, n, c, c_stride, add);
        return;
    }
    int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t column = 0; column < n; column += PANEL) {
        const float *panel = packed + column * packed_k;
        size_t width = (size_t)(n - column < PANEL ? n - column : PANEL);
        for (int64_t t = 0; t < tiles; t++) { /* tiles of equal height, or one less */
            int64_t first = rows * t / tiles, height = rows * (t + 1) / tiles - first;
            const float *from = a + (a_transposed ? first : first * a_stride);
            float *to = c + first * c_stride + column;
            if (width % LANES == 0) {
                some_tile(height, a_transposed, width, from, a_stride, k, panel, to, c_stride, add);
            } else { /* C ends within a vector */
                float edge[TILE_ROWS * PANEL] = {0};
                for (int64_t r = 0; add && r < height; r++) memcpy(edge + r * PANEL, to + r * c_stride, sizeof(float) * width);
                some_tile(height, a_transposed, width, from, a_stride, k, panel, edge, PANEL, add);
                for (int64_t r = 0; r < height; r++) memcpy(to + r * c_stride, edge + r * PANEL, sizeof(float) * width);
            }
        }
    }
}
