// A GRU and its backward pass, one step without its product or all steps in one launch: tinylm/ops/recurrent.py has the formulas.
//
//   product = W_hh h_{t-1}, gates, da, ds (N, 3 H), blocks r, z, n; bias_hh (3 H) or null; s_n, states and their
//   gradients (N, H). Rows are sorted by falling length: the first `running` take part in the step, the others
//   keep their state.
//
// gru_forward: gates hold W_ih x_t + b_ih, which r, z, n replace. gru_backward: dh becomes dh z; the rest of the
// cotangent, product = ds W_hh, is added by the next launch to the first `handed` rows of dh.
// One launch = one step, one thread per hidden unit of a sequence: everything between two matrix products in one
// pass over memory, where the reference makes about a dozen.
//
// gru_sequence_forward, gru_sequence_backward: gates, da, ds (T, N, 3 H), states, s_n and dy (T, N, H), dh (N, H); recurrent.cuh
// has the rest.
#include "sigmoid.cuh"
#include "bfloat16.cuh"
#include "reductions.cuh"
#include "recurrent.cuh"

// a: W_ih x_t + b_ih of the unit's gates, `hidden` apart, which become r, z, n; p: W_hh h_{t-1}, `next` apart; bias: b_hh or null,
// `hidden` apart.
__device__ __forceinline__ void cell(float* a, int hidden, const float* p, int next, const float* bias, float h_before, float& s_n,
                                     float& h) {
    float s[3];
#pragma unroll
    for (int k = 0; k < 3; ++k) s[k] = p[k * next] + (bias ? bias[k * hidden] : 0.f);
    const float r = sigmoid(a[0] + s[0]), z = sigmoid(a[hidden] + s[1]), n = tanhf(a[2 * hidden] + r * s[2]);
    a[0] = r;
    a[hidden] = z;
    a[2 * hidden] = n;
    s_n = s[2];
    h = n + z * (h_before - n);
}

// y: r, z, n; dh_t: the cotangent of h_t, dy_t included; dh becomes the part of that of h_{t-1} that does not pass through W_hh.
__device__ __forceinline__ void cell_backward(const float* y, float* a, float* s, int hidden, float s_n, float h_before, float dh_t,
                                              float& dh) {
    const float r = y[0], z = y[hidden], n = y[2 * hidden];
    const float da_n = dh_t * (1.f - z) * (1.f - n * n), da_r = da_n * s_n * (r - r * r);
    const float da_z = dh_t * (h_before - n) * (z - z * z);
    a[0] = s[0] = da_r;
    a[hidden] = s[hidden] = da_z;
    a[2 * hidden] = da_n;
    s[2 * hidden] = da_n * r;
    dh = dh_t * z;
}

__device__ __forceinline__ void no_gradient(float* a, float* s, int hidden) {
    a[0] = a[hidden] = a[2 * hidden] = 0.f;
    s[0] = s[hidden] = s[2 * hidden] = 0.f;
}

extern "C" __global__ void gru_forward(float* __restrict__ gates, const float* __restrict__ product, const float* __restrict__ bias_hh,
                                       const float* __restrict__ h_before, float* __restrict__ s_n, float* __restrict__ h, int running,
                                       int batch, int hidden) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (long long)batch * hidden) return;
    const long long row = at / hidden;
    const int unit = at % hidden;
    if (row >= running) {
        h[at] = h_before[at];
        return;
    }
    const long long first = row * 3 * hidden + unit;
    cell(gates + first, hidden, product + first, hidden, bias_hh ? bias_hh + unit : nullptr, h_before[at], s_n[at], h[at]);
}

extern "C" __global__ void gru_backward(const float* __restrict__ gates, const float* __restrict__ s_n, const float* __restrict__ h_before,
                                        const float* __restrict__ dy, const float* __restrict__ product, float* __restrict__ dh,
                                        float* __restrict__ da, float* __restrict__ ds, int handed, int running, int batch, int hidden) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (long long)batch * hidden) return;
    const long long row = at / hidden, first = row * 3 * hidden + at % hidden;
    const float later = dh[at] + (row < handed ? product[at] : 0.f);
    if (row >= running) {
        dh[at] = later;
        no_gradient(da + first, ds + first, hidden);
        return;
    }
    cell_backward(gates + first, da + first, ds + first, hidden, s_n[at], h_before[at], later + dy[at], dh[at]);
}

extern "C" __global__ void __launch_bounds__(256) gru_sequence_forward(
    const float* __restrict__ w_hh, float* __restrict__ gates, const float* __restrict__ bias_hh, const float* h_before,
    float* __restrict__ s_n, float* h, const bool* __restrict__ running, unsigned int* arrived, int steps, int batch, int hidden,
    int units, int tile, bool reverse, bool rounded) {
    extern __shared__ float memory[];
    const Sequence s = {running, arrived, steps, batch, hidden, units, tile, reverse, rounded};
    forward_steps<3>(s, w_hh, h_before, memory, [&](long long row, int unit, bool runs, const float* p, int next) {
        const long long at = row * hidden + unit;
        if (runs)
            cell(gates + row * 3 * hidden + unit, hidden, p, next, bias_hh ? bias_hh + unit : nullptr, h_before[at], s_n[at], h[at]);
        else
            h[at] = h_before[at];
    });
}

extern "C" __global__ void __launch_bounds__(256) gru_sequence_backward(
    const float* __restrict__ w_hh, const float* __restrict__ gates, const float* __restrict__ s_n, const float* __restrict__ h_before,
    const float* __restrict__ dy, float* dh, float* __restrict__ da, float* ds, const bool* __restrict__ running, unsigned int* arrived,
    int steps, int batch, int hidden, int units, int tile, bool reverse, bool rounded) {
    extern __shared__ float memory[];
    const Sequence s = {running, arrived, steps, batch, hidden, units, tile, reverse, rounded};
    backward_steps<3>(s, w_hh, ds, dh, memory, [&](long long row, int unit, bool runs, float& dh_t) {
        const long long at = row * hidden + unit, first = row * 3 * hidden + unit;
        if (runs)
            cell_backward(gates + first, da + first, ds + first, hidden, s_n[at], h_before[at], dh_t + dy[at], dh_t);
        else
            no_gradient(da + first, ds + first, hidden);
    });
}
