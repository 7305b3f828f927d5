/* One step of Muon on `count` matrices w (m, n) on top of each other, in place, as tinylm/optim/muon.py has it: with g = scale grads,
   v = μ v + (1 - μ) g, X = μ v + (1 - μ) g, X /= ‖X‖ + 1e-7, five times X = (a I + b G + c G²) X with G = X Xᵀ, then
   w = shrink w - rate X.

   If m > n, G = Xᵀ X and X is multiplied from the right, which is the same for the transpose of X. Each product is a run of the
   pool. In it every part takes the same number of whole matrices; each matrix that is left over is shared by all parts. */

#include "pool.h"
#include "products.h"
#include "sums.h"

#include <stdlib.h>

static const float A = 3.4445f, B = -4.7750f, C = 2.0315f;

enum { ITERATIONS = 5 };

typedef struct Step {
    int64_t count, m, n, side; /* side: the shorter one of a matrix, and both of a Gram matrix */
    float *w;
    const float *grads;
    float *v, *x, *next, *gram, *polynomial;
    float *norms; /* of the rows of X, squared; then 1 / (‖X‖ + 1e-7) of its matrix */
    float scale, momentum, rest, shrink, rate;
    void (*multiply)(const struct Step *, int64_t matrix, int part, int parts); /* what a run does with each matrix */
} Step;

/* ---- element by element, some rows per part */

static void directions_part(void *argument, int part, int parts) {
    const Step s = *(const Step *)argument;
    int64_t first, last;
    part_range(s.count * s.m, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        float *v = s.v + row * s.n, *x = s.x + row * s.n;
        const float *grads = s.grads + row * s.n;
#pragma omp simd
        for (int64_t j = 0; j < s.n; j++) {
            float g = s.scale * grads[j], moved = s.momentum * v[j] + s.rest * g;
            v[j] = moved;
            x[j] = s.momentum * moved + s.rest * g;
        }
        s.norms[row] = dot(x, x, s.n);
    }
}

static void normalize_part(void *argument, int part, int parts) {
    const Step s = *(const Step *)argument;
    int64_t first, last;
    part_range(s.count * s.m, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        float *x = s.x + row * s.n, factor = s.norms[row];
#pragma omp simd
        for (int64_t j = 0; j < s.n; j++) x[j] *= factor;
    }
}

static void subtract_part(void *argument, int part, int parts) {
    const Step s = *(const Step *)argument;
    int64_t first, last;
    part_range(s.count * s.m * s.n, 16, part, parts, &first, &last);
#pragma omp simd
    for (int64_t i = first; i < last; i++) s.w[i] = s.shrink * s.w[i] - s.rate * s.x[i];
}

/* ---- products, some matrices per part */

/* A product that is symmetric. Strips of its columns are computed from the diagonal down, which is half the work, and mirrored. */
typedef struct {
    Product lower;
    const float *gram; /* null, or G: then each number y of the product becomes that of a I + b G + c y */
} Symmetric;

static void finish_symmetric(const void *context, int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
    enum { TOGETHER = 8 }; /* rows whose numbers are next to each other in the mirror */
    const Symmetric *s = context;
    const int64_t stride = s->lower.stride;
    float *c = s->lower.c;
    for (int64_t i = row; s->gram && i < row_end; i++) {
        const float *g = s->gram + i * stride;
        float *y = c + i * stride;
#pragma omp simd
        for (int64_t j = column; j < column_end; j++) y[j] = B * g[j] + C * y[j];
        if (column <= i && i < column_end) y[i] += A;
    }
    if (row < s->lower.n) row = s->lower.n; /* the block on the diagonal is computed as a whole */
    for (; row < row_end; row += TOGETHER) {
        int64_t end = row_end - row < TOGETHER ? row_end : row + TOGETHER;
        for (int64_t j = column; j < column_end; j++) {
            for (int64_t i = row; i < end; i++) c[j * stride + i] = c[i * stride + j];
        }
    }
}

/* The rows and columns from `first` on, `width` of the columns. */
static void strip(const Symmetric *whole, int64_t first, int64_t width) {
    Symmetric s = *whole;
    Product *p = &s.lower;
    p->a.data += p->a.transposed ? first : first * p->a.stride;
    p->b.data += p->b.transposed ? first * p->b.stride : first;
    p->c += first * (p->stride + 1);
    p->m -= first;
    p->n = width < p->m ? width : p->m;
    p->finish = finish_symmetric;
    p->context = &s;
    if (s.gram) s.gram += first * (p->stride + 1);
    product_part(p, 0, 1);
}

