/* Products of pairs of bfloat16 by AMX: a tile of sums is 16 x 16 numbers of C, to which a multiply-add adds the products of 16 rows of
   16 pairs of A and 16 pairs of 16 columns of B. Up to 2 x 2 tiles of sums stay in the registers while k runs, so that each tile
   loaded is used twice. */

#include "tiles.h"

#if HAS_TILES

#include "panels.h"
#include "panels_tiles.h"

#include <string.h>

enum { BLOCK = 2 * TILE_SIDE, SUM_BYTES = sizeof(float) };

_Static_assert((int)PANEL == (int)BLOCK, "a panel is as wide as two tiles");

/* One block of up to two tiles in each direction: tiles 0 to 3 are sums, 4 and 5 of A, 6 and 7 of B. */
static inline __attribute__((always_inline)) void block(
    const int two_rows, const int two_columns, const uint32_t *a, int64_t a_stride, int64_t pairs, const uint32_t *panel, float *c,
    int64_t c_stride, int add
) {
    const int64_t a_bytes = a_stride * (int64_t)sizeof *a, c_bytes = c_stride * SUM_BYTES, panel_bytes = PANEL * (int64_t)sizeof *panel;
    float *below = c + TILE_SIDE * c_stride;
    if (add) {
        tile_load(0, c, c_bytes);
        if (two_columns) tile_load(1, c + TILE_SIDE, c_bytes);
        if (two_rows) tile_load(2, below, c_bytes);
        if (two_rows && two_columns) tile_load(3, below + TILE_SIDE, c_bytes);
    } else {
        tile_zero(0);
        if (two_columns) tile_zero(1);
        if (two_rows) tile_zero(2);
        if (two_rows && two_columns) tile_zero(3);
    }
    for (int64_t l = 0; l < pairs; l += TILE_SIDE) {
        tile_load(4, a + l, a_bytes);
        tile_load(6, panel + l * PANEL, panel_bytes);
        if (two_rows) tile_load(5, a + TILE_SIDE * a_stride + l, a_bytes);
        if (two_columns) tile_load(7, panel + l * PANEL + TILE_SIDE, panel_bytes);
        tile_multiply_add(0, 4, 6);
        if (two_columns) tile_multiply_add(1, 4, 7);
        if (two_rows) tile_multiply_add(2, 5, 6);
        if (two_rows && two_columns) tile_multiply_add(3, 5, 7);
    }
    tile_store(0, c, c_bytes);
    if (two_columns) tile_store(1, c + TILE_SIDE, c_bytes);
    if (two_rows) tile_store(2, below, c_bytes);
    if (two_rows && two_columns) tile_store(3, below + TILE_SIDE, c_bytes);
}

static void some_block(
    int64_t rows, int64_t columns, const uint32_t *a, int64_t a_stride, int64_t pairs, const uint32_t *panel, float *c, int64_t c_stride,
    int add
) {
    if (rows > TILE_SIDE && columns > TILE_SIDE) block(1, 1, a, a_stride, pairs, panel, c, c_stride, add);
    else if (rows > TILE_SIDE) block(1, 0, a, a_stride, pairs, panel, c, c_stride, add);
    else if (columns > TILE_SIDE) block(0, 1, a, a_stride, pairs, panel, c, c_stride, add);
    else block(0, 0, a, a_stride, pairs, panel, c, c_stride, add);
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

void tiles_multiply(
    const uint32_t *a, int64_t a_stride, int64_t rows, int64_t pairs, const uint32_t *packed, int64_t panel_stride, int64_t n, float *c,
    int64_t c_stride, int add
) {
    tiles_configure();
    for (int64_t column = 0; column < n; column += PANEL, packed += panel_stride) {
        const int64_t width = least(n - column, PANEL);
        for (int64_t row = 0; row < rows; row += BLOCK) {
            const int64_t height = least(rows - row, BLOCK);
            const uint32_t *from = a + row * a_stride;
            float *to = c + row * c_stride + column;
            if (width % TILE_SIDE == 0 && height % TILE_SIDE == 0) {
                some_block(height, width, from, a_stride, pairs, packed, to, c_stride, add);
            } else { /* C ends within a tile */
                float edge[BLOCK * BLOCK] = {0};
                for (int64_t r = 0; add && r < height; r++) memcpy(edge + r * BLOCK, to + r * c_stride, sizeof(float) * (size_t)width);
                some_block(height, width, from, a_stride, pairs, packed, edge, BLOCK, add);
                for (int64_t r = 0; r < height; r++) memcpy(to + r * c_stride, edge + r * BLOCK, sizeof(float) * (size_t)width);
            }
        }
    }
    tiles_release();
}

#endif
