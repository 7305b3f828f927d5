// Softmax over the last axis, forward and backward.
//
//   y = e^(x - max) / Σ e^(x - max);  dx = y (dy - Σ dy y);  all (rows, columns)
//
// One block per row: its elements come from memory once, then from the cache, and nothing but y is
// written, where the reference writes an array for each operation. A row of -inf gives zeros.
#include "reductions.cuh"

extern "C" __global__ void softmax_forward(const float* __restrict__ x, float* __restrict__ y, int columns) {
    __shared__ float scratch[32];
    x += (long long)blockIdx.x * columns;
    y += (long long)blockIdx.x * columns;
    const float shift = finite_or_zero(row_max(x, columns, scratch));
    float total = 0.f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        y[i] = expf(x[i] - shift);
        total += y[i];
    }
    total = block_sum(total, scratch);
    const float scale = 1.f / (total == 0.f ? 1.f : total);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) y[i] *= scale;
}

extern "C" __global__ void softmax_backward(const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ dx,
                                            int columns) {
    __shared__ float scratch[32];
    y += (long long)blockIdx.x * columns;
    dy += (long long)blockIdx.x * columns;
    dx += (long long)blockIdx.x * columns;
    float product = 0.f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) product += dy[i] * y[i];
    product = block_sum(product, scratch);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) dx[i] = y[i] * (dy[i] - product);
}
