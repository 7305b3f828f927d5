/* C_i = A_i B_i for `batches` products of one size: A (m, k), B (k, n), C (m, n) without gaps.

   a_next and b_next are the floats from one matrix to the next, 0 for a matrix that all products use; with a_transposed or
   b_transposed, the transpose is stored. If there are at least as many products as parts, each part takes whole products, else
   some rows or columns of each. */

#include "panels.h"
#include "pool.h"
#include "products.h"

typedef struct {
    int64_t batches, a_next, b_next;
    Product first;
} Batches;

static void batches_part(void *argument, int part, int parts) {
    const Batches *all = argument;
    int whole = all->batches >= parts;
    int64_t from = 0, to = all->batches;
    if (whole) part_range(all->batches, 1, part, parts, &from, &to);
    for (int64_t i = from; i < to; i++) {
        Product p = all->first;
        p.a.data += i * all->a_next;
        p.b.data += i * all->b_next;
        p.c += i * p.m * p.n;
        product_part(&p, whole ? 0 : part, whole ? 1 : parts);
    }
}

EXPORT int matmul_batches(
    int64_t batches, int64_t m, int64_t n, int64_t k, int rounded, const float *a, int64_t a_next, int a_transposed, const float *b,
    int64_t b_next, int b_transposed, float *c
) {
    Factor left = a_transposed ? transposed(a, m) : plain(a, k), right = b_transposed ? transposed(b, k) : plain(b, n);
    Batches all = {batches, a_next, b_next, {m, n, k, left, right, c, n, 0, rounded}};
    pool_run(batches_part, &all, batches * m * n * (k + 1));
    return 0;
}

/* What the products were compiled for, for people to read: the floats of a vector, the rows and the columns of a tile (panels.c). */
EXPORT int product_tile(int64_t *tile) {
    tile[0] = LANES;
    tile[1] = TILE_ROWS;
    tile[2] = PANEL;
    return 0;
}
