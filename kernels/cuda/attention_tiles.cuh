// Tiles of matrices in shared memory and the products of two tiles, for blocks of 128 threads.
//
// A block owns a tile of 16 R rows and multiplies it with tiles of 8 C rows, WIDTH numbers each; C and WIDTH are constants of
// the including file. Thread t, with tx = t % 8 and ty = t / 8, computes the products of rows ty + 16 i of the one
// tile with rows tx + 8 j of the other (i < R, j < C), and columns 4 tx + 32 h to 4 tx + 32 h + 3 of rows ty + 16 i
// of a result of WIDTH columns. So every float4 read from shared memory serves several products, lanes of a warp
// that read different rows read different banks, and a row's 8 threads are neighbouring lanes: its maximum and
// its sum need no barrier.

#define ALL_LANES 0xffffffffu
#define THREADS 128

typedef long long Long;
typedef unsigned long long Word;

__device__ int lane_column() { return threadIdx.x & 7; }
__device__ int lane_row() { return threadIdx.x >> 3; }

__device__ float4 times(float4 a, float b) { return make_float4(a.x * b, a.y * b, a.z * b, a.w * b); }

__device__ float4 nearest(float4 a) {
    return make_float4(nearest_bfloat16(a.x), nearest_bfloat16(a.y), nearest_bfloat16(a.z), nearest_bfloat16(a.w));
}

__device__ float dot(float4 a, float4 b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

__device__ float4 add_scaled(float4 sum, float a, float4 b) {
    return make_float4(fmaf(a, b.x, sum.x), fmaf(a, b.y, sum.y), fmaf(a, b.z, sum.z), fmaf(a, b.w, sum.w));
}

// ---------------------------------------------------------------- matrices in global memory

struct Matrix {  // (rows, columns), the columns contiguous
    const float* start;
    Long row;
    int rows, columns;
};

// Columns c to c + 3 of row r, 0 outside the matrix; one 16-byte load if that is possible.
__device__ float4 four(const Matrix& m, int r, int c) {
    if (r >= m.rows || c >= m.columns) return make_float4(0.f, 0.f, 0.f, 0.f);
    const float* at = m.start + r * m.row + c;
    if (c + 4 <= m.columns && (reinterpret_cast<Word>(at) & 15) == 0) return *reinterpret_cast<const float4*>(at);
    return make_float4(at[0], c + 1 < m.columns ? at[1] : 0.f, c + 2 < m.columns ? at[2] : 0.f, c + 3 < m.columns ? at[3] : 0.f);
}

__device__ void store_four(float* row, int c, int columns, float4 a) {
    if (c + 4 <= columns && (reinterpret_cast<Word>(row + c) & 15) == 0) {
        *reinterpret_cast<float4*>(row + c) = a;
        return;
    }
    if (c < columns) row[c] = a.x;
    if (c + 1 < columns) row[c + 1] = a.y;
    if (c + 2 < columns) row[c + 2] = a.z;
    if (c + 3 < columns) row[c + 3] = a.w;
}

// ---------------------------------------------------------------- tiles in shared memory
// Rows of WIDTH numbers as float4, with one float4 between them so that neighbouring rows start in different banks.

template <int ROWS>
__device__ void load(float4 (*tile)[WIDTH / 4 + 1], const Matrix& m, int first, float factor, int rounded) {
    for (int i = threadIdx.x; i < ROWS * (WIDTH / 4); i += THREADS) {
        const int r = i / (WIDTH / 4), c = i % (WIDTH / 4);
        const float4 x = times(four(m, first + r, 4 * c), factor);
        tile[r][c] = rounded ? nearest(x) : x;
    }
}

// s[i][j] = row (ty + 16 i) of a times row (tx + 8 j) of b.
template <int R>
__device__ void products(float (&s)[R][C], const float4 (*a)[WIDTH / 4 + 1], const float4 (*b)[WIDTH / 4 + 1]) {
    const int tx = lane_column(), ty = lane_row();
#pragma unroll
    for (int i = 0; i < R; ++i)
#pragma unroll
        for (int j = 0; j < C; ++j) s[i][j] = 0.f;
#pragma unroll 2
    for (int c = 0; c < WIDTH / 4; ++c) {
        float4 x[R], y[C];
#pragma unroll
        for (int i = 0; i < R; ++i) x[i] = a[ty + 16 * i][c];
#pragma unroll
        for (int j = 0; j < C; ++j) y[j] = b[tx + 8 * j][c];
#pragma unroll
        for (int i = 0; i < R; ++i)
#pragma unroll
            for (int j = 0; j < C; ++j) s[i][j] = dot(x[i], y[j], s[i][j]);
    }
}

// Row (ty + 16 i) of w, 8 C numbers, from the 8 lanes that hold them. Only their warp reads it.
template <int R>
__device__ void exchange_scores(float4 (*w)[2 * C + 1], const float (&s)[R][C]) {
    const int tx = lane_column(), ty = lane_row();
    __syncwarp();  // until all lanes have read what was there before
#pragma unroll
    for (int i = 0; i < R; ++i)
#pragma unroll
        for (int j = 0; j < C; ++j) reinterpret_cast<float*>(w[ty + 16 * i])[tx + 8 * j] = s[i][j];
    __syncwarp();
}

// sum[i][h] += columns 4 tx + 32 h to + 3 of row (ty + 16 i) of w b.
template <int R>
__device__ void accumulate(float4 (&sum)[R][WIDTH / 32], const float4 (*w)[2 * C + 1], const float4 (*b)[WIDTH / 4 + 1]) {
    const int tx = lane_column(), ty = lane_row();
#pragma unroll 2
    for (int j = 0; j < 2 * C; ++j) {
        float4 x[R];
#pragma unroll
        for (int i = 0; i < R; ++i) x[i] = w[ty + 16 * i][j];
#pragma unroll
        for (int h = 0; h < WIDTH / 32; ++h) {
            const float4 b0 = b[4 * j][tx + 8 * h], b1 = b[4 * j + 1][tx + 8 * h];
            const float4 b2 = b[4 * j + 2][tx + 8 * h], b3 = b[4 * j + 3][tx + 8 * h];
#pragma unroll
            for (int i = 0; i < R; ++i) {
                sum[i][h] = add_scaled(sum[i][h], x[i].x, b0);
                sum[i][h] = add_scaled(sum[i][h], x[i].y, b1);
                sum[i][h] = add_scaled(sum[i][h], x[i].z, b2);
                sum[i][h] = add_scaled(sum[i][h], x[i].w, b3);
            }
        }
    }
}

template <int R>
__device__ void clear(float4 (&sum)[R][WIDTH / 32]) {
#pragma unroll
    for (int i = 0; i < R; ++i)
#pragma unroll
        for (int h = 0; h < WIDTH / 32; ++h) sum[i][h] = make_float4(0.f, 0.f, 0.f, 0.f);
}

// The sum over the 8 lanes of a row.
__device__ float row_sum(float a) {
    for (int step = 4; step; step >>= 1) a += __shfl_xor_sync(ALL_LANES, a, step);
    return a;
}

__device__ float row_max(float a) {
    for (int step = 4; step; step >>= 1) a = fmaxf(a, __shfl_xor_sync(ALL_LANES, a, step));
    return a;
}
