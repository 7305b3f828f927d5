/* Matrix products by the sgemm that Python hands in, split over the pool.

   That sgemm must do its work in the calling thread: then every part calls it for its share of the rows
   or columns of C. Where the BLAS has threads of its own that nobody can stop, it gets whole products, one at
   a time, from the caller, while the pool sleeps. */

#include "products.h"

#include "pool.h"

typedef void Sgemm(
    const char *, const char *, const int *, const int *, const int *, const float *, const float *, const int *, const float *,
    const int *, const float *, float *, const int *
);

static Sgemm *sgemm;
static int splits;

/* routine: the Fortran sgemm; may_split: whether it works in the calling thread alone. */
EXPORT int use_sgemm(void *routine, int may_split) {
    sgemm = (Sgemm *)routine;
    splits = may_split;
    return 0;
}

/* Fortran stores columns: to it our C is Cᵀ = Bᵀ Aᵀ. */
static void multiply(int64_t m, int64_t n, int64_t k, Factor a, Factor b, float *c, int64_t stride, int add) {
    if (m == 0 || n == 0) return;
    if (k == 0) {
        for (int64_t i = 0; !add && i < m; i++)
            for (int64_t j = 0; j < n; j++) c[i * stride + j] = 0;
        return;
    }
    const int rows = (int)m, columns = (int)n, inner = (int)k, lda = (int)a.stride, ldb = (int)b.stride, ldc = (int)stride;
    const float one = 1, beta = add ? 1 : 0;
    sgemm(b.transposed ? "T" : "N", a.transposed ? "T" : "N", &columns, &rows, &inner, &one, b.data, &ldb, a.data, &lda, &beta, c, &ldc);
}

int product_range(const Product *p, int part, int parts, int64_t *first, int64_t *last) {
    int by_rows = p->m >= p->n;
    int64_t whole = by_rows ? p->m : p->n;
    if (splits) share(whole, 16, part, parts, first, last);
    else *first = 0, *last = part == 0 ? whole : 0;
    return by_rows;
}

void product_share(const Product *p, int part, int parts) {
    int64_t first, last;
    Factor a = p->a, b = p->b;
    if (product_range(p, part, parts, &first, &last)) {
        a.data += a.transposed ? first : first * a.stride;
        multiply(last - first, p->n, p->k, a, b, p->c + first * p->stride, p->stride, p->add);
    } else {
        b.data += b.transposed ? first * b.stride : first;
        multiply(p->m, last - first, p->k, a, b, p->c + first, p->stride, p->add);
    }
}

void column_sums_share(const ColumnSums *s, int part, int parts) {
    enum { COLUMNS = 256, ROWS = 64 }; /* sums of sums: a rounding error of rows / 64 + 64 additions at most */
    int64_t first, last;
    share(s->sums ? s->columns : 0, 16, part, parts, &first, &last);
    for (int64_t from = first; from < last; from += COLUMNS) {
        int width = (int)(last - from < COLUMNS ? last - from : COLUMNS);
        float total[COLUMNS] = {0}, block[COLUMNS];
        for (int64_t i = 0; i < s->rows; i += ROWS) {
            int64_t end = s->rows - i < ROWS ? s->rows : i + ROWS;
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

static void several_share(void *argument, int part, int parts) {
    const Several *s = argument;
    for (int i = 0; i < s->product_count; i++) product_share(&s->products[i], part, parts);
    for (int i = 0; i < s->sums_count; i++) column_sums_share(&s->sums[i], part, parts);
}

void products_run(const Product *products, int product_count, const ColumnSums *sums, int sums_count) {
    Several s = {products, sums, product_count, sums_count};
    int64_t operations = 0;
    for (int i = 0; i < product_count; i++) operations += products[i].m * products[i].n * products[i].k;
    for (int i = 0; i < sums_count; i++) operations += sums[i].rows * sums[i].columns;
    pool_run(several_share, &s, operations);
}
