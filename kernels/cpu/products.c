/* Matrix products, split over the pool.

   Each part computes its rows or columns of C in blocks: DEPTH of k and COLUMNS of B are packed into panels, which stay
   in the core's L2 cache, and are multiplied with ROWS of A at a time, which stay there too (Goto & van de Geijn 2008,
   "Anatomy of high-performance matrix multiplication", section 4). Each number of C is one sum over k, in an order that
   depends on k alone: it is the same for any number of parts. A is not packed: a tile needs only a few of its numbers
   at each step, and the step before has already brought them into the L1 cache.

   Packing pays only if A has many rows. If it has few, as in decoding, B is read in place.

   If Python passes an sgemm, that routine does the whole product while the pool waits: Apple's uses units of the
   processor that no other program can use. */

#include "products.h"

#include "panels.h"
#include "pool.h"

enum { DEPTH = 512, COLUMNS = 512, ROWS = 192, FEW = 4 };

typedef void Sgemm(
    const char *, const char *, const int *, const int *, const int *, const float *, const float *, const int *, const float *,
    const int *, const float *, float *, const int *
);

static Sgemm *sgemm;

/* routine: the Fortran sgemm, or null for the products of this file. */
EXPORT int use_sgemm(void *routine) {
    sgemm = (Sgemm *)routine;
    return 0;
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void finish(const Product *p, int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
    if (p->finish) p->finish(p->context, row, row_end, column, column_end);
}

/* Fortran stores columns: for Fortran, C is Cᵀ = Bᵀ Aᵀ. */
static void whole(const Product *p) {
    const int m = (int)p->m, n = (int)p->n, k = (int)p->k, lda = (int)p->a.stride, ldb = (int)p->b.stride, ldc = (int)p->stride;
    const float one = 1, beta = p->add ? 1 : 0;
    sgemm(p->b.transposed ? "T" : "N", p->a.transposed ? "T" : "N", &n, &m, &k, &one, p->b.data, &ldb, p->a.data, &lda, &beta, p->c, &ldc);
    finish(p, 0, p->m, 0, p->n);
}

/* Columns of C with `rows` rows (a constant wherever this is inlined), from the rows of the transpose of B, each of
   which is read once. */
static inline __attribute__((always_inline)) void dots(const Product *p, const int rows, int64_t column, int64_t column_end) {
    const float *restrict a = p->a.data;
    const int64_t k = p->k, a_stride = p->a.stride;
    for (int64_t j = column; j < column_end; j++) {
        const float *restrict b = p->b.data + j * p->b.stride;
        float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
        for (int64_t l = 0; l < k; l++) {
            s0 += a[l] * b[l];
            if (rows > 1) s1 += a[a_stride + l] * b[l];
            if (rows > 2) s2 += a[2 * a_stride + l] * b[l];
            if (rows > 3) s3 += a[3 * a_stride + l] * b[l];
        }
        const float sums[FEW] = {s0, s1, s2, s3};
        for (int i = 0; i < rows; i++) p->c[i * p->stride + j] = (p->add ? p->c[i * p->stride + j] : 0) + sums[i];
    }
    finish(p, 0, rows, column, column_end);
}

static void few_rows(const Product *p, int64_t column, int64_t column_end) {
    switch (p->m) {
    case 1: dots(p, 1, column, column_end); break;
    case 2: dots(p, 2, column, column_end); break;
    case 3: dots(p, 3, column, column_end); break;
    case 4: dots(p, 4, column, column_end); break;
    }
}

static void blocks(const Product *p, int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
    static _Thread_local float packed[DEPTH * COLUMNS] __attribute__((aligned(64)));
    const Factor *a = &p->a, *b = &p->b;
    int64_t depths = (p->k + DEPTH - 1) / DEPTH;
    for (int64_t j = column; j < column_end; j += COLUMNS) {
        int64_t j_end = least(j + COLUMNS, column_end);
        for (int64_t d = 0; d < depths; d++) { /* blocks of equal depth, or one less */
            int64_t l = p->k * d / depths, depth = p->k * (d + 1) / depths - l;
            const float *from = b->data + (b->transposed ? j * b->stride + l : l * b->stride + j);
            panels_pack(from, b->stride, b->transposed, depth, j_end - j, packed);
            for (int64_t i = row; i < row_end; i += ROWS) {
                int64_t i_end = least(i + ROWS, row_end);
                const float *left = a->data + (a->transposed ? l * a->stride + i : i * a->stride + l);
                float *to = p->c + i * p->stride + j;
                panels_multiply(left, a->stride, a->transposed, i_end - i, depth, packed, j_end - j, to, p->stride, p->add || d > 0);
                if (d == depths - 1) finish(p, i, i_end, j, j_end);
            }
        }
    }
}

void product_part(const Product *p, int part, int parts) {
    int64_t first, last;
    int by_rows = p->m >= p->n;
    if (p->m == 0 || p->n == 0) return;
    if (p->k == 0) {
        for (int64_t i = 0; part == 0 && i < p->m; i++)
            for (int64_t j = 0; !p->add && j < p->n; j++) p->c[i * p->stride + j] = 0;
        if (part == 0) finish(p, 0, p->m, 0, p->n);
    } else if (sgemm) {
        if (part == 0) whole(p);
    } else {
        part_range(by_rows ? p->m : p->n, by_rows ? TILE_ROWS : PANEL, part, parts, &first, &last);
        if (by_rows) blocks(p, first, last, 0, p->n);
        else if (p->m <= FEW && !p->a.transposed && p->b.transposed) few_rows(p, first, last);
        else blocks(p, 0, p->m, first, last);
    }
}

void column_sums_part(const ColumnSums *s, int part, int parts) {
    enum { WIDTH = 256, HEIGHT = 64 }; /* sums of sums: a rounding error of rows / 64 + 64 additions at most */
    int64_t first, last;
    part_range(s->sums ? s->columns : 0, 16, part, parts, &first, &last);
    for (int64_t from = first; from < last; from += WIDTH) {
        int width = (int)(last - from < WIDTH ? last - from : WIDTH);
        float total[WIDTH] = {0}, block[WIDTH];
        for (int64_t i = 0; i < s->rows; i += HEIGHT) {
            int64_t end = s->rows - i < HEIGHT ? s->rows : i + HEIGHT;
            for (int j = 0; j < width; j++) block[j] = 0;
            for (int64_t row = i; row < end; row++) {
                const float *values = s->x + row * s->stride + from;
                for (int j = 0; j < width; j++) block[j] += values[j];
            }
            for (int j = 0; j < width; j++) total[j] += block[j];
        }
        for (int j = 0; j < width; j++) s->sums[from + j] = total[j];
    }
}

typedef struct {
    const Product *products;
    const ColumnSums *sums;
    int product_count, sums_count;
} Several;

static void several_part(void *argument, int part, int parts) {
    const Several *s = argument;
    for (int i = 0; i < s->product_count; i++) product_part(&s->products[i], part, parts);
    for (int i = 0; i < s->sums_count; i++) column_sums_part(&s->sums[i], part, parts);
}

void products_run(const Product *products, int product_count, const ColumnSums *sums, int sums_count) {
    Several s = {products, sums, product_count, sums_count};
    int64_t operations = 0;
    for (int i = 0; i < product_count; i++) operations += products[i].m * products[i].n * products[i].k;
    for (int i = 0; i < sums_count; i++) operations += sums[i].rows * sums[i].columns;
    pool_run(several_part, &s, operations);
}
