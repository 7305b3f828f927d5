// Layer norm over the last axis, forward and backward: tinylm/ops/normalization.py has the formulas.
//
//   x, y, dy, dx (rows, columns); weight, bias (columns) or null; mean, rstd (rows); arrived (rows, columns) or null, the gradients
//   of x from elsewhere, which dx has with its own added: for a residual connection
//
// In plain C, a row of the forward pass is:
//   mean = Σ x[i] / columns;  rstd = 1 / sqrt(Σ (x[i] - mean)² / columns + eps);
//   y[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
//
// layer_norm_forward and _backward: one block per row. A row is read from memory once and then comes
// from the cache, where the reference makes a pass over memory for each operation; only mean and rstd
// are kept for the backward pass, which recomputes x̂.
// layer_norm_parameters: the sums of dy·x̂ and dy over a chunk of the rows (see column_sums.cu, which
// adds up the chunks).
#include "reductions.cuh"

extern "C" __global__ void layer_norm_forward(const float* __restrict__ x, const float* __restrict__ weight,
                                              const float* __restrict__ bias, float* __restrict__ y, float* __restrict__ mean,
                                              float* __restrict__ rstd, int columns, float eps) {
    __shared__ float scratch[32];
    x += (long long)blockIdx.x * columns;
    y += (long long)blockIdx.x * columns;
    float sum = 0.f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += x[i];
    const float m = block_sum(sum, scratch) / columns;
    float squares = 0.f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) squares += (x[i] - m) * (x[i] - m);
    const float r = rsqrtf(block_sum(squares, scratch) / columns + eps);
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        y[i] = (x[i] - m) * r * (weight ? weight[i] : 1.f) + (bias ? bias[i] : 0.f);
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = m;
        rstd[blockIdx.x] = r;
    }
}

extern "C" __global__ void layer_norm_backward(const float* __restrict__ x, const float* __restrict__ weight,
                                               const float* __restrict__ mean, const float* __restrict__ rstd,
                                               const float* __restrict__ dy, const float* __restrict__ arrived,
                                               float* __restrict__ dx, int columns) {
    __shared__ float scratch[32];
    x += (long long)blockIdx.x * columns;
    dy += (long long)blockIdx.x * columns;
    dx += (long long)blockIdx.x * columns;
    if (arrived) arrived += (long long)blockIdx.x * columns;
    const float m = mean[blockIdx.x], r = rstd[blockIdx.x];
    float sum = 0.f, product = 0.f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        const float dxhat = dy[i] * (weight ? weight[i] : 1.f);
        sum += dxhat;
        product += dxhat * (x[i] - m) * r;
    }
    sum = block_sum(sum, scratch) / columns;
    product = block_sum(product, scratch) / columns;
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        dx[i] = r * (dy[i] * (weight ? weight[i] : 1.f) - sum - (x[i] - m) * r * product) + (arrived ? arrived[i] : 0.f);
}

extern "C" __global__ void layer_norm_parameters(const float* __restrict__ x, const float* __restrict__ mean,
                                                 const float* __restrict__ rstd, const float* __restrict__ dy,
                                                 float* __restrict__ dweight, float* __restrict__ dbias, long long rows, int columns,
                                                 long long chunk) {
    __shared__ float tile[256];
    const int c = blockIdx.x * 32 + threadIdx.x;
    const long long start = blockIdx.y * chunk, stop = min(start + chunk, rows);
    float weight_sum = 0.f, bias_sum = 0.f;
    if (c < columns)
        for (long long r = start + threadIdx.y; r < stop; r += 8) {
            const float d = dy[r * columns + c];
            weight_sum += d * (x[r * columns + c] - mean[r]) * rstd[r];
            bias_sum += d;
        }
    weight_sum = tile_column_sum(weight_sum, tile);
    bias_sum = tile_column_sum(bias_sum, tile);
    if (threadIdx.y == 0 && c < columns) {
        dweight[(long long)blockIdx.y * columns + c] = weight_sum;
        dbias[(long long)blockIdx.y * columns + c] = bias_sum;
    }
}
