/* Matrix products on row-major arrays: see products.c. */
#ifndef TINYLM_PRODUCTS_H
#define TINYLM_PRODUCTS_H

#include <stdint.h>

typedef struct {
    const float *data;
    int64_t stride;  /* floats from one row to the next */
    int transposed;  /* the factor is the transpose of what is stored */
} Factor;

/* What is to be done with rows [row, row_end), columns [column, column_end) of C as soon as they are computed. */
typedef void Finish(const void *context, int64_t row, int64_t row_end, int64_t column, int64_t column_end);

/* One product C = A B, or C += A B, with A (m, k), B (k, n), C (m, n); stride is that of C. */
typedef struct {
    int64_t m, n, k;
    Factor a, b;
    float *c;
    int64_t stride;
    int add;
    Finish *finish; /* null for nothing */
    const void *context;
} Product;

static inline Factor plain(const float *data, int64_t stride) { return (Factor){data, stride, 0}; }
static inline Factor transposed(const float *data, int64_t stride) { return (Factor){data, stride, 1}; }

/* About how many multiply-adds a linear layer takes. A weight that comes from memory takes as long as some: it counts with few rows. */
static inline int64_t linear_operations(int64_t rows, int64_t inputs, int64_t outputs) {
    return outputs * (rows * (inputs + 16) + inputs * 4);
}

/* The part's share of a product, to be called by every part of a run: whole rows or whole columns of C,
   whichever of them are more. */
void product_part(const Product *product, int part, int parts);

/* Column sums: sums[j] = Σ_i x[i][j], or nothing where sums is null. */
typedef struct {
    const float *x;
    int64_t rows, columns, stride;
    float *sums;
} ColumnSums;

/* The part's share of column sums, to be called by every part of a run. */
void column_sums_part(const ColumnSums *sums, int part, int parts);

/* Products and column sums one after the other, each by all threads. Each C depends on those before it at
   most by being added to. */
void products_run(const Product *products, int product_count, const ColumnSums *sums, int sums_count);

#endif
