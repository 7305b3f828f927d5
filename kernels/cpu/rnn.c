/* An Elman network over a whole sequence, as tinylm/ops/recurrent.py has it:
   h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), where φ is tanh, relu or σ.

   Forward: x (T, N, in), states (T + 1, N, H) with the initial one in its place -> states; inputs (T, N, H) is workspace
   for x W_ihᵀ.
   Backward: dy (T, N, H) and dh (N, H), at first the cotangent of the last state -> dh, that of the initial one,
   and the gradients of x, weights and biases, whose two biases have the same; d (T, N, H) is workspace for dz. */

#include "activations.h"
#include "functions.h"
#include "recurrent.h"

#include <stdlib.h>

typedef struct {
    const float *bias, *inputs;
    float *states;
    int nonlinearity;
} Forward;

static void forward_row(const void *layer, const RecurrentSizes *s, int64_t t, int64_t row, float *product) {
    const Forward *f = layer;
    int64_t hidden = s->hidden;
    const float *bias = f->bias, *input = f->inputs + place(s, t, row, hidden);
    float *h = f->states + after(s, t, row);
    switch (f->nonlinearity) {
    case TANH:
#pragma omp simd
        for (int64_t j = 0; j < hidden; j++) h[j] = tanh_of(input[j] + bias[j] + product[j]);
        break;
    case RELU:
#pragma omp simd
        for (int64_t j = 0; j < hidden; j++) {
            float z = input[j] + bias[j] + product[j];
            h[j] = z < 0 ? 0 : z;
        }
        break;
    case SIGMOID:
#pragma omp simd
        for (int64_t j = 0; j < hidden; j++) h[j] = sigmoid_of(input[j] + bias[j] + product[j]);
        break;
    }
}

EXPORT int rnn_forward(
    const RecurrentSizes *s, int rounded, const float *x, const float *weight_ih, const float *weight_hh, const float *bias_ih,
    const float *bias_hh, int nonlinearity, float *states, float *inputs
) {
    int64_t hidden = s->hidden;
    float *bias = malloc((size_t)(hidden + 1) * sizeof(float));
    if (!bias) return NO_MEMORY;
    add_biases(bias_ih, bias_hh, hidden, bias);
    Forward f = {bias, inputs, states, nonlinearity};
    int failed = sequence_forward(s, rounded, 1, x, weight_ih, weight_hh, inputs, states, forward_row, &f);
    free(bias);
    return failed;
}

typedef struct {
    const float *states, *dy;
    float *d;
    int nonlinearity;
} Backward;

static void backward_row(const void *layer, const RecurrentSizes *s, int64_t t, int64_t row, float *dh) {
    const Backward *b = layer;
    int64_t hidden = s->hidden;
    const float *h = b->states + after(s, t, row), *dy = b->dy + place(s, t, row, hidden);
    float *d = b->d + place(s, t, row, hidden);
    switch (b->nonlinearity) {
    case TANH:
#pragma omp simd
        for (int64_t j = 0; j < hidden; j++) d[j] = (dh[j] + dy[j]) * (1 - h[j] * h[j]);
        break;
    case RELU:
#pragma omp simd
        for (int64_t j = 0; j < hidden; j++) d[j] = (dh[j] + dy[j]) * (h[j] > 0 ? 1.0f : 0.0f);
        break;
    case SIGMOID:
#pragma omp simd
        for (int64_t j = 0; j < hidden; j++) d[j] = (dh[j] + dy[j]) * (h[j] - h[j] * h[j]);
        break;
    }
}

EXPORT int rnn_backward(
    const RecurrentSizes *s, int rounded, const float *x, const float *weight_ih, const float *weight_hh, int nonlinearity, const float *states,
    const float *dy, float *dh, float *d, float *dx, float *dweight_ih, float *dweight_hh, float *dbias_ih, float *dbias_hh
) {
    int64_t hidden = s->hidden, inputs = s->inputs, all = s->steps * s->batch;
    Backward b = {states, dy, d, nonlinearity};
    if (sequence_backward(s, rounded, 1, weight_hh, d, hidden, 0, dh, backward_row, &b)) return NO_MEMORY;
    const Product products[] = {
        {all, inputs, hidden, plain(d, hidden), plain(weight_ih, inputs), dx, inputs, 0, rounded},
        {hidden, inputs, all, transposed(d, hidden), plain(x, inputs), dweight_ih, inputs, 0, rounded},
        {hidden, hidden, all, transposed(d, hidden), plain(states + before(s, 0, 0), hidden), dweight_hh, hidden, 0, rounded},
    };
    const ColumnSums sums[] = {{d, all, hidden, hidden, dbias_ih}, {d, all, hidden, hidden, dbias_hh}};
    products_run(products, 3, sums, 2);
    return 0;
}
