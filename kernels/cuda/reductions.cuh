// Sums and maxima over a warp and over a block, shared by the kernels that serve one row per block.
// The order of additions depends on blockDim alone, so results are the same in every run.
// blockDim.x is a multiple of 32, and all threads of the block must call them.

__device__ __forceinline__ float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

__device__ __forceinline__ float warp_max(float v) {
    for (int offset = 16; offset > 0; offset >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
    return v;
}

// Every thread gets the sum of all threads' v. `scratch` holds 32 floats.
__device__ __forceinline__ float block_sum(float v, float* scratch) {
    v = warp_sum(v);
    if (blockDim.x == 32) return v;
    __syncthreads();  // scratch may still be read by the reduction before this one
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = v;
    __syncthreads();
    v = (threadIdx.x & 31) < (blockDim.x >> 5) ? scratch[threadIdx.x & 31] : 0.f;
    return warp_sum(v);  // each warp adds the few partial sums for itself
}

// Every thread gets the largest of all threads' v. `scratch` holds 32 floats.
__device__ __forceinline__ float block_max(float v, float* scratch) {
    v = warp_max(v);
    if (blockDim.x == 32) return v;
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = v;
    __syncthreads();
    return warp_max(scratch[(threadIdx.x & 31) < (blockDim.x >> 5) ? (threadIdx.x & 31) : 0]);
}

// v, or 0 if v is an infinity or NaN: the shift of a row before exp, so that x - shift is never NaN.
__device__ __forceinline__ float finite_or_zero(float v) { return v - v == 0.f ? v : 0.f; }

// The largest element of a row, as its shift before exp; NaNs are ignored here and appear in the sum. columns > 0; `scratch` has 32 floats.
__device__ __forceinline__ float row_max(const float* x, int columns, float* scratch) {
    float top = x[threadIdx.x < columns ? threadIdx.x : 0];
    for (int i = threadIdx.x; i < columns; i += blockDim.x) top = fmaxf(top, x[i]);
    return block_max(top, scratch);
}

// Sums a tile of 8 rows of 32 columns, v from each thread of a block of (32, 8): the threads with
// threadIdx.y = 0 get their column's sum. `tile` holds 256 floats.
__device__ __forceinline__ float tile_column_sum(float v, float* tile) {
    __syncthreads();  // the tile may still be read by the sum before this one
    tile[threadIdx.y * 32 + threadIdx.x] = v;
    __syncthreads();
    if (threadIdx.y == 0)
        for (int y = 1; y < 8; ++y) v += tile[y * 32 + threadIdx.x];
    return v;
}
