// One step of a GRU, and of its backward pass, without the products: tinylm/ops/recurrent.py has the formulas.
//
//   product = W_hh h_{t-1}, gates, da, ds (N, 3 H), blocks r, z, n; bias_hh (3 H) or null; s_n, states and their
//   gradients (N, H). Rows are sorted by falling length: the first `running` take part in the step, the others
//   keep their state.
//
// gru_forward: gates hold W_ih x_t + b_ih, which r, z, n replace. gru_backward: dh becomes dh z; the rest of the
// cotangent, product = ds W_hh, is added by the next launch to the first `handed` rows of dh.
// One launch = one step, one thread per hidden unit of a sequence: everything between two matrix products in one
// pass over memory, where the reference makes about a dozen.
#include "sigmoid.cuh"

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
    float* a = gates + first;
    float s[3];
#pragma unroll
    for (int k = 0; k < 3; ++k) s[k] = product[first + k * hidden] + (bias_hh ? bias_hh[unit + k * hidden] : 0.f);
    const float r = sigmoid(a[0] + s[0]), z = sigmoid(a[hidden] + s[1]), n = tanhf(a[2 * hidden] + r * s[2]);
    a[0] = r;
    a[hidden] = z;
    a[2 * hidden] = n;
    s_n[at] = s[2];
    h[at] = n + z * (h_before[at] - n);
}

extern "C" __global__ void gru_backward(const float* __restrict__ gates, const float* __restrict__ s_n, const float* __restrict__ h_before,
                                        const float* __restrict__ dy, const float* __restrict__ product, float* __restrict__ dh,
                                        float* __restrict__ da, float* __restrict__ ds, int handed, int running, int batch, int hidden) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (long long)batch * hidden) return;
    const long long row = at / hidden, first = row * 3 * hidden + at % hidden;
    float *a = da + first, *s = ds + first;
    const float later = dh[at] + (row < handed ? product[at] : 0.f);
    if (row >= running) {
        dh[at] = later;
        a[0] = a[hidden] = a[2 * hidden] = 0.f;
        s[0] = s[hidden] = s[2 * hidden] = 0.f;
        return;
    }
    const float r = gates[first], z = gates[first + hidden], n = gates[first + 2 * hidden], dh_t = later + dy[at];
    const float da_n = dh_t * (1.f - z) * (1.f - n * n), da_r = da_n * s_n[at] * (r - r * r);
    const float da_z = dh_t * (h_before[at] - n) * (z - z * z);
    a[0] = s[0] = da_r;
    a[hidden] = s[hidden] = da_z;
    a[2 * hidden] = da_n;
    s[2 * hidden] = da_n * r;
    dh[at] = dh_t * z;
}
