/* The order of the work that all recurrent kernels have in common: see recurrent.c. */
#ifndef TINYLM_RECURRENT_H
#define TINYLM_RECURRENT_H

#include "pool.h"
#include "products.h"

/* The sizes of a recurrent layer: x (steps, batch, inputs), states (batch, hidden). At step t the first running[t] rows of
   the batch run, or all of them if running is null; the states and gradients of the others are left as they are. */
typedef struct {
    int64_t steps, batch, inputs, hidden, reverse;
    const int64_t *running;
} RecurrentSizes;

/* The offset of row `row` of step t in an array (steps, batch, columns). */
static inline int64_t place(const RecurrentSizes *s, int64_t t, int64_t row, int64_t columns) { return (t * s->batch + row) * columns; }

/* The offset in states (steps + 1, batch, hidden) of the state before step t, and of the state after it. */
static inline int64_t before(const RecurrentSizes *s, int64_t t, int64_t row) { return place(s, t + (s->reverse ? 1 : 0), row, s->hidden); }
static inline int64_t after(const RecurrentSizes *s, int64_t t, int64_t row) { return place(s, t + (s->reverse ? 0 : 1), row, s->hidden); }

/* What a layer does at step t for one row of the batch. product is that row of h_{t-1} W_hhᵀ in the forward pass, and of dh as
   the later steps have left it in the backward pass. */
typedef void Row(const void *layer, const RecurrentSizes *s, int64_t t, int64_t row, float *product);

/* inputs (steps, batch, blocks H) = x W_ihᵀ; then `forward` for each row, step by step. Returns 0 or NO_MEMORY. */
int sequence_forward(
    const RecurrentSizes *s, int rounded, int64_t blocks, const float *x, const float *weight_ih, const float *weight_hh, float *inputs,
    const float *states, Row *forward, const void *layer
);

/* From the last step to the first: `backward` for each row, then dh = ds W_hh, or dh += ds W_hh with add, where ds are blocks H
   columns of an array (steps, batch, stride). dh (batch, H) is the cotangent of the last state at the beginning, and that of
   the initial state at the end. Returns 0 or NO_MEMORY. */
int sequence_backward(
    const RecurrentSizes *s, int rounded, int64_t blocks, const float *weight_hh, const float *ds, int64_t stride, int add, float *dh, Row *backward,
    const void *layer
);

/* sum = a + b; null stands for zeros. */
void add_biases(const float *a, const float *b, int64_t n, float *sum);

#endif
