/* Matrix products, split over the pool.

   C is cut into a grid of rectangles, one for each part, which computes its rectangle in blocks: up to DEPTH of k and some columns
   of B are packed into panels, which stay in the core's L2 cache, and are multiplied with ROWS of A at a time, which stay there
   too (Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication", section 4). Each number of C is one sum
   over k, in an order that depends on k alone: it is the same for any number of parts and any size of the blocks. A is not packed:
   a tile needs only a few of its numbers at each step, and the step before has already brought them into the L1 cache.

   Packing pays only if A has many rows. If it has few, as in decoding, B is read in place: see few_rows.c.

   If Python passes an sgemm, that routine does a whole product of float32 numbers that are not rounded, while the pool waits: Apple's uses
   units of the processor that no other program can use. */

#include "products.h"

#include "caches.h"
#include "few_rows.h"
#include "panels.h"
#include "panels_bfloat16.h"
#include "pool.h"

/* ROWS: of the quarter of an L2 cache of 1 MB that packed columns leave, they take 192 KB at most. */
enum { DEPTH = MOST_DEPTH, MOST_COLUMNS = 512, LEAST_COLUMNS = 128, ROWS = 96, ROUNDED_GRAIN = 32 };

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
}

typedef struct {
    int64_t row, row_end, column, column_end;
} Rectangle;

/* Part (row, column) of a grid that has `down` parts in a column and `across` in a row. */
static Rectangle in_grid(int64_t m, int64_t n, int row, int down, int column, int across) {
    Rectangle r;
    part_range(m, TILE_ROWS, row, down, &r.row, &r.row_end);
    part_range(n, PANEL, column, across, &r.column, &r.column_end);
    return r;
}

/* This part's rectangle of an m x n matrix. It depends on m, n and the number of parts alone, so that the parts of a run which
   add up several products in one C never meet. Each part reads its rows of A, and reads and packs its columns of B; for a number
   that takes about as long as ten multiply-adds of float32 each. The grid is the one with the least work for its largest part. */
static Rectangle rectangle_of(int64_t m, int64_t n, int rounded, int part, int parts) {
    const int64_t read = 10 * (rounded ? rounded_speed() : 1), pack = read;
    int best = 1;
    int64_t least_work = INT64_MAX;
    for (int down = 1; down <= parts; down++) {
        if (parts % down) continue;
        const int across = parts / down;
        const Rectangle last = in_grid(m, n, down - 1, down, across - 1, across); /* the largest, but for the edges of C */
        const int64_t rows = (m - last.row + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS, columns = panels_columns(n - last.column);
        const int64_t work = rows * columns + read * rows + (read + pack) * columns;
        if (work < least_work) {
            least_work = work;
            best = down;
        }
    }
    return in_grid(m, n, part % best, best, part / best, parts / best);
}

/* How many columns of B are packed at a time: as many as fill three quarters of the L2 cache; rounded, nine sixteenths of it, since there
   is A in float32 and its rounded rows, and more columns, since A is rounded again for each block of them. */
static int64_t columns_at_once(int64_t depth, int rounded) {
    const int64_t bytes = level2_cache() * (rounded ? 9 : 12) / 16, most = rounded && panels_depth(depth, 1) < depth ? 768 : MOST_COLUMNS;
    const int64_t fitting = bytes / (panels_depth(depth, rounded) * (int64_t)sizeof(float)) / PANEL * PANEL;
    return fitting < LEAST_COLUMNS ? LEAST_COLUMNS : least(fitting, most);
}

static void blocks(const Product *p, Rectangle r) {
    static _Thread_local float packed[DEPTH * MOST_COLUMNS] __attribute__((aligned(64)));
    const Factor *a = &p->a, *b = &p->b;
    const int64_t grain = p->rounded ? ROUNDED_GRAIN : 1, grains = (p->k + grain - 1) / grain;
    const int64_t depths = (p->k + DEPTH - 1) / DEPTH, columns = columns_at_once((p->k + depths - 1) / depths, p->rounded);
    for (int64_t j = r.column; j < r.column_end; j += columns) {
        const int64_t j_end = least(j + columns, r.column_end);
        for (int64_t d = 0; d < depths; d++) { /* blocks of equal depth, or one grain less */
            const int64_t l = grains * d / depths * grain, depth = least(grains * (d + 1) / depths * grain, p->k) - l;
            const float *from = b->data + (b->transposed ? j * b->stride + l : l * b->stride + j);
            if (b->format != FLOAT32) stored_panels_pack(b, l, depth, j, j_end, packed, p->rounded);
            else panels_pack(from, b->stride, b->transposed, depth, j_end - j, packed, p->rounded);
            for (int64_t i = r.row; i < r.row_end; i += ROWS) {
                const int64_t i_end = least(i + ROWS, r.row_end);
                const float *left = a->data + (a->transposed ? l * a->stride + i : i * a->stride + l);
                float *to = p->c + i * p->stride + j;
                const int add = p->add || d > 0;
                panels_multiply(left, a->stride, a->transposed, i_end - i, depth, packed, depth, j_end - j, to, p->stride, add, p->rounded);
                if (d == depths - 1) finish(p, i, i_end, j, j_end);
            }
        }
    }
}

/* A sum over no k is zero. */
static void zeros(const Product *p, Rectangle r) {
    for (int64_t i = r.row; !p->add && i < r.row_end; i++)
        for (int64_t j = r.column; j < r.column_end; j++) p->c[i * p->stride + j] = 0;
}

void product_part(const Product *p, int part, int parts) {
    const Rectangle all = {0, p->m, 0, p->n}, nothing = {0};
    const int by_sgemm = sgemm && !p->rounded && p->b.format == FLOAT32 && !p->in_parts;
    const Rectangle r = !by_sgemm ? rectangle_of(p->m, p->n, p->rounded, part, parts) : part == 0 ? all : nothing;
    if (r.row == r.row_end || r.column == r.column_end) return;
    if (p->k == 0) zeros(p, r);
    else if (by_sgemm) whole(p);
    else if (has_few_rows(p)) few_rows(p, r.row, r.row_end, r.column, r.column_end);
    else return blocks(p, r); /* which finishes each block while it is in the cache */
    finish(p, r.row, r.row_end, r.column, r.column_end);
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