/* Narrow strips save more of the work above the diagonal, wide ones read the left factor less often. A long strip and a short one
   together are the same work as any other two. The width depends on the matrix alone, and with it whether the last strip has
   few rows, whose sums are in another order. */
static void symmetric_part(Symmetric s, int part, int parts) {
    enum { LEAST = 32, MOST_STRIPS = 16 }; /* enough for 8 parts */
    int64_t width = (s.lower.n + MOST_STRIPS * LEAST - 1) / (MOST_STRIPS * LEAST) * LEAST, strips = (s.lower.n + width - 1) / width;
    for (int64_t i = part; i < (strips + 1) / 2; i += parts) {
        strip(&s, i * width, width);
        if (strips - 1 - i > i) strip(&s, (strips - 1 - i) * width, width);
    }
}

static void gram(const Step *s, int64_t matrix, int part, int parts) {
    const float *x = s->x + matrix * s->m * s->n;
    float *g = s->gram + matrix * s->side * s->side;
    Factor rows = plain(x, s->n), columns = transposed(x, s->n);
    int tall = s->m > s->n;
    Product p = {s->side, s->side, tall ? s->m : s->n, tall ? columns : rows, tall ? rows : columns, g, s->side, 0, 0, 0, 0};
    symmetric_part((Symmetric){p, 0}, part, parts);
}

static void polynomial(const Step *s, int64_t matrix, int part, int parts) {
    int64_t side = s->side, at = matrix * side * side;
    Factor g = plain(s->gram + at, side);
    Product p = {side, side, side, g, g, s->polynomial + at, side, 0, 0, 0, 0};
    symmetric_part((Symmetric){p, g.data}, part, parts);
}

static void next(const Step *s, int64_t matrix, int part, int parts) {
    int64_t at = matrix * s->m * s->n;
    Factor x = plain(s->x + at, s->n), p = plain(s->polynomial + matrix * s->side * s->side, s->side);
    int tall = s->m > s->n;
    Product y = {s->m, s->n, s->side, tall ? x : p, tall ? p : x, s->next + at, s->n, 0, 0, 0, 0};
    product_part(&y, part, parts);
}

static void matrices_part(void *argument, int part, int parts) {
    const Step *s = argument;
    int64_t each = s->count / parts;
    for (int64_t i = part * each; i < (part + 1) * each; i++) s->multiply(s, i, 0, 1);
    for (int64_t i = parts * each; i < s->count; i++) s->multiply(s, i, part, parts);
}

static void iterate(Step *s) {
    static void (*const stages[])(const Step *, int64_t, int, int) = {gram, polynomial, next};
    int64_t operations = s->count * s->m * s->n * s->side;
    for (int i = 0; i < 3; i++) {
        s->multiply = stages[i];
        pool_run(matrices_part, s, operations);
    }
    float *x = s->x;
    s->x = s->next;
    s->next = x;
}

/* rest is 1 - momentum. */
EXPORT int muon(
    int64_t count, int64_t m, int64_t n, float *w, const float *grads, float *v, float scale, float momentum, float rest, float shrink,
    float rate
) {
    int64_t side = m < n ? m : n, size = count * m * n, squares = count * side * side;
    float *memory = malloc((size_t)(2 * size + 2 * squares + count * m) * sizeof(float));
    if (!memory) return NO_MEMORY;
    float *gram_matrices = memory + 2 * size, *norms = gram_matrices + 2 * squares;
    Step s = {
        count, m, n, side, w, grads, v, memory, memory + size, gram_matrices, gram_matrices + squares, norms,
        scale, momentum, rest, shrink, rate, 0,
    };
    pool_run(directions_part, &s, size * 8);
    for (int64_t i = 0; i < count; i++) {
        double sum = 0;
        for (int64_t row = i * m; row < (i + 1) * m; row++) sum += norms[row];
        for (int64_t row = i * m; row < (i + 1) * m; row++) norms[row] = 1 / (sqrtf((float)sum) + 1e-7f);
    }
    pool_run(normalize_part, &s, size);
    for (int i = 0; i < ITERATIONS; i++) iterate(&s);
    pool_run(subtract_part, &s, size * 4);
    free(memory);
    return 0;
}
