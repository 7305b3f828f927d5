// One step of an LSTM, and of its backward pass, without the products: tinylm/ops/recurrent.py has the formulas.
//
//   product = W_hh h_{t-1}, gates, dz (N, 4 H), blocks i, f, g, o; states and their gradients (N, H).
//   Rows are sorted by falling length: the first `running` take part in the step, the others keep their state.
//
// lstm_forward: gates hold W_ih x_t + biases, which σ or tanh of it plus the product replaces.
// lstm_backward: dh and dc are the cotangents from the later steps; dc becomes the cotangent for the step before,
// dz goes into the product that gives dh.
// One launch = one step, one thread per hidden unit of a sequence: everything between two matrix products in one
// pass over memory, where the reference makes about a dozen.
#include "sigmoid.cuh"

extern "C" __global__ void lstm_forward(float* __restrict__ gates, const float* __restrict__ product, const float* __restrict__ h_before,
                                        const float* __restrict__ c_before, float* __restrict__ h, float* __restrict__ c, int running,
                                        int batch, int hidden) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (long long)batch * hidden) return;
    const long long row = at / hidden;
    if (row >= running) {
        h[at] = h_before[at];
        c[at] = c_before[at];
        return;
    }
    const long long first = row * 4 * hidden + at % hidden;
    float* z = gates + first;
    const float* p = product + first;
    const float i = sigmoid(z[0] + p[0]), f = sigmoid(z[hidden] + p[hidden]);
    const float g = tanhf(z[2 * hidden] + p[2 * hidden]), o = sigmoid(z[3 * hidden] + p[3 * hidden]);
    z[0] = i;
    z[hidden] = f;
    z[2 * hidden] = g;
    z[3 * hidden] = o;
    c[at] = f * c_before[at] + i * g;
    h[at] = o * tanhf(c[at]);
}

extern "C" __global__ void lstm_backward(const float* __restrict__ gates, const float* __restrict__ c_before, const float* __restrict__ c,
                                         const float* __restrict__ dy, const float* __restrict__ dh, float* __restrict__ dc,
                                         float* __restrict__ dz, int running, int batch, int hidden) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (long long)batch * hidden) return;
    const long long row = at / hidden, first = row * 4 * hidden + at % hidden;
    float* d = dz + first;
    if (row >= running) {
        d[0] = d[hidden] = d[2 * hidden] = d[3 * hidden] = 0.f;
        return;
    }
    const float* y = gates + first;
    const float i = y[0], f = y[hidden], g = y[2 * hidden], o = y[3 * hidden], tanh_c = tanhf(c[at]);
    const float dh_t = dh[at] + dy[at], dc_t = dc[at] + dh_t * o * (1.f - tanh_c * tanh_c);
    d[0] = dc_t * g * (i - i * i);
    d[hidden] = dc_t * c_before[at] * (f - f * f);
    d[2 * hidden] = dc_t * i * (1.f - g * g);
    d[3 * hidden] = dh_t * tanh_c * (o - o * o);
    dc[at] = dc_t * f;
}
