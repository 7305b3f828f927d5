/* A GRU over a whole sequence, as tinylm/ops/recurrent.py has it: with the blocks r, z, n of
   a = W_ih x_t + b_ih and s = W_hh h_{t-1} + b_hh,
   r = σ(a_r + s_r), z = σ(a_z + s_z), n = tanh(a_n + r s_n), h_t = n + z (h_{t-1} - n).

   Forward: x (T, N, in), states (T + 1, N, H) with the initial one in its place -> states, gates (T, N, 3H) with
   r, z, n, and s_n (T, N, H).
   Backward: dy (T, N, H) and dh (N, H), at first the cotangent of the last state -> dh, that of the initial one,
   and the gradients of x, weights and biases. d (T, N, 4H) is workspace for da_n, da_r, da_z and ds_n: in this order
   the first three blocks are da and the last three ds, and neither needs a copy. */

#include "functions.h"
#include "recurrent.h"

#include <stdlib.h>

typedef struct {
    const float *bias; /* of r and z together, of a_n, of s_n */
    float *states, *gates, *s_n;
} Forward;

static void forward_row(const void *layer, const RecurrentSizes *s, int64_t t, int64_t row, float *product) {
    const Forward *f = layer;
    int64_t hidden = s->hidden;
    const float *bias = f->bias, *h_before = f->states + before(s, t, row);
    float *gates = f->gates + place(s, t, row, 3 * hidden), *s_n = f->s_n + place(s, t, row, hidden), *h = f->states + after(s, t, row);
#pragma omp simd
    for (int64_t j = 0; j < hidden; j++) {
        int64_t j_z = hidden + j, j_n = 2 * hidden + j;
        float r = sigmoid_of(gates[j] + bias[j] + product[j]);
        float z = sigmoid_of(gates[j_z] + bias[j_z] + product[j_z]);
        float s_j = product[j_n] + bias[3 * hidden + j];
        float n = tanh_of(gates[j_n] + bias[j_n] + r * s_j);
        gates[j] = r;
        gates[j_z] = z;
        gates[j_n] = n;
        s_n[j] = s_j;
        h[j] = n + z * (h_before[j] - n);
    }
}

EXPORT int gru_forward(
    const RecurrentSizes *s, int rounded, const float *x, const float *weight_ih, const float *weight_hh, const float *bias_ih,
    const float *bias_hh, float *states, float *gates, float *s_n
) {
    int64_t hidden = s->hidden;
    float *bias = malloc((size_t)(4 * hidden + 1) * sizeof(float));
    if (!bias) return NO_MEMORY;
    add_biases(bias_ih, bias_hh, 2 * hidden, bias);
    add_biases(bias_ih ? bias_ih + 2 * hidden : 0, 0, hidden, bias + 2 * hidden);
    add_biases(0, bias_hh ? bias_hh + 2 * hidden : 0, hidden, bias + 3 * hidden);
    Forward f = {bias, states, gates, s_n};
    int failed = sequence_forward(s, rounded, 3, x, weight_ih, weight_hh, gates, states, forward_row, &f);
    free(bias);
    return failed;
}

typedef struct {
    const float *states, *gates, *s_n, *dy;
    float *d;
} Backward;

static void backward_row(const void *layer, const RecurrentSizes *s, int64_t t, int64_t row, float *dh) {
    const Backward *b = layer;
    int64_t hidden = s->hidden;
    const float *h_before = b->states + before(s, t, row), *gates = b->gates + place(s, t, row, 3 * hidden);
    const float *s_n = b->s_n + place(s, t, row, hidden), *dy = b->dy + place(s, t, row, hidden);
    float *d = b->d + place(s, t, row, 4 * hidden);
#pragma omp simd
    for (int64_t j = 0; j < hidden; j++) {
        float r = gates[j], z = gates[hidden + j], n = gates[2 * hidden + j], dh_j = dh[j] + dy[j];
        float da_n = dh_j * (1 - z) * (1 - n * n);
        d[j] = da_n;
        d[hidden + j] = da_n * s_n[j] * (r - r * r);
        d[2 * hidden + j] = dh_j * (h_before[j] - n) * (z - z * z);
        d[3 * hidden + j] = da_n * r;
        dh[j] = dh_j * z;
    }
}

EXPORT int gru_backward(
    const RecurrentSizes *s, int rounded, const float *x, const float *weight_ih, const float *weight_hh, const float *states, const float *gates,
    const float *s_n, const float *dy, float *dh, float *d, float *dx, float *dweight_ih, float *dweight_hh, float *dbias_ih,
    float *dbias_hh
) {
    int64_t hidden = s->hidden, inputs = s->inputs, all = s->steps * s->batch, stride = 4 * hidden, two = 2 * hidden;
    const float *d_n = d, *d_rz = d + hidden, *ds = d + hidden, *h_before = states + before(s, 0, 0);
    Backward b = {states, gates, s_n, dy, d};
    if (sequence_backward(s, rounded, 3, weight_hh, ds, stride, 1, dh, backward_row, &b)) return NO_MEMORY;
    const Product products[] = {
        {all, inputs, two, plain(d_rz, stride), plain(weight_ih, inputs), dx, inputs, 0, rounded},
        {all, inputs, hidden, plain(d_n, stride), plain(weight_ih + two * inputs, inputs), dx, inputs, 1, rounded},
        {two, inputs, all, transposed(d_rz, stride), plain(x, inputs), dweight_ih, inputs, 0, rounded},
        {hidden, inputs, all, transposed(d_n, stride), plain(x, inputs), dweight_ih + two * inputs, inputs, 0, rounded},
        {3 * hidden, hidden, all, transposed(ds, stride), plain(h_before, hidden), dweight_hh, hidden, 0, rounded},
    };
    const ColumnSums sums[] = {
        {d_rz, all, two, stride, dbias_ih},
        {d_n, all, hidden, stride, dbias_ih ? dbias_ih + two : 0},
        {ds, all, 3 * hidden, stride, dbias_hh},
    };
    products_run(products, 5, sums, 3);
    return 0;
}
