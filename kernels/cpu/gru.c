/* A GRU over a whole sequence, as tinylm/ops/recurrence.py has it: with the blocks r, z, n of
   a = W_ih x_t + b_ih and s = W_hh h_{t-1} + b_hh,
   r = σ(a_r + s_r), z = σ(a_z + s_z), n = tanh(a_n + r s_n), h_t = n + z (h_{t-1} - n).

   Forward: x (T, N, in), states (T + 1, N, H) with the initial one in its place -> states, gates (T, N, 3H) with
   r, z, n, and s_n (T, N, H).
   Backward: dy (T, N, H) and dh (N, H), at first the cotangent of the last state -> dh, that of the initial one,
   and the gradients of x, weights and biases. d (T, N, 4H) is room for da_n, da_r, da_z and ds_n: in this order
   da is its first three blocks and ds its last three, and neither needs a copy.
   The order of the work is in sequence.c. */

#include "functions.h"
#include "sequence.h"

#include <stdlib.h>

typedef struct {
    Sizes sizes;
    Recurrent recurrent;
    Product input;
    const float *bias; /* of r, z and n together, then of s_n */
    float *states, *gates, *s_n, *s;
} Forward;

static void prepare_forward(void *argument, int part, int parts) {
    const Forward *f = argument;
    product_share(&f->input, part, parts);
    recurrent_pack_share(&f->sizes, &f->recurrent, part, parts);
    recurrent_single_share(&f->sizes, &f->recurrent, f->states + before(&f->sizes, 0), f->sizes.hidden, f->s, 0, part, parts);
}

static void forward_row(
    int64_t hidden, const float *restrict bias, const float *restrict s, const float *restrict h_before, float *restrict gates,
    float *restrict s_n, float *restrict h
) {
#pragma omp simd
    for (int64_t j = 0; j < hidden; j++) {
        float r = sigmoid_of(gates[j] + bias[j] + s[j]);
        float z = sigmoid_of(gates[hidden + j] + bias[hidden + j] + s[hidden + j]);
        float product = s[2 * hidden + j] + bias[3 * hidden + j];
        float n = tanh_of(gates[2 * hidden + j] + bias[2 * hidden + j] + r * product);
        gates[j] = r;
        gates[hidden + j] = z;
        gates[2 * hidden + j] = n;
        s_n[j] = product;
        h[j] = n + z * (h_before[j] - n);
    }
}

static void forward_steps(void *argument, int part, int parts) {
    const Forward *f = argument;
    const Sizes *z = &f->sizes;
    int64_t first, last, hidden = z->hidden, width = panels_columns(3 * hidden);
    share(z->batch, 1, part, parts, &first, &last);
    for (int64_t i = 0; i < z->steps && first < last; i++) {
        int64_t t = z->reverse ? z->steps - 1 - i : i;
        const float *h_before = f->states + before(z, t);
        float *h = f->states + after(z, t);
        if (z->steps > 1) recurrent_multiply(&f->recurrent, h_before + first * hidden, hidden, last - first, f->s + first * width, 0);
        for (int64_t row = first; row < last; row++) {
            int64_t at = t * z->batch + row;
            forward_row(
                hidden, f->bias, f->s + row * width, h_before + row * hidden, f->gates + at * 3 * hidden, f->s_n + at * hidden,
                h + row * hidden
            );
        }
    }
}

EXPORT int gru_forward(
    int64_t steps, int64_t batch, int64_t inputs, int64_t hidden, int reverse, const float *x, const float *weight_ih,
    const float *weight_hh, const float *bias_ih, const float *bias_hh, float *states, float *gates, float *s_n
) {
    Sizes sizes = {steps, batch, inputs, hidden, 3 * hidden, reverse};
    int64_t packed = recurrent_floats(&sizes, hidden, 3 * hidden), products = batch * panels_columns(3 * hidden);
    float *room = allocate(packed + products + 4 * hidden), *s = room + packed, *bias = s + products;
    if (!room) return 1;
    add_biases(bias_ih, bias_hh, 2 * hidden, bias);
    add_biases(bias_ih ? bias_ih + 2 * hidden : 0, 0, hidden, bias + 2 * hidden);
    add_biases(0, bias_hh ? bias_hh + 2 * hidden : 0, hidden, bias + 3 * hidden);
    Product input = {steps * batch, 3 * hidden, inputs, plain(x, inputs), transposed(weight_ih, inputs), gates, 3 * hidden, 0};
    Forward f = {sizes, {weight_hh, hidden, 3 * hidden, 1, room}, input, bias, states, gates, s_n, s};
    pool_run(prepare_forward, &f);
    pool_run(forward_steps, &f);
    free(room);
    return 0;
}

