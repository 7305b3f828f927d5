/* An LSTM over a whole sequence, as tinylm/ops/recurrent.py has it: with i, f, o = σ and g = tanh of the blocks
   i, f, g, o of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh,  c_t = f c_{t-1} + i g,  h_t = o tanh c_t.

   Forward: x (T, N, in), states and cells (T + 1, N, H) with the initial ones in their place -> states, cells and
   gates (T, N, 4H) with i, f, g, o.
   Backward: dy (T, N, H), dh and dc (N, H), at first the cotangents of the last states -> dh and dc, those of the
   initial ones, and the gradients of x, weights and biases, whose two biases have the same; d (T, N, 4H) is workspace for
   the gradients of the blocks. */

#include "functions.h"
#include "recurrent.h"

#include <stdlib.h>

typedef struct {
    const float *bias;
    float *states, *cells, *gates;
} Forward;

static void forward_row(const void *layer, const RecurrentSizes *s, int64_t t, int64_t row, float *product) {
    const Forward *layer_ = layer;
    int64_t hidden = s->hidden;
    const float *bias = layer_->bias, *c_before = layer_->cells + before(s, t, row);
    float *gates = layer_->gates + place(s, t, row, 4 * hidden), *c = layer_->cells + after(s, t, row);
    float *h = layer_->states + after(s, t, row);
#pragma omp simd
    for (int64_t j = 0; j < hidden; j++) {
        int64_t j_f = hidden + j, j_g = 2 * hidden + j, j_o = 3 * hidden + j;
        float i = sigmoid_of(gates[j] + bias[j] + product[j]);
        float f = sigmoid_of(gates[j_f] + bias[j_f] + product[j_f]);
        float g = tanh_of(gates[j_g] + bias[j_g] + product[j_g]);
        float o = sigmoid_of(gates[j_o] + bias[j_o] + product[j_o]);
        float c_j = f * c_before[j] + i * g;
        gates[j] = i;
        gates[j_f] = f;
        gates[j_g] = g;
        gates[j_o] = o;
        c[j] = c_j;
        h[j] = o * tanh_of(c_j);
    }
}

EXPORT int lstm_forward(
    const RecurrentSizes *s, int rounded, const float *x, const float *weight_ih, const float *weight_hh, const float *bias_ih,
    const float *bias_hh, float *states, float *cells, float *gates
) {
    int64_t hidden = s->hidden;
    float *bias = malloc((size_t)(4 * hidden + 1) * sizeof(float));
    if (!bias) return NO_MEMORY;
    add_biases(bias_ih, bias_hh, 4 * hidden, bias);
    Forward f = {bias, states, cells, gates};
    int failed = sequence_forward(s, rounded, 4, x, weight_ih, weight_hh, gates, states, forward_row, &f);
    free(bias);
    return failed;
}

typedef struct {
    const float *cells, *gates, *dy;
    float *dc, *d;
} Backward;

static void backward_row(const void *layer, const RecurrentSizes *s, int64_t t, int64_t row, float *dh) {
    const Backward *b = layer;
    int64_t hidden = s->hidden;
    const float *c_before = b->cells + before(s, t, row), *c = b->cells + after(s, t, row);
    const float *gates = b->gates + place(s, t, row, 4 * hidden), *dy = b->dy + place(s, t, row, hidden);
    float *dc = b->dc + row * hidden, *d = b->d + place(s, t, row, 4 * hidden);
#pragma omp simd
    for (int64_t j = 0; j < hidden; j++) {
        float i = gates[j], f = gates[hidden + j], g = gates[2 * hidden + j], o = gates[3 * hidden + j];
        float dh_j = dh[j] + dy[j], y = tanh_of(c[j]); /* computed again, which saves an array (T, N, H) */
        float dc_j = dc[j] + dh_j * o * (1 - y * y);
        d[j] = dc_j * g * (i - i * i);
        d[hidden + j] = dc_j * c_before[j] * (f - f * f);
        d[2 * hidden + j] = dc_j * i * (1 - g * g);
        d[3 * hidden + j] = dh_j * y * (o - o * o);
        dc[j] = dc_j * f;
    }
}

EXPORT int lstm_backward(
    const RecurrentSizes *s, int rounded, const float *x, const float *weight_ih, const float *weight_hh, const float *states, const float *cells,
    const float *gates, const float *dy, float *dh, float *dc, float *d, float *dx, float *dweight_ih, float *dweight_hh,
    float *dbias_ih, float *dbias_hh
) {
    int64_t hidden = s->hidden, inputs = s->inputs, all = s->steps * s->batch, rows = 4 * hidden;
    Backward b = {cells, gates, dy, dc, d};
    if (sequence_backward(s, rounded, 4, weight_hh, d, rows, 0, dh, backward_row, &b)) return NO_MEMORY;
    const Product products[] = {
        {all, inputs, rows, plain(d, rows), plain(weight_ih, inputs), dx, inputs, 0, rounded},
        {rows, inputs, all, transposed(d, rows), plain(x, inputs), dweight_ih, inputs, 0, rounded},
        {rows, hidden, all, transposed(d, rows), plain(states + before(s, 0, 0), hidden), dweight_hh, hidden, 0, rounded},
    };
    const ColumnSums sums[] = {{d, all, rows, rows, dbias_ih}, {d, all, rows, rows, dbias_hh}};
    products_run(products, 3, sums, 2);
    return 0;
}
