// Rows of an embedding table, and the table's gradient.
//
//   embedding_rows:      y[r] = weight[ids[r]];  ids (n), weight (vocabulary, columns)  ->  y (n, columns)
//   embedding_gradient:  dweight[v] = Σ dy[r] over the positions r where ids[r] = v;
//                        ids (n), sorted; order (n), the position that each came from; dy (n, columns)
//                        ->  dweight (vocabulary, columns), the row padding_idx zero (-1: no such row)
//
// In plain C the gradient is:
//   for (r = 0; r < n; ++r) for (c = 0; c < columns; ++c) dweight[ids[r]][c] += dy[r][c];
//
// embedding_rows: one block per position. An id out of range, which is reported only later, gives NaN.
// embedding_gradient: one launch = the whole table. A block of 32 × 8 threads owns one row of the
// table, or some of its columns if the table has few rows: it finds the row's run of equal ids by
// binary search and adds up 8 positions of 32 columns at a time. No atomics: with ids sorted stably, the
// order of additions is fixed by the ids alone. Every row is written, so that the table needs no
// zeroing first.
#include "reductions.cuh"

extern "C" __global__ void embedding_rows(const long long* __restrict__ ids, const float* __restrict__ weight, float* __restrict__ y,
                                          long long vocabulary, int columns) {
    const long long v = ids[blockIdx.x];
    const bool known = v >= 0 && v < vocabulary;
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        y[(long long)blockIdx.x * columns + i] = known ? weight[v * columns + i] : nanf("");
}

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
    const long long start = count_below(ids, n, v), stop = v == padding_idx ? start : count_below(ids, n, v + 1);
    for (int first = blockIdx.y * 32; first < columns; first += gridDim.y * 32) {
        const int c = first + threadIdx.x;
        float sum = 0.f;
        if (c < columns)
            for (long long r = start + threadIdx.y; r < stop; r += 8) sum += dy[order[r] * columns + c];
        sum = tile_column_sum(sum, tile);
        if (threadIdx.y == 0 && c < columns) dweight[v * columns + c] = sum;
    }
}
