/* Matrix products on row-major arrays: see products.c. */
#ifndef TINYLM_PRODUCTS_H
#define TINYLM_PRODUCTS_H

#include "column_sums.h"
#include "stored_weights.h"

#include <stdint.h>

typedef struct {
    const float *data;
    int64_t stride;  /* floats from one row to the next; bytes in another format */
    int transposed;  /* the factor is the transpose of what is stored */
    int format;      /* FLOAT32, or for the second factor another one of stored_weights.h */
} Factor;

/* Called for rows [row, row_end), columns [column, column_end) of C as soon as they are computed. */
typedef void Finish(const void *context, int64_t row, int64_t row_end, int64_t column, int64_t column_end);

/* One product C = A B, or C += A B, with A (m, k), B (k, n), C (m, n); stride is that of C. */
typedef struct {
    int64_t m, n, k;
    Factor a, b;
    float *c;
    int64_t stride;
    int add, rounded; /* rounded: both operands, to bfloat16 */
    Finish *finish; /* may be null */
    const void *context;
    int in_parts; /* no sgemm, which does all of a product in one part: one that is in parts adds to this one, or is added to */
} Product;

static inline Factor plain(const float *data, int64_t stride) { return (Factor){data, stride, 0, FLOAT32}; }
static inline Factor transposed(const float *data, int64_t stride) { return (Factor){data, stride, 1, FLOAT32}; }

/* A weight of that many columns in that format, or its transpose. */
static inline Factor weight_factor(const void *weight, int64_t columns, int format, int transposed) {
    return (Factor){weight, format == FLOAT32 ? columns : stored_row(format, columns), transposed, format};
}

enum { MOST_DEPTH = 512 }; /* numbers of k in a block */

/* Packs numbers [l, l + depth) of k and some columns of a stored B, as panels_pack does. */
void stored_panels_pack(const Factor *b, int64_t l, int64_t depth, int64_t column, int64_t column_end, float *packed, int rounded);

/* About how many multiply-adds a linear layer takes. Reading a weight from memory takes as long as some of them, which matters
   with few rows. */
static inline int64_t linear_operations(int64_t rows, int64_t inputs, int64_t outputs) {
    return outputs * (rows * (inputs + 16) + inputs * 4);
}

/* This part's rectangle of C; to be called by every part of a run. */
void product_part(const Product *product, int part, int parts);

/* Products and column sums one after the other, each by all threads. A product may add to the C of an earlier one, but it does
   not read it in any other way. */
void products_run(const Product *products, int product_count, const ColumnSums *sums, int sums_count);

#endif
