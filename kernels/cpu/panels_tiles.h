/* The product of rounded numbers by the processor's tiles: see panels_tiles.c. */
#ifndef TINYLM_PANELS_TILES_H
#define TINYLM_PANELS_TILES_H

#include <stdint.h>

enum { TILE_SIDE = 16 }; /* rows of a tile, and words of a row */

/* C (rows, n) = A B or C += A B. a: rows of pairs, with rows and pairs up to a multiple of TILE_SIDE, zeros beyond k; packed: panels of
   pairs, panel_stride words from one to the next. */
void tiles_multiply(
    const uint32_t *a, int64_t a_stride, int64_t rows, int64_t pairs, const uint32_t *packed, int64_t panel_stride, int64_t n, float *c,
    int64_t c_stride, int add
);

#endif
