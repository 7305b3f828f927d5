// An LSTM and its backward pass, one step without its product or all steps in one launch: tinylm/ops/recurrent.py has the formulas.
//
//   product = W_hh h_{t-1}, gates, dz (N, 4 H), blocks i, f, g, o; states and their gradients (N, H).
//   Rows are sorted by falling length: the first `running` take part in the step, the others keep their state.
//
// lstm_forward: gates hold W_ih x_t + biases, which σ or tanh of it plus the product replaces.
// lstm_backward: dh and dc are the cotangents from the later steps; dc becomes the cotangent for the step before,
// dz goes into the product that gives dh.
// One launch = one step, one thread per hidden unit of a sequence: everything between two matrix products in one
// pass over memory, where the reference makes about a dozen.
//
// lstm_sequence_forward, lstm_sequence_backward: gates, dz (T, N, 4 H), states and dy (T, N, H), dh, dc (N, H); recurrent.cuh has the rest.
#include "sigmoid.cuh"
#include "bfloat16.cuh"
#include "reductions.cuh"
#include "recurrent.cuh"

// z: W_ih x_t + biases of the unit's gates, `hidden` apart, which become i, f, g, o; p: W_hh h_{t-1} of them, `next` apart.
__device__ __forceinline__ void cell(float* z, int hidden, const float* p, int next, float c_before, float& c, float& h) {
    const float i = sigmoid(z[0] + p[0]), f = sigmoid(z[hidden] + p[next]);
    const float g = tanhf(z[2 * hidden] + p[2 * next]), o = sigmoid(z[3 * hidden] + p[3 * next]);
    z[0] = i;
    z[hidden] = f;
    z[2 * hidden] = g;
    z[3 * hidden] = o;
    c = f * c_before + i * g;
    h = o * tanhf(c);
}

// y: i, f, g, o; dh_t: the cotangent of h_t, dy_t included; dc: that of c_t from the later steps, which becomes that of c_{t-1}.
__device__ __forceinline__ void cell_backward(const float* y, float* d, int hidden, float c_before, float c, float dh_t, float& dc) {
    const float i = y[0], f = y[hidden], g = y[2 * hidden], o = y[3 * hidden], tanh_c = tanhf(c);
    const float dc_t = dc + dh_t * o * (1.f - tanh_c * tanh_c);
    d[0] = dc_t * g * (i - i * i);
    d[hidden] = dc_t * c_before * (f - f * f);
    d[2 * hidden] = dc_t * i * (1.f - g * g);
    d[3 * hidden] = dh_t * tanh_c * (o - o * o);
    dc = dc_t * f;
}

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
    cell(gates + first, hidden, product + first, hidden, c_before[at], c[at], h[at]);
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
    cell_backward(gates + first, d, hidden, c_before[at], c[at], dh[at] + dy[at], dc[at]);
}

extern "C" __global__ void __launch_bounds__(256) lstm_sequence_forward(
    const float* __restrict__ w_hh, float* __restrict__ gates, const float* h_before, const float* c_before, float* h, float* c,
    const bool* __restrict__ running, unsigned int* arrived, int steps, int batch, int hidden, int units, int tile, bool reverse,
    bool rounded) {
    extern __shared__ float memory[];
    const Sequence s = {running, arrived, steps, batch, hidden, units, tile, reverse, rounded};
    forward_steps<4>(s, w_hh, h_before, memory, [&](long long row, int unit, bool runs, const float* p, int next) {
        const long long at = row * hidden + unit;
        if (runs) {
            cell(gates + row * 4 * hidden + unit, hidden, p, next, c_before[at], c[at], h[at]);
        } else {
            h[at] = h_before[at];
            c[at] = c_before[at];
        }
    });
}

extern "C" __global__ void __launch_bounds__(256) lstm_sequence_backward(
    const float* __restrict__ w_hh, const float* __restrict__ gates, const float* __restrict__ c_before, const float* __restrict__ c,
    const float* __restrict__ dy, float* dh, float* __restrict__ dc, float* dz, const bool* __restrict__ running, unsigned int* arrived,
    int steps, int batch, int hidden, int units, int tile, bool reverse, bool rounded) {
    extern __shared__ float memory[];
    const Sequence s = {running, arrived, steps, batch, hidden, units, tile, reverse, rounded};
    backward_steps<4>(s, w_hh, dz, dh, memory, [&](long long row, int unit, bool runs, float& dh_t) {
        const long long at = row * hidden + unit, first = row * 4 * hidden + unit;
        float* d = dz + first;
        if (!runs) {
            d[0] = d[hidden] = d[2 * hidden] = d[3 * hidden] = 0.f;
            return;
        }
        cell_backward(gates + first, d, hidden, c_before[at], c[at], dh_t + dy[at], dc[row % batch * hidden + unit]);
        dh_t = 0.f;
    });
}
