/* What the recurrent kernels share, the order of the work: see sequence.c. */
#ifndef TINYLM_SEQUENCE_H
#define TINYLM_SEQUENCE_H

#include "pool.h"
#include "products.h"

/* The sizes of a recurrent layer: x (steps, batch, inputs), states (batch, hidden). At step t the first running[t] rows of
   the batch run, all where it is null; the others' states and gradients are left as they are. */
typedef struct {
    int64_t steps, batch, inputs, hidden;
    int reverse;
    const int64_t *running;
} Sizes;

/* Where row `row` of step t begins in an array (steps, batch, columns). */
static inline int64_t place(const Sizes *s, int64_t t, int64_t row, int64_t columns) { return (t * s->batch + row) * columns; }

/* The same in states (steps + 1, batch, hidden): what a step leaves is what the next one finds. */
static inline int64_t before(const Sizes *s, int64_t t, int64_t row) { return place(s, t + (s->reverse ? 1 : 0), row, s->hidden); }
static inline int64_t after(const Sizes *s, int64_t t, int64_t row) { return place(s, t + (s->reverse ? 0 : 1), row, s->hidden); }

/* What a layer does at step t for one row of the batch. product: forward that row of h_{t-1} W_hhᵀ; backward that
   of dh, which later steps hand back. */
typedef void Row(const void *layer, const Sizes *s, int64_t t, int64_t row, float *product);

/* inputs (steps, batch, blocks H) = x W_ihᵀ, and then, step by step, `forward` for each row. Not 0: too little memory. */
int sequence_forward(
    const Sizes *s, int64_t blocks, const float *x, const float *weight_ih, const float *weight_hh, float *inputs, const float *states,
    Row *forward, const void *layer
);

/* Against the order of the steps: `backward` for each row, then dh = ds W_hh, or dh += ds W_hh, where ds are blocks H
   columns of an array (steps, batch, stride). dh (batch, H) is at first the last state's cotangent, in the end the
   initial one's. Not 0: too little memory. */
int sequence_backward(
    const Sizes *s, int64_t blocks, const float *weight_hh, const float *ds, int64_t stride, int add, float *dh, Row *backward,
    const void *layer
);

/* sum = a + b, either of which may be null for zeros. */
void add_biases(const float *a, const float *b, int64_t n, float *sum);

#endif
