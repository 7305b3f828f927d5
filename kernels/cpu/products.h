/* Matrix products on row-major arrays, by the BLAS's sgemm: see products.c. */
#ifndef TINYLM_PRODUCTS_H
#define TINYLM_PRODUCTS_H

#include <stdint.h>

typedef struct {
    const float *data;
    int64_t stride;  /* floats from one row to the next */
    int transposed;  /* the factor is the transpose of what is stored */
} Factor;

/* One product C = A B, or C += A B, with A (m, k), B (k, n), C (m, n); stride is that of C. */
typedef struct {
    int64_t m, n, k;
    Factor a, b;
    float *c;
    int64_t stride;
    int add;
} Product;

static inline Factor plain(const float *data, int64_t stride) { return (Factor){data, stride, 0}; }
static inline Factor transposed(const float *data, int64_t stride) { return (Factor){data, stride, 1}; }

/* The part's share of a product, to be called by every part of a run: whole rows or whole columns of C,
   whichever of them are more. first and last, unless null, get the share of the rows or columns. */
void product_share(const Product *product, int part, int parts);

/* Which share product_share gives: true for rows [first, last) of C, false for columns. */
int product_range(const Product *product, int part, int parts, int64_t *first, int64_t *last);

/* Column sums: sums[j] = Σ_i x[i][j], or nothing where sums is null. */
typedef struct {
    const float *x;
    int64_t rows, columns, stride;
    float *sums;
} ColumnSums;

/* The part's share of column sums, to be called by every part of a run. */
void column_sums_share(const ColumnSums *sums, int part, int parts);

/* Products and column sums one after the other, each by all threads. Each C depends on those before it at
   most by being added to. */
void products_run(const Product *products, int product_count, const ColumnSums *sums, int sums_count);

#endif
