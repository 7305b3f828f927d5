/* The inner part of matrix products of operands rounded to bfloat16, as panels.c for float32. Sums are float32.

   Three units of a processor multiply them:
   - AVX-512 BF16 adds the products of a pair of numbers of each of two operands to a float32: twice as fast as float32 on AMD's
     processors, slower on Intel's, where it is not used;
   - AMX does so for tiles: see panels_tiles.c;
   - elsewhere the rounded numbers are float32 again, and panels.c multiplies them.
   For the first two B is packed in pairs: a panel has PANEL words for each pair of rows of B, a word with a number of each. Where k is odd
   (for tiles, no multiple of 32) zeros take the place of the missing rows, and so they do in A, which is rounded some rows at a time into
   a workspace of its thread.

   AVX-512 BF16 and AMX take denormal numbers, those below 1.2e-38, for zeros: in operands and in sums. */

#include "panels_bfloat16.h"

#include "bfloat16.h"
#include "panels_tiles.h"
#include "tiles.h"

#include <stdatomic.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum {
    ROWS = 96, /* of A in the workspace, */
    DEPTH = 512, /* and numbers of k */
    PAIRS = DEPTH / 2,
    STRIDE = PAIRS + 16, /* words of a row: rows a power of two apart would compete for a few lines of the L1 cache */
    GROUP = 16 /* pairs that a tile takes at once */
};

static int made_by_amd(void) {
#if defined(__x86_64__)
    unsigned highest, b, c, d;
    return __get_cpuid(0, &highest, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
#else
    return 0;
#endif
}

static Unit find_unit(void) {
#if HAS_TILES
    if (tiles_granted()) return TILES;
#endif
#if defined(__AVX512BF16__)
    if (made_by_amd()) return DOTS;
#else
    (void)made_by_amd;
#endif
    return FLOATS;
}

Unit rounded_unit(void) {
    static atomic_int known; /* the unit + 1 */
    int unit = atomic_load_explicit(&known, memory_order_relaxed);
    if (!unit) atomic_store_explicit(&known, unit = 1 + (int)find_unit(), memory_order_relaxed);
    return (Unit)(unit - 1);
}

int rounded_speed(void) { return (int[]){[FLOATS] = 1, [DOTS] = 2, [TILES] = 5}[rounded_unit()]; }

/* The pairs of k numbers, with those of zeros. */
static int64_t pairs_in(int64_t k) {
    const int64_t pairs = (k + 1) / 2;
    return rounded_unit() == TILES ? (pairs + GROUP - 1) / GROUP * GROUP : pairs;
}

int64_t rounded_depth(int64_t k) { return rounded_unit() == FLOATS ? k : pairs_in(k); }

/* ---------------------------------------------------------------- packing */

/* Words of four rows, transposed: word j of row i goes to column i of row j. */
static void transpose_words(const uint32_t *from, int64_t from_stride, int64_t count, uint32_t *to, int64_t to_stride) {
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) {
        Four rows[4];
        for (int i = 0; i < 4; i++) memcpy(&rows[i], from + i * from_stride + j, sizeof rows[i]);
        transpose(rows);
        for (int i = 0; i < 4; i++) memcpy(to + (j + i) * to_stride, &rows[i], sizeof rows[i]);
    }
    for (; j < count; j++) {
        for (int i = 0; i < 4; i++) to[j * to_stride + i] = from[i * from_stride + j];
    }
}

static void pack_pairs(const float *b, int64_t stride, int transposed, int64_t k, int width, uint32_t *panel) {
    enum { BLOCK = 32 }; /* pairs: what is written stays in the L1 cache */
    const int64_t pairs = pairs_in(k);
    if (width < PANEL) memset(panel, 0, sizeof *panel * (size_t)(pairs * PANEL));
    if (!transposed) {
        for (int64_t l = 0; l < pairs; l++) {
            const float *row = b + 2 * l * stride;
            if (2 * l < k) pair_rows(row, 2 * l + 1 < k ? row + stride : 0, width, panel + l * PANEL);
            else memset(panel + l * PANEL, 0, sizeof *panel * PANEL);
        }
        return;
    }
    for (int64_t block = 0; block < pairs; block += BLOCK) {
        const int64_t count = pairs - block < BLOCK ? pairs - block : BLOCK, left = k - 2 * block;
        uint32_t words[4][BLOCK];
        for (int j = 0; j < width; j += 4) {
            const int columns = width - j < 4 ? width - j : 4;
            for (int i = 0; i < columns; i++) {
                pair_neighbours(b + (j + i) * stride + 2 * block, left < 2 * count ? left : 2 * count, count, words[i]);
            }
            uint32_t *to = panel + block * PANEL + j;
            if (columns == 4) {
                transpose_words(words[0], BLOCK, count, to, PANEL);
            } else {
                for (int i = 0; i < columns; i++) {
                    for (int64_t l = 0; l < count; l++) to[l * PANEL + i] = words[i][l];
                }
            }
        }
    }
}

