/* Products with few rows: see few_rows.c. */
#ifndef TINYLM_FEW_ROWS_H
#define TINYLM_FEW_ROWS_H

#include "products.h"

enum {
    MOST_ROUNDED = 1 << 15, /* numbers of A that are rounded beforehand */
    LONGEST_DECODED = 1 << 14, /* k of a B in another format that is decoded beforehand */
};

/* Whether few_rows computes a product. For each column of C it adds up the partial sums of m dot products; packing that column moves
   k numbers instead, which takes as long if k is 8 m. Beyond 16 rows packing is as fast. The answer must not depend on the number
   of parts, since the sums are in another order than those of a packed product. */
static inline int has_few_rows(const Product *p) {
    if (p->rounded && p->m * p->k > MOST_ROUNDED) return 0;
    if (p->b.format != FLOAT32 && (p->m > 1 || p->rounded) && p->k > LONGEST_DECODED) return 0;
    return p->m <= 16 && 8 * p->m <= p->k && !p->a.transposed && p->b.transposed;
}

/* Rows [row, row_end), columns [column, column_end) of C. */
void few_rows(const Product *p, int64_t row, int64_t row_end, int64_t column, int64_t column_end);

#endif
