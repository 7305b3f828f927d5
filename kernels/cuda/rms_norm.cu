// RMS norm over the last axis, forward and backward: tinylm/ops/normalization.py has the formulas.
//
//   x, y, dy, dx (rows, columns); weight (columns) or null; rrms (rows), 1 / sqrt(mean(x²) + eps); arrived (rows, columns) or null, the
//   gradients of x from elsewhere, which dx has with its own added: for a residual connection
//
// In plain C, a row of the forward pass is:
//   rrms = 1 / sqrt(Σ x[i]² / columns + eps);  y[i] = x[i] * rrms * weight[i];
//
// rms_norm_forward and _backward: one block per row, read from memory once and then from the cache.
// rms_norm_weight: the sums of dy·x̂ over a chunk of the rows (see column_sums.cu).
#include "reductions.cuh"

extern "C" __global__ void rms_norm_forward(const float* __restrict__ x, const float* __restrict__ weight, float* __restrict__ y,
                                            float* __restrict__ rrms, int columns, float eps) {
    __shared__ float scratch[32];
    x += (long long)blockIdx.x * columns;
    y += (long long)blockIdx.x * columns;
    float squares = 0.f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) squares += x[i] * x[i];
    const float r = rsqrtf(block_sum(squares, scratch) / columns + eps);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) y[i] = x[i] * r * (weight ? weight[i] : 1.f);
    if (threadIdx.x == 0) rrms[blockIdx.x] = r;
}

extern "C" __global__ void rms_norm_backward(const float* __restrict__ x, const float* __restrict__ weight,
                                             const float* __restrict__ rrms, const float* __restrict__ dy,
                                             const float* __restrict__ arrived, float* __restrict__ dx, int columns) {
    __shared__ float scratch[32];
    x += (long long)blockIdx.x * columns;
    dy += (long long)blockIdx.x * columns;
    dx += (long long)blockIdx.x * columns;
    if (arrived) arrived += (long long)blockIdx.x * columns;
    const float r = rrms[blockIdx.x];
    float product = 0.f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) product += dy[i] * (weight ? weight[i] : 1.f) * x[i] * r;
    product = block_sum(product, scratch) / columns;
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        dx[i] = r * (dy[i] * (weight ? weight[i] : 1.f) - x[i] * r * product) + (arrived ? arrived[i] : 0.f);
}

extern "C" __global__ void rms_norm_weight(const float* __restrict__ x, const float* __restrict__ rrms, const float* __restrict__ dy,
                                           float* __restrict__ dweight, long long rows, int columns, long long chunk) {
    __shared__ float tile[256];
    const int c = blockIdx.x * 32 + threadIdx.x;
    const long long start = blockIdx.y * chunk, stop = min(start + chunk, rows);
    float sum = 0.f;
    if (c < columns)
        for (long long r = start + threadIdx.y; r < stop; r += 8) sum += dy[r * columns + c] * x[r * columns + c] * rrms[r];
    sum = tile_column_sum(sum, tile);
    if (threadIdx.y == 0 && c < columns) dweight[(long long)blockIdx.y * columns + c] = sum;
}
