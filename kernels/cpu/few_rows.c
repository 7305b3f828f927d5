/* Products C = A Bᵀ with few rows, as in decoding: each number of C is the dot product of a row of A and a row of what is stored
   of B, which is read where it lies. Packing B would take longer than the product.

   Most of the time goes into reading B. With one row of A it is read strictly in order, as a processor fetches memory in advance:
   four rows of B side by side take 1.5 to 2 times as long if they come from memory. With more rows, two rows of B share what is
   loaded of A. While COLUMNS rows of B are in the L1 cache, all rows of A are multiplied with them. A B in another format is decoded
   in registers for one row of A, and COLUMNS rows at a time into the cache for more.

   A dot product is made of 32 sums, each of every 32nd product, on every target: the result does not depend on the width of a
   vector, nor on the rows and columns that are computed side by side. A single sum would have to wait for its last multiply-add. */

#include "few_rows.h"

#include "bfloat16.h"
#include "vectors.h"

enum {
    SUMS = PIECE, /* of a dot product */
    HALF = SUMS / 2,
    PIECES = SUMS / LANES, /* registers for these sums */
    COLUMNS = 4,
    ROWS = 4,
    MOST_SUMS = REGISTERS / 4 * 3, /* registers for sums; the others are for what is loaded */
    ROWS_AT_ONCE = ROWS * PIECES <= MOST_SUMS ? ROWS : MOST_SUMS / PIECES,
};

typedef Vector Sums[ROWS][COLUMNS][PIECES];

/* Adds the products of numbers [l, l + SUMS). rows and columns are constants wherever this is inlined, so that sums are in registers. */
static inline __attribute__((always_inline)) void add_products(
    const int rounded, const int rows, const int columns, const float *const *a, const float *const *b, int64_t l, Sums sums
) {
UNROLLED
    for (int i = 0; i < PIECES; i++) {
        Vector left[ROWS], right[COLUMNS];
UNROLLED
        for (int r = 0; r < rows; r++) left[r] = load(a[r] + l + i * LANES);
UNROLLED
        for (int j = 0; j < columns; j++) right[j] = rounded ? rounded_vector(load(b[j] + l + i * LANES)) : load(b[j] + l + i * LANES);
UNROLLED
        for (int r = 0; r < rows; r++) KEEP(left[r]);
UNROLLED
        for (int j = 0; j < columns; j++) KEEP(right[j]);
UNROLLED
        for (int j = 0; j < columns; j++)
UNROLLED
            for (int r = 0; r < rows; r++) sums[r][j][i] += left[r] * right[j];
    }
}

/* The last numbers of some rows, from l on, and zeros. */
static inline void copy_rest(const float *const *rows, int count, int64_t l, int64_t k, float (*rest)[SUMS], const float **rests) {
    for (int i = 0; i < count; i++) {
        for (int s = 0; s < SUMS; s++) rest[i][s] = l + s < k ? rows[i][l + s] : 0;
        rests[i] = rest[i];
    }
}

/* The sums of the dot products of some rows of A and of B, those of the second half added to those of the first. */
static inline __attribute__((always_inline)) void sums_of(
    const int rounded, const int rows, const int columns, const float *const *a, const float *const *b, int64_t k,
    float (*found)[COLUMNS][HALF]
) {
    Sums sums;
UNROLLED
    for (int r = 0; r < rows; r++)
UNROLLED
        for (int j = 0; j < columns; j++)
UNROLLED
            for (int i = 0; i < PIECES; i++) sums[r][j][i] = (Vector){0};
    const int64_t whole = k / SUMS * SUMS;
    for (int64_t l = 0; l < whole; l += SUMS) add_products(rounded, rows, columns, a, b, l, sums);
    if (whole < k) {
        float rest_of_a[ROWS][SUMS], rest_of_b[COLUMNS][SUMS];
        const float *as[ROWS], *bs[COLUMNS];
        copy_rest(a, rows, whole, k, rest_of_a, as);
        copy_rest(b, columns, whole, k, rest_of_b, bs);
        add_products(rounded, rows, columns, as, bs, 0, sums);
    }
UNROLLED
    for (int r = 0; r < rows; r++)
UNROLLED
        for (int j = 0; j < columns; j++)
UNROLLED
            for (int i = 0; i < PIECES / 2; i++) {
                const Vector sum = sums[r][j][i] + sums[r][j][i + PIECES / 2];
                memcpy(found[r][j] + i * LANES, &sum, sizeof sum);
            }
}

/* Σ of the remaining sums of each of COLUMNS dot products. */
static inline Four totals(float (*sums)[HALF]) {
    Four all[COLUMNS];
UNROLLED
    for (int j = 0; j < COLUMNS; j++) {
        const float *s = sums[j];
        all[j] = (load_four(s) + load_four(s + 8)) + (load_four(s + 4) + load_four(s + 12));
    }
    transpose(all);
    return (all[0] + all[2]) + (all[1] + all[3]);
}

/* C, or what is added to it, from the sums of its numbers. */
static inline void put(int rows, float (*sums)[COLUMNS][HALF], int width, float *c, int64_t c_stride, int add) {
    for (int r = 0; r < rows; r++) {
        const Four found = totals(sums[r]);
        float *to = c + r * c_stride;
        for (int j = 0; j < width; j++) to[j] = (add ? to[j] : 0) + found[j];
    }
}

