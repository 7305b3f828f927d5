// total += Σ x² over a flat array of n elements; total is one number.
//
// Two launches: squared_norm_partial lets each of its blocks sum every gridDim-th chunk of the
// array into partial (blocks); squared_norm_total adds these up in one block. The grid is a function
// of n alone and there are no atomics, so the order of additions is fixed.
#include "reductions.cuh"

extern "C" __global__ void squared_norm_partial(const float* __restrict__ x, float* __restrict__ partial, long long n) {
    __shared__ float scratch[32];
    float sum = 0.f;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) sum += x[i] * x[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void squared_norm_total(const float* __restrict__ partial, float* __restrict__ total, int blocks) {
    __shared__ float scratch[32];
    float sum = 0.f;
    for (int i = threadIdx.x; i < blocks; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *total += sum;
}
