// The columns of a matrix summed over its rows: the gradient of a bias, and the end of the other
// parameter gradients.
//
//   x (rows, columns)  ->  out (chunks, columns), out[p] = Σ x[r] for r from p·chunk up to (p+1)·chunk
//
// One launch = one level of the sum. A tall matrix takes two: into a few chunks, which keep the GPU
// busy, and then over the chunks. A block of 32 × 8 threads reads 8 rows of 32 columns at a time, so
// that reads are coalesced, and adds its 8 partial sums in shared memory. No atomics: the order of
// additions is fixed.
#include "reductions.cuh"

extern "C" __global__ void column_sums(const float* __restrict__ x, float* __restrict__ out, long long rows, int columns,
                                       long long chunk) {
    __shared__ float tile[256];
    const int c = blockIdx.x * 32 + threadIdx.x;
    const long long start = blockIdx.y * chunk, stop = min(start + chunk, rows);
    float sum = 0.f;
    if (c < columns)
        for (long long r = start + threadIdx.y; r < stop; r += 8) sum += x[r * columns + c];
    sum = tile_column_sum(sum, tile);
    if (threadIdx.y == 0 && c < columns) out[(long long)blockIdx.y * columns + c] = sum;
}
