// A recurrent layer, h_t = φ(z_t + W_hh h_{t-1}), and its backward pass: one step without its product, or all steps in one launch.
//
//   z, h_before, h, dy, dh, dz (N, H), rows sorted by falling length; the first `running` elements take part in
//   the step, the others keep their state. φ: tanh, max(0, .) or σ.
//
// rnn_forward: h holds the product W_hh h_{t-1}, then φ(z + h). rnn_backward: dz = (dh + dy) φ'(z), from h.
// One launch = one step, one thread per element: a step is a matrix product and this launch, where the reference
// launches an addition, an activation and a copy of the states that do not change.
//
// rnn_sequence_forward, rnn_sequence_backward: z, h_before, h, dy, dz (T, N, H), dh (N, H); recurrent.cuh has the rest.
#include "activations.cuh"
#include "sigmoid.cuh"
#include "bfloat16.cuh"
#include "reductions.cuh"
#include "recurrent.cuh"

__device__ float activated(float z, int nonlinearity) {
    if (nonlinearity == TANH) return tanhf(z);
    if (nonlinearity == RELU) return z < 0.f ? 0.f : z;  // unlike fmaxf: NaN stays NaN
    return sigmoid(z);
}

__device__ float slope(float h, int nonlinearity) {
    if (nonlinearity == TANH) return 1.f - h * h;
    if (nonlinearity == RELU) return h > 0.f ? 1.f : 0.f;
    return h - h * h;
}

extern "C" __global__ void rnn_forward(const float* __restrict__ z, const float* __restrict__ h_before, float* __restrict__ h,
                                       long long running, long long size, int nonlinearity) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) h[i] = i < running ? activated(z[i] + h[i], nonlinearity) : h_before[i];
}

extern "C" __global__ void rnn_backward(const float* __restrict__ h, const float* __restrict__ dy, const float* __restrict__ dh,
                                        float* __restrict__ dz, long long running, long long size, int nonlinearity) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) dz[i] = i < running ? (dh[i] + dy[i]) * slope(h[i], nonlinearity) : 0.f;
}

extern "C" __global__ void __launch_bounds__(256) rnn_sequence_forward(
    const float* __restrict__ w_hh, const float* __restrict__ z, const float* h_before, float* h, const bool* __restrict__ running,
    unsigned int* arrived, int steps, int batch, int hidden, int units, int tile, bool reverse, bool rounded, int nonlinearity) {
    extern __shared__ float memory[];
    const Sequence s = {running, arrived, steps, batch, hidden, units, tile, reverse, rounded};
    forward_steps<1>(s, w_hh, h_before, memory, [&](long long row, int unit, bool runs, const float* p, int) {
        const long long at = row * hidden + unit;
        h[at] = runs ? activated(z[at] + p[0], nonlinearity) : h_before[at];
    });
}

extern "C" __global__ void __launch_bounds__(256) rnn_sequence_backward(
    const float* __restrict__ w_hh, const float* __restrict__ h, const float* __restrict__ dy, float* dh, float* dz,
    const bool* __restrict__ running, unsigned int* arrived, int steps, int batch, int hidden, int units, int tile, bool reverse,
    bool rounded, int nonlinearity) {
    extern __shared__ float memory[];
    const Sequence s = {running, arrived, steps, batch, hidden, units, tile, reverse, rounded};
    backward_steps<1>(s, w_hh, dz, dh, memory, [&](long long row, int unit, bool runs, float& dh_t) {
        const long long at = row * hidden + unit;
        dz[at] = runs ? (dh_t + dy[at]) * slope(h[at], nonlinearity) : 0.f;
        if (runs) dh_t = 0.f;
    });
}
