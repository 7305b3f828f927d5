// Rows of an embedding table, and the table's gradient.
//
//   embedding_rows:      y[r] = weight[ids[r]];  ids (n), weight (vocabulary, columns)  ->  y (n, columns)
//   embedding_gradient:  dweight[v] = Σ dy[r] over the positions r where ids[r] = v;
//                        ids (n), dy (n, columns)  ->  dweight (vocabulary, columns), the row padding_idx zero (-1: no such row)
//
// In plain C the gradient is:
//   for (r = 0; r < n; ++r) for (c = 0; c < columns; ++c) dweight[ids[r]][c] += dy[r][c];
//
// embedding_rows: one block per position. An id out of range gives NaN; the largest one, a negative one being huge, is left in
// `found`, which the host reads with the next value.
// embedding_gradient: one launch = the whole table, without a sort, which would make the host wait. A block of 32 × 8 threads owns up
// to 8 tiles of 32 columns of one row of the table. Each of its warps reads every eighth group of 32 ids at once, and adds the rows
// of dy where the table's row stands. Reading all ids for each row takes n · vocabulary comparisons, fewer than a hundredth of the
// multiplications of an output layer as large. No atomics: the order of additions is fixed by the ids alone. Every row is written, so
// that the table needs no zeroing first.
#include "reductions.cuh"

constexpr int TILES = 8;  // as in tinylm/bindings/cuda/indexing.py

extern "C" __global__ void embedding_rows(const long long* __restrict__ ids, const float* __restrict__ weight, float* __restrict__ y,
                                          long long vocabulary, int columns, unsigned long long* __restrict__ found) {
    const long long v = ids[blockIdx.x];
    const bool known = v >= 0 && v < vocabulary;
    if (!known && threadIdx.x == 0) atomicMax(found, static_cast<unsigned long long>(v));
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        y[(long long)blockIdx.x * columns + i] = known ? weight[v * columns + i] : nanf("");
}

extern "C" __global__ void embedding_gradient(const long long* __restrict__ ids, const float* __restrict__ dy,
                                              float* __restrict__ dweight, long long n, int columns, long long padding_idx) {
    __shared__ float tile[256];
    const long long v = blockIdx.x, stop = v == padding_idx ? 0 : n;
    float sum[TILES] = {};
    for (long long first = threadIdx.y * 32; first < stop; first += 256) {
        const long long at = first + threadIdx.x;
        for (unsigned here = __ballot_sync(0xffffffffu, at < n && ids[at] == v); here != 0; here &= here - 1) {
            const float* row = dy + (first + __ffs(here) - 1) * columns;
#pragma unroll
            for (int k = 0; k < TILES; ++k) {
                const int c = (blockIdx.y + k * gridDim.y) * 32 + threadIdx.x;
                if (c < columns) sum[k] += row[c];
            }
        }
    }
#pragma unroll
    for (int k = 0; k < TILES; ++k) {
        const int c = (blockIdx.y + k * gridDim.y) * 32 + threadIdx.x;
        const float total = tile_column_sum(sum[k], tile);
        if (threadIdx.y == 0 && c < columns) dweight[v * columns + c] = total;
    }
}
