// What follows the matrix product of a linear layer, fused: bias, activation and residual.
//
//   z, y, residual, dy, dz (rows, columns); bias (columns); bias and residual may be null
//   linear_epilogue:  z += bias;  y = act(z) + residual
//   linear_activation_backward:  dz = dy act'(z)
//
// One block per row. The product itself is computed by cuBLAS. Each array is read once and written once, where
// the reference takes a pass for the bias, several for gelu and one for the residual. With an
// activation, z + bias is stored for the backward pass; without one, y may be z itself.
#include "activations.cuh"
#include "sigmoid.cuh"

__device__ __forceinline__ float normal_cdf(float z) { return 0.5f * (1.f + erff(z * 0.70710678f)); }

__device__ __forceinline__ float activate(float z, int activation) {
    if (activation == RELU) return z < 0.f ? 0.f : z;  // NaN stays NaN
    if (activation == GELU) return z * normal_cdf(z);
    if (activation == SILU) return z * sigmoid(z);
    if (activation == SIGMOID) return sigmoid(z);
    return z;
}

__device__ __forceinline__ float slope(float z, int activation) {
    if (activation == RELU) return z > 0.f ? 1.f : 0.f;
    if (activation == GELU) return normal_cdf(z) + z * 0.39894228f * expf(-0.5f * z * z);
    const float s = sigmoid(z);
    return activation == SILU ? s * (1.f + z * (1.f - s)) : s * (1.f - s);
}

extern "C" __global__ void linear_epilogue(float* z, const float* __restrict__ bias, const float* __restrict__ residual, float* y,
                                           int columns, int activation) {
    const long long row = (long long)blockIdx.x * columns;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        const float v = z[row + i] + (bias ? bias[i] : 0.f);
        if (activation != NONE) z[row + i] = v;
        y[row + i] = activate(v, activation) + (residual ? residual[row + i] : 0.f);
    }
}

extern "C" __global__ void linear_activation_backward(const float* __restrict__ z, const float* __restrict__ dy, float* __restrict__ dz,
                                                      int columns, int activation) {
    const long long row = (long long)blockIdx.x * columns;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) dz[row + i] = dy[row + i] * slope(z[row + i], activation);
}
