/* What the recurrent kernels share: see sequence.c. */
#ifndef TINYLM_SEQUENCE_H
#define TINYLM_SEQUENCE_H

#include "panels.h"
#include "pool.h"
#include "products.h"

/* The sizes of a recurrent layer: x (steps, batch, inputs), weight_ih (rows, inputs), weight_hh (rows, hidden). */
typedef struct {
    int64_t steps, batch, inputs, hidden, rows;
    int reverse;
} Sizes;

/* States are (steps + 1, batch, hidden): what a step leaves is what the next one finds. */
static inline int64_t before(const Sizes *s, int64_t t) { return (t + (s->reverse ? 1 : 0)) * s->batch * s->hidden; }
static inline int64_t after(const Sizes *s, int64_t t) { return (t + (s->reverse ? 0 : 1)) * s->batch * s->hidden; }

/* The products of one sequence with a matrix B (k, n): each step multiplies rows of `a` by it. For more than
   one step B is packed; for a single one the whole batch is one product. */
typedef struct {
    const float *b;
    int64_t k, n;
    int transposed; /* B is stored as (n, k) */
    float *packed;
} Recurrent;

/* Floats to be allocated for `packed`. */
int64_t recurrent_floats(const Sizes *s, int64_t k, int64_t n);

/* The part's share of packing, where there is any. */
void recurrent_pack_share(const Sizes *s, const Recurrent *r, int part, int parts);

/* The part's share of the only step's product, where there is only one; c has rows of panels_columns(n). */
void recurrent_single_share(
    const Sizes *s, const Recurrent *r, const float *a, int64_t a_stride, float *c, int add, int part, int parts
);

/* Rows of one of several steps: a (rows, k), c (rows, panels_columns(n)). */
static inline void recurrent_multiply(const Recurrent *r, const float *a, int64_t a_stride, int64_t rows, float *c, int add) {
    panels_multiply(a, a_stride, rows, r->k, r->packed, r->n, c, panels_columns(r->n), add);
}

/* Aligned floats, to be freed with free, or null. */
float *allocate(int64_t floats);

/* a + b, either of which may be null for zeros. */
void add_biases(const float *a, const float *b, int64_t n, float *sum);

#endif
