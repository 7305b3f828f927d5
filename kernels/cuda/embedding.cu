// The gradient of an embedding table: dweight[v] = Σ dy[r] over the positions r where ids[r] = v.
//
//   ids (n), sorted; order (n), the position that each came from; dy (n, columns)
//   ->  dweight (vocabulary, columns), the row padding_idx zero (-1: no such row)
//
// In plain C:  for (r = 0; r < n; ++r) for (c = 0; c < columns; ++c) dweight[ids[r]][c] += dy[r][c];
//
// One launch = the whole table. A block of 32 × 8 threads owns 32 columns of one row of the table:
// it finds the row's run of equal ids by bisection and adds up 8 positions at a time. No atomics:
// with ids sorted stably, the order of additions is fixed by the ids alone. Every row is written,
// so that the table needs no zeroing first.
#include "reductions.cuh"

// How many of the sorted ids are below v.
__device__ __forceinline__ long long count_below(const long long* ids, long long n, long long v) {
    long long low = 0, high = n;
    while (low < high) {
        const long long middle = (low + high) / 2;
        if (ids[middle] < v) low = middle + 1;
        else high = middle;
    }
    return low;
}

extern "C" __global__ void embedding_gradient(const long long* __restrict__ ids, const long long* __restrict__ order,
                                              const float* __restrict__ dy, float* __restrict__ dweight, long long n, int columns,
                                              long long padding_idx) {
    __shared__ float tile[256];
    const long long v = blockIdx.x;
    const int c = blockIdx.y * 32 + threadIdx.x;
    const long long start = count_below(ids, n, v), stop = v == padding_idx ? start : count_below(ids, n, v + 1);
    float sum = 0.f;
    if (c < columns)
        for (long long r = start + threadIdx.y; r < stop; r += 8) sum += dy[order[r] * columns + c];
    sum = tile_column_sum(sum, tile);
    if (threadIdx.y == 0 && c < columns) dweight[v * columns + c] = sum;
}
