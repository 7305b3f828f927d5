// One step of a recurrent layer, h_t = φ(z_t + W_hh h_{t-1}), and of its backward pass, but for the products.
//
//   z, h_before, h, dy, dh, dz (N, H), rows sorted by falling length; the first `running` elements take part in
//   the step, the others keep their state. φ: 0 tanh, 1 max(0, .), 2 σ.
//
// rnn_forward: h holds the product W_hh h_{t-1}, then φ(z + h). rnn_backward: dz = (dh + dy) φ'(z), from h.
// One launch = one step, one thread an element: a step is a matrix product and this, where the reference
// launches an addition, an activation and a copy of the states that rest.
#include "sigmoid.cuh"

__device__ float activated(float z, int nonlinearity) {
    if (nonlinearity == 0) return tanhf(z);
    if (nonlinearity == 1) return z < 0.f ? 0.f : z;  // unlike fmaxf: NaN stays NaN
    return sigmoid(z);
}

__device__ float slope(float h, int nonlinearity) {
    if (nonlinearity == 0) return 1.f - h * h;
    if (nonlinearity == 1) return h > 0.f ? 1.f : 0.f;
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