void rounded_pack_panel(const float *b, int64_t stride, int transposed, int64_t k, int width, float *panel) {
    if (rounded_unit() != FLOATS) {
        pack_pairs(b, stride, transposed, k, width, (uint32_t *)panel);
    } else {
        pack_panel(b, stride, transposed, k, width, panel);
        round_row(panel, k * PANEL, panel);
    }
}

/* ---------------------------------------------------------------- tiles of sums in vector registers */

#if defined(__AVX512BF16__)

/* As the tile of panels.c, with a pair of numbers of k at each step. A is in the workspace. */
static inline __attribute__((always_inline)) void tile(
    const int rows, const int transposed, const int wide, const uint32_t *restrict a, int64_t pairs, const uint32_t *restrict panel,
    float *restrict c, int64_t c_stride, int add
) {
    Vector left[TILE_ROWS], right[TILE_ROWS];
UNROLLED
    for (int r = 0; r < rows; r++) {
        __builtin_prefetch(c + (rows + r) * c_stride, 1);
        if (wide) __builtin_prefetch(c + (rows + r) * c_stride + LANES, 1);
        left[r] = add ? load(c + r * c_stride) : (Vector){0};
        right[r] = add && wide ? load(c + r * c_stride + LANES) : (Vector){0};
    }
    for (int64_t l = 0; l < pairs; l++) {
        const __m512bh b0 = (__m512bh)_mm512_loadu_si512(panel + l * PANEL), b1 = (__m512bh)_mm512_loadu_si512(panel + l * PANEL + LANES);
UNROLLED
        for (int r = 0; r < rows; r++) {
            const __m512bh pair = (__m512bh)_mm512_set1_epi32((int)(transposed ? a[l * ROWS + r] : a[r * STRIDE + l]));
            left[r] = (Vector)_mm512_dpbf16_ps((__m512)left[r], pair, b0);
            if (wide) right[r] = (Vector)_mm512_dpbf16_ps((__m512)right[r], pair, b1);
        }
    }
UNROLLED
    for (int r = 0; r < rows; r++) {
        memcpy(c + r * c_stride, &left[r], sizeof(Vector));
        if (wide) memcpy(c + r * c_stride + LANES, &right[r], sizeof(Vector));
    }
}

static void some_tile(
    int64_t rows, int transposed, size_t columns, const uint32_t *a, int64_t pairs, const uint32_t *panel, float *c, int64_t c_stride, int add
) {
#define EXPANDED(R, TRANSPOSED, WIDE) tile(R, TRANSPOSED, WIDE, a, pairs, panel, c, c_stride, add); break;
#define CASE(R) \
    case 4 * R: EXPANDED(R, 0, 0) \
    case 4 * R + 1: EXPANDED(R, 0, 1) \
    case 4 * R + 2: EXPANDED(R, 1, 0) \
    case 4 * R + 3: EXPANDED(R, 1, 1)
    switch (4 * (int)rows + (transposed ? 2 : 0) + (columns > LANES)) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
    }
#undef CASE
#undef EXPANDED
}

static void dots_multiply(
    const uint32_t *a, int transposed, int64_t rows, int64_t pairs, const uint32_t *packed, int64_t panel_stride, int64_t n, float *c,
    int64_t c_stride, int add
) {
    const int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t column = 0; column < n; column += PANEL, packed += panel_stride) {
        const size_t width = (size_t)(n - column < PANEL ? n - column : PANEL);
        for (int64_t t = 0; t < tiles; t++) { /* tiles of equal height, or one less */
            const int64_t first = rows * t / tiles, height = rows * (t + 1) / tiles - first;
            const uint32_t *from = a + (transposed ? first : first * STRIDE);
            float *to = c + first * c_stride + column;
            if (width % LANES == 0) {
                some_tile(height, transposed, width, from, pairs, packed, to, c_stride, add);
            } else { /* C ends within a vector */
                float edge[TILE_ROWS * PANEL] = {0};
                for (int64_t r = 0; add && r < height; r++) memcpy(edge + r * PANEL, to + r * c_stride, sizeof(float) * width);
                some_tile(height, transposed, width, from, pairs, packed, edge, PANEL, add);
                for (int64_t r = 0; r < height; r++) memcpy(to + r * c_stride, edge + r * PANEL, sizeof(float) * width);
            }
        }
    }
}