typedef struct {
    Sizes sizes;
    Recurrent recurrent;
    const float *states, *gates, *s_n, *dy;
    float *dh_final, *dh, *d; /* dh has rows of panels_columns(H) */
} Backward;

static void prepare_backward(void *argument, int part, int parts) {
    const Backward *b = argument;
    recurrent_pack_share(&b->sizes, &b->recurrent, part, parts);
}

static void backward_row(
    int64_t hidden, const float *restrict h_before, const float *restrict gates, const float *restrict s_n, const float *restrict dy,
    float *restrict dh, float *restrict d
) {
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

static void backward_steps(void *argument, int part, int parts) {
    const Backward *b = argument;
    const Sizes *z = &b->sizes;
    int64_t first, last, hidden = z->hidden, width = panels_columns(hidden);
    share(z->batch, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        for (int64_t j = 0; j < width; j++) b->dh[row * width + j] = j < hidden ? b->dh_final[row * hidden + j] : 0;
    }
    for (int64_t i = 0; i < z->steps && first < last; i++) {
        int64_t t = z->reverse ? i : z->steps - 1 - i;
        for (int64_t row = first; row < last; row++) {
            int64_t at = t * z->batch + row;
            backward_row(
                hidden, b->states + before(z, t) + row * hidden, b->gates + at * 3 * hidden, b->s_n + at * hidden, b->dy + at * hidden,
                b->dh + row * width, b->d + at * 4 * hidden
            );
        }
        float *ds = b->d + (t * z->batch + first) * 4 * hidden + hidden;
        if (z->steps > 1) recurrent_multiply(&b->recurrent, ds, 4 * hidden, last - first, b->dh + first * width, 1);
    }
}

static void finish_backward(void *argument, int part, int parts) {
    const Backward *b = argument;
    int64_t first, last, hidden = b->sizes.hidden, width = panels_columns(hidden);
    share(b->sizes.batch, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        for (int64_t j = 0; j < hidden; j++) b->dh_final[row * hidden + j] = b->dh[row * width + j];
    }
}

static void single_backward(void *argument, int part, int parts) {
    const Backward *b = argument;
    recurrent_single_share(&b->sizes, &b->recurrent, b->d + b->sizes.hidden, 4 * b->sizes.hidden, b->dh, 1, part, parts);
}

EXPORT int gru_backward(
    int64_t steps, int64_t batch, int64_t inputs, int64_t hidden, int reverse, const float *x, const float *weight_ih,
    const float *weight_hh, const float *states, const float *gates, const float *s_n, const float *dy, float *dh, float *d, float *dx,
    float *dweight_ih, float *dweight_hh, float *dbias_ih, float *dbias_hh
) {
    Sizes sizes = {steps, batch, inputs, hidden, 3 * hidden, reverse};
    int64_t packed = recurrent_floats(&sizes, 3 * hidden, hidden), all = steps * batch;
    float *room = allocate(packed + batch * panels_columns(hidden));
    if (!room) return 1;
    Backward b = {sizes, {weight_hh, 3 * hidden, hidden, 0, room}, states, gates, s_n, dy, dh, room + packed, d};
    pool_run(prepare_backward, &b);
    pool_run(backward_steps, &b);
    pool_run(single_backward, &b);
    pool_run(finish_backward, &b);
    free(room);

    const float *d_n = d, *d_rz = d + hidden, *ds = d + hidden, *h_before = states + before(&sizes, 0);
    const Product products[] = {
        {all, inputs, 2 * hidden, plain(d_rz, 4 * hidden), plain(weight_ih, inputs), dx, inputs, 0},
        {all, inputs, hidden, plain(d_n, 4 * hidden), plain(weight_ih + 2 * hidden * inputs, inputs), dx, inputs, 1},
        {2 * hidden, inputs, all, transposed(d_rz, 4 * hidden), plain(x, inputs), dweight_ih, inputs, 0},
        {hidden, inputs, all, transposed(d_n, 4 * hidden), plain(x, inputs), dweight_ih + 2 * hidden * inputs, inputs, 0},
        {3 * hidden, hidden, all, transposed(ds, 4 * hidden), plain(h_before, hidden), dweight_hh, hidden, 0},
    };
    const ColumnSums sums[] = {
        {d_rz, all, 2 * hidden, 4 * hidden, dbias_ih},
        {d_n, all, hidden, 4 * hidden, dbias_ih ? dbias_ih + 2 * hidden : 0},
        {ds, all, 3 * hidden, 4 * hidden, dbias_hh},
    };
    products_run(products, 5, sums, 3);
    return 0;
}
