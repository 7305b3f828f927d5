// All steps of a recurrent layer in one launch (Diamos et al. 2016, "Persistent RNNs"): what rnn.cu, lstm.cu and gru.cu share.
//
// Block b owns `units` hidden units, with all their gates. It keeps its part of W_hh (G H, H) in shared memory for the whole
// sequence, computes its units of every row in each step, and waits for the other blocks at a barrier between two steps, since a
// step needs all units of the one before. The blocks must all be resident at once: the binding launches no more than
// the GPU has multiprocessors, cooperatively.
//
//   forward   sums = h_{t-1} W_hhᵀ, from the rows of W_hh of this block's units;  then the cell: h_t of these units
//   backward  the cell: ds_t of these units, from dh;  then sums = ds_t W_hh, from the columns of W_hh of these units, and dh += sums
//
// Which thread adds what depends on the shapes alone, so results are the same in every run.

constexpr int ROWS = 4, OUTPUTS = 2;  // of the sums that a warp computes at once

struct Sequence {
    const bool* running;    // (T, N): which rows take part in which step; null: all of them
    unsigned int* arrived;  // blocks counted at the barrier, at first 0
    int steps, batch, hidden;
    int units, tile;        // of a block; rows of the batch that it has in shared memory at once
    bool reverse, rounded;  // from the last step to the first; operands of products rounded to bfloat16

    __device__ int first() const { return blockIdx.x * units; }
    __device__ int count() const { return min(units, hidden - first()); }
    __device__ float operand(float v) const { return rounded ? nearest_bfloat16(v) : v; }
};

// Waits until every block of the grid has come here `round` times. Written by hand, since cooperative_groups.h is not among the
// headers that CuPy's compiler finds in every installation. The count only rises, so a block that is late never misses a round.
__device__ __forceinline__ void grid_barrier(unsigned int* arrived, unsigned int round) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();  // what this block has written is visible before the block counts as arrived
        atomicAdd(arrived, 1u);
        while (*(const volatile unsigned int*)arrived < round * gridDim.x) __nanosleep(32);
        __threadfence();  // what the others have written is read after they have arrived
    }
    __syncthreads();
}

// sums[r, o] = Σ_k x[r, k] w[o, k], all in shared memory. A warp takes ROWS x OUTPUTS sums, whose terms its lanes share out.
__device__ __forceinline__ void products(const float* x, const float* w, float* sums, int rows, int outputs, int inner) {
    const int lane = threadIdx.x & 31, across = (outputs + OUTPUTS - 1) / OUTPUTS, parts = (rows + ROWS - 1) / ROWS * across;
    for (int part = threadIdx.x >> 5; part < parts; part += blockDim.x >> 5) {
        const int r0 = part / across * ROWS, o0 = part % across * OUTPUTS;
        float sum[ROWS][OUTPUTS] = {};
        for (int k = lane; k < inner; k += 32) {
            float a[ROWS], b[OUTPUTS];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) a[r] = x[min(r0 + r, rows - 1) * inner + k];  // beyond the end: the last again
#pragma unroll
            for (int o = 0; o < OUTPUTS; ++o) b[o] = w[min(o0 + o, outputs - 1) * inner + k];
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
#pragma unroll
                for (int o = 0; o < OUTPUTS; ++o) sum[r][o] += a[r] * b[o];
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int o = 0; o < OUTPUTS; ++o) {
                const float total = warp_sum(sum[r][o]);
                if (lane == 0 && r0 + r < rows && o0 + o < outputs) sums[(r0 + r) * outputs + o0 + o] = total;
            }
    }
}

// The same for rows in global memory, copied to x first. Other blocks have written them in this launch, so they are read from the L2 cache:
// a multiprocessor's own L1 cache may have older bytes.
__device__ __forceinline__ void products_of(const Sequence& s, const float* from, float* x, const float* w, float* sums, int rows,
                                            int outputs, int inner) {
    for (int i = threadIdx.x; i < rows * inner; i += blockDim.x) x[i] = s.operand(__ldcg(from + i));
    __syncthreads();  // x and w are there, and nobody reads the earlier sums
    products(x, w, sums, rows, outputs, inner);
    __syncthreads();  // the sums are there, and nobody reads x
}

// h_before, h (T, N, H): the same memory one step apart. memory: G units H + tile (H + G units) floats of shared memory.
// cell(row, unit, runs, p, next): computes a unit of row t N + n; p[g next] is its product for gate g.
template <int GATES, class Cell>
__device__ __forceinline__ void forward_steps(const Sequence& s, const float* w_hh, const float* h_before, float* memory, Cell cell) {
    const int hidden = s.hidden, count = s.count(), outputs = GATES * count;
    float *w = memory, *x = w + outputs * hidden, *sums = x + s.tile * hidden;
    for (int i = threadIdx.x; i < outputs * hidden; i += blockDim.x) {
        const int o = i / hidden, row = o / count * hidden + s.first() + o % count;
        w[i] = s.operand(w_hh[(long long)row * hidden + i % hidden]);
    }
    for (int step = 0; step < s.steps; ++step) {
        const long long t = s.reverse ? s.steps - 1 - step : step;
        for (int r0 = 0; r0 < s.batch; r0 += s.tile) {
            const long long row0 = t * s.batch + r0;
            const int rows = min(s.tile, s.batch - r0);
            products_of(s, h_before + row0 * hidden, x, w, sums, rows, outputs, hidden);
            for (int i = threadIdx.x; i < rows * count; i += blockDim.x) {
                const long long row = row0 + i / count;
                cell(row, s.first() + i % count, !s.running || s.running[row], sums + i / count * outputs + i % count, count);
            }
        }
        if (step + 1 < s.steps) grid_barrier(s.arrived, step + 1);
    }
}

// ds (T, N, G H), dh (N, H). memory: G units H + tile (G H + units) floats of shared memory.
// cell(row, unit, runs, dh): computes ds of a unit of row t N + n, and leaves in dh what reaches h_{t-1} without W_hh.
template <int GATES, class Cell>
__device__ __forceinline__ void backward_steps(const Sequence& s, const float* w_hh, const float* ds, float* dh, float* memory, Cell cell) {
    const int hidden = s.hidden, count = s.count(), inner = GATES * hidden;
    float *w = memory, *x = w + count * inner, *sums = x + s.tile * inner;
    for (int i = threadIdx.x; i < count * inner; i += blockDim.x)
        w[i % count * inner + i / count] = s.operand(w_hh[(long long)(i / count) * hidden + s.first() + i % count]);
    for (int step = s.steps - 1; step >= 0; --step) {
        const long long t = s.reverse ? s.steps - 1 - step : step;
        __syncthreads();  // dh of the step after this one is complete
        for (int i = threadIdx.x; i < s.batch * count; i += blockDim.x) {
            const int n = i / count, unit = s.first() + i % count;
            const long long row = t * s.batch + n;
            cell(row, unit, !s.running || s.running[row], dh[(long long)n * hidden + unit]);
        }
        grid_barrier(s.arrived, s.steps - step);
        for (int r0 = 0; r0 < s.batch; r0 += s.tile) {
            const long long row0 = t * s.batch + r0;
            const int rows = min(s.tile, s.batch - r0);
            products_of(s, ds + row0 * inner, x, w, sums, rows, count, inner);
            for (int i = threadIdx.x; i < rows * count; i += blockDim.x)  // sums are 0 for a row that took no part
                dh[(long long)(r0 + i / count) * hidden + s.first() + i % count] += sums[i];
        }
    }
}
