// What follows the matrix product of a linear layer, fused: bias, activation and residual.
//
//   z, y, residual, dy, dz (rows, columns); bias (columns); bias and residual may be null
//   linear_epilogue:  z += bias;  y = act(z) + residual
//   linear_activation_backward:  dz = dy act'(z)
//
//   linear_few_rows:  z = x Wᵀ + bias;  y = act(z) + residual;  x (rows, inputs), 4 rows at most, as in decoding; weight (outputs, inputs)
//   linear_few_rows_joint:  the same without activation and residual for up to three layers of one x
//
// One block per row. The product itself is computed by cuBLAS. Each array is read once and written once, where
// the reference takes a pass for the bias, several for gelu and one for the residual. With an
// activation, z + bias is stored for the backward pass; without one, y may be z itself.
// linear_few_rows and linear_few_rows_joint: one warp per output, so one launch for product and epilogue. The weight's rows are read
// once, each by neighbouring threads together; x comes from the cache. z is stored for the backward pass with an activation.
#include "activations.cuh"
#include "reductions.cuh"
#include "sigmoid.cuh"

constexpr int FEW_ROWS = 4;  // as in tinylm/bindings/cuda/linear.py

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

// sum[r] = Σ w[i] x[r][i] for the rows there are, the same for all lanes of a warp.
__device__ __forceinline__ void few_products(const float* x, const float* w, int rows, int inputs, float* sum) {
#pragma unroll
    for (int r = 0; r < FEW_ROWS; ++r) sum[r] = 0.f;
    for (int i = threadIdx.x & 31; i < inputs; i += 32)
#pragma unroll
        for (int r = 0; r < FEW_ROWS; ++r)
            if (r < rows) sum[r] += w[i] * x[(long long)r * inputs + i];
#pragma unroll
    for (int r = 0; r < FEW_ROWS; ++r) sum[r] = warp_sum(sum[r]);
}

extern "C" __global__ void linear_few_rows(const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
                                           const float* __restrict__ residual, float* __restrict__ z, float* __restrict__ y, int rows,
                                           int inputs, int outputs, int activation) {
    const int output = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (output >= outputs) return;  // the whole warp
    float sum[FEW_ROWS];
    few_products(x, weight + (long long)output * inputs, rows, inputs, sum);
#pragma unroll
    for (int r = 0; r < FEW_ROWS; ++r) {
        const float v = sum[r] + (bias ? bias[output] : 0.f);
        const long long at = (long long)r * outputs + output;
        if (lane != 0 || r >= rows) continue;
        if (activation != NONE) z[at] = v;
        y[at] = activate(v, activation) + (residual ? residual[at] : 0.f);
    }
}

extern "C" __global__ void linear_few_rows_joint(const float* __restrict__ x, const float* weight_0, const float* weight_1,
                                                 const float* weight_2, const float* bias_0, const float* bias_1, const float* bias_2,
                                                 float* y_0, float* y_1, float* y_2, int outputs_0, int outputs_1, int outputs_2, int rows,
                                                 int inputs) {
    int output = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (output >= outputs_0 + outputs_1 + outputs_2) return;  // the whole warp
    const bool first = output < outputs_0, second = !first && output < outputs_0 + outputs_1;
    const float *weight = first ? weight_0 : second ? weight_1 : weight_2, *bias = first ? bias_0 : second ? bias_1 : bias_2;
    float* y = first ? y_0 : second ? y_1 : y_2;
    const int outputs = first ? outputs_0 : second ? outputs_1 : outputs_2;
    output -= first ? 0 : second ? outputs_0 : outputs_0 + outputs_1;
    float sum[FEW_ROWS];
    few_products(x, weight + (long long)output * inputs, rows, inputs, sum);
#pragma unroll
    for (int r = 0; r < FEW_ROWS; ++r)
        if ((threadIdx.x & 31) == 0 && r < rows) y[(long long)r * outputs + output] = sum[r] + (bias ? bias[output] : 0.f);
}