#endif

/* ---------------------------------------------------------------- products */

/* The pairs of A for tiles, row by row: A is stored as its transpose (k, rows). */
static void turned_pairs(const float *a, int64_t a_stride, int64_t rows, int64_t k, int64_t pairs, uint32_t *to) {
    enum { BLOCK = 16 }; /* rows: a multiple of 4, to which the workspace's rows are filled up */
    uint32_t words[4][BLOCK] = {{0}};
    for (int64_t row = 0; row < rows; row += BLOCK) {
        const int64_t count = rows - row < BLOCK ? rows - row : BLOCK;
        for (int64_t l = 0; l < pairs; l += 4) {
            for (int i = 0; i < 4; i++) {
                const int64_t at = 2 * (l + i);
                const float *from = a + at * a_stride + row;
                if (at < k) pair_rows(from, at + 1 < k ? from + a_stride : 0, count, words[i]);
                else memset(words[i], 0, sizeof words[i]);
            }
            transpose_words(words[0], BLOCK, count, to + row * STRIDE + l, STRIDE);
        }
    }
}

/* A block of A, rounded, times the panels of as many rows of B. */
static void multiply_block(
    const float *a, int64_t a_stride, int a_transposed, int64_t rows, int64_t k, const float *packed, int64_t packed_k, int64_t n, float *c,
    int64_t c_stride, int add
) {
    static _Thread_local uint32_t words[ROWS * 2 * STRIDE] __attribute__((aligned(64)));
    const Unit unit = rounded_unit();
    if (unit == FLOATS) {
        float *floats = (float *)words;
        const int64_t count = a_transposed ? k : rows, length = a_transposed ? rows : k;
        for (int64_t i = 0; i < count; i++) round_row(a + i * a_stride, length, floats + i * length);
        panels_multiply(floats, length, a_transposed, rows, k, packed, packed_k, n, c, c_stride, add, 0);
        return;
    }
    const int64_t pairs = pairs_in(k), panel_stride = pairs_in(packed_k) * PANEL;
    const uint32_t *panels = (const uint32_t *)packed;
    if (!a_transposed) {
        for (int64_t i = 0; i < rows; i++) pair_neighbours(a + i * a_stride, k, pairs, words + i * STRIDE);
    } else if (unit == TILES) {
        turned_pairs(a, a_stride, rows, k, pairs, words);
    } else {
        for (int64_t l = 0; l < pairs; l++) {
            const float *from = a + 2 * l * a_stride;
            pair_rows(from, 2 * l + 1 < k ? from + a_stride : 0, rows, words + l * ROWS);
        }
    }
#if HAS_TILES
    if (unit == TILES) tiles_multiply(words, STRIDE, rows, pairs, panels, panel_stride, n, c, c_stride, add);
#endif
#if defined(__AVX512BF16__)
    if (unit == DOTS) dots_multiply(words, a_transposed, rows, pairs, panels, panel_stride, n, c, c_stride, add);
#endif
    (void)panels, (void)panel_stride;
}

void rounded_multiply(
    const float *a, int64_t a_stride, int a_transposed, int64_t rows, int64_t k, const float *packed, int64_t packed_k, int64_t n, float *c,
    int64_t c_stride, int add
) {
    for (int64_t l = 0; l == 0 || l < k; l += DEPTH) {
        const int64_t depth = k - l < DEPTH ? k - l : DEPTH;
        const float *panels = packed + (rounded_unit() == FLOATS ? l : l / 2) * PANEL;
        for (int64_t i = 0; i < rows; i += ROWS) {
            const int64_t height = rows - i < ROWS ? rows - i : ROWS;
            const float *from = a + (a_transposed ? l * a_stride + i : i * a_stride + l);
            multiply_block(from, a_stride, a_transposed, height, depth, panels, packed_k, n, c + i * c_stride, c_stride, add || l > 0);
        }
    }
}
