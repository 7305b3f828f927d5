// One step of a recurrent layer, h_t = φ(z_t + W_hh h_{t-1}), and of its backward pass, without the products.
//
//   z, h_before, h, dy, dh, dz (N, H), rows sorted by falling length; the first `running` elements take part in
//   the step, the others keep their state. φ: tanh, max(0, .) or σ.
//
// rnn_forward: h holds the product W_hh h_{t-1}, then φ(z + h). rnn_backward: dz = (dh + dy) φ'(z), from h.
// One launch = one step, one thread per element: a step is a matrix product and this launch, where the reference
// launches an addition, an activation and a copy of the states that do not change.
#include "activations.cuh"
#include "sigmoid.cuh"

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
