// Log-softmax over the last axis, forward and backward.
//
//   y = (x - max) - log Σ e^(x - max);  dx = dy - e^y Σ dy;  all (rows, columns)
//
// One block per row, read from memory once and then from the cache; the backward pass needs y alone.
#include "reductions.cuh"

extern "C" __global__ void log_softmax_forward(const float* __restrict__ x, float* __restrict__ y, int columns) {
    __shared__ float scratch[32];
    x += (long long)blockIdx.x * columns;
    y += (long long)blockIdx.x * columns;
    const float shift = finite_or_zero(row_max(x, columns, scratch));
    float total = 0.f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) total += expf(x[i] - shift);
    const float log_total = logf(block_sum(total, scratch));
    for (int i = threadIdx.x; i < columns; i += blockDim.x) y[i] = (x[i] - shift) - log_total;
}

extern "C" __global__ void log_softmax_backward(const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ dx,
                                                int columns) {
    __shared__ float scratch[32];
    y += (long long)blockIdx.x * columns;
    dy += (long long)blockIdx.x * columns;
    dx += (long long)blockIdx.x * columns;
    float sum = 0.f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += dy[i];
    sum = block_sum(sum, scratch);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) dx[i] = dy[i] - expf(y[i]) * sum;
}