/* `width` columns of up to ROWS rows. */
static inline __attribute__((always_inline)) void group(
    const int rounded, const int rows, const float *a, int64_t a_stride, const float *const *b, int64_t k, int width, float *c,
    int64_t c_stride, int add
) {
    const int columns = rows > 1 && rows * 2 * PIECES <= MOST_SUMS ? 2 : 1;
    float sums[ROWS][COLUMNS][HALF];
    const float *as[ROWS];
    for (int r = 0; r < rows; r++) as[r] = a + r * a_stride;
    for (int j = 0; j < COLUMNS; j += columns) sums_of(rounded, rows, columns, as, b + j, k, (float(*)[COLUMNS][HALF])sums[0][j]);
    put(rows, sums, width, c, c_stride, add);
}

/* The sums of the dot product of a row and a row of B in another format, which goes from one register to the next. They are those of
   sums_of. */
static inline __attribute__((always_inline)) void stored_sums_of(
    const int format, const float *a, const uint8_t *b, int64_t k, float *found
) {
    Vector sums[PIECES] = {0};
    const int64_t pieces = k / PIECE;
    for (int64_t l = 0; l < pieces * PIECE; l += PIECE) {
        Vector right[PIECES];
        decode_piece(format, b, l, right);
UNROLLED
        for (int i = 0; i < PIECES; i++) sums[i] += load(a + l + i * LANES) * right[i];
    }
    if (pieces * PIECE < k) {
        float left[PIECE] = {0}, right[PIECE] = {0};
        memcpy(left, a + pieces * PIECE, sizeof(float) * (size_t)(k - pieces * PIECE));
        decode_run(format, b, pieces * PIECE, k, right);
UNROLLED
        for (int i = 0; i < PIECES; i++) sums[i] += load(left + i * LANES) * load(right + i * LANES);
    }
UNROLLED
    for (int i = 0; i < PIECES / 2; i++) {
        const Vector sum = sums[i] + sums[i + PIECES / 2];
        memcpy(found + i * LANES, &sum, sizeof sum);
    }
}

/* One row and columns of B in another format. */
static void stored_row_of(const Product *p, int64_t row, int64_t column, int64_t column_end) {
    const float *a = p->a.data + row * p->a.stride;
    for (int64_t j = column; j < column_end; j += COLUMNS) {
        const int width = (int)(column_end - j < COLUMNS ? column_end - j : COLUMNS);
        float sums[1][COLUMNS][HALF] = {0};
        for (int i = 0; i < width; i++) {
            const uint8_t *b = (const uint8_t *)p->b.data + (j + i) * p->b.stride;
            switch (p->b.format) {
#define CASE(FORMAT) \
    case FORMAT: stored_sums_of(FORMAT, a, b, p->k, sums[0][i]); break;
                CASE(FLOAT16) CASE(BFLOAT16) CASE(Q4_0) CASE(Q4_1) CASE(Q8_0) CASE(Q4_K) CASE(Q6_K)
#undef CASE
            }
        }
        put(1, sums, width, p->c + row * p->stride + j, p->stride, p->add);
    }
}

void few_rows(const Product *p, int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
    static _Thread_local float decoded[COLUMNS][LONGEST_DECODED];
    const int stored = p->b.format != FLOAT32;
    if (stored && p->m == 1 && !p->rounded) return stored_row_of(p, row, column, column_end);
    static _Thread_local float rounded_a[MOST_ROUNDED] __attribute__((aligned(64)));
    const float *rows_of_a = p->a.data + row * p->a.stride;
    int64_t a_stride = p->a.stride;
    if (p->rounded) {
        for (int64_t i = row; i < row_end; i++) round_row(p->a.data + i * a_stride, p->k, rounded_a + (i - row) * p->k);
        rows_of_a = rounded_a;
        a_stride = p->k;
    }
    const int64_t rows = row_end - row, groups = (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
    for (int64_t j = column; j < column_end; j += COLUMNS) {
        const int width = (int)(column_end - j < COLUMNS ? column_end - j : COLUMNS);
        const float *b[COLUMNS];
        for (int i = 0; i < COLUMNS; i++) {
            b[i] = stored ? decoded[i] : p->b.data + (i < width ? j + i : j) * p->b.stride; /* missing ones are not stored */
            if (stored && i < width) decode_run(p->b.format, (const char *)p->b.data + (j + i) * p->b.stride, 0, p->k, decoded[i]);
        }
        for (int64_t g = 0; g < groups; g++) { /* of equal height, or one less */
            const int64_t first = rows * g / groups, height = rows * (g + 1) / groups - first;
            const float *a = rows_of_a + first * a_stride;
            float *c = p->c + (row + first) * p->stride + j;
#define CASE(R) \
    case R: group(0, R, a, a_stride, b, p->k, width, c, p->stride, p->add); break; \
    case -R: group(1, R, a, a_stride, b, p->k, width, c, p->stride, p->add); break;
            switch (p->rounded ? -height : height) { CASE(1) CASE(2) CASE(3) CASE(4) }
#undef CASE
        }
    }
}
