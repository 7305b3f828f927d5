// Y = softmax(scale Q Kᵀ, masked) V and its gradients, float32, never storing the (T, S) weights.
//
// q (N, heads, T, D), k (N, key_heads, S, D), v (N, key_heads, S, E) -> y (N, heads, T, E), D and E at most 128.
// heads / key_heads neighbouring heads of q look at the same head of k and v, which is not copied for them.
// Inputs are read in place: q[n, h, t, d] is q[n q_batch + h q_head + t q_row + d], so that heads cut out
// of one projection need no copy. Outputs have strides too, but their heads lie beside each other: y is made as the rows of the next
// projection, in the order (N, T, heads, E) or (T, N, heads, E), and dq, dk and dv beside each other where they are the gradient of
// one projection. mask, boolean or null, is True where a query may look; a stride is 0 along an axis it is
// broadcast over. causal: query i sees keys up to i + S - T. A query that may look nowhere gives zeros.
// dropout: the weight with index i in (N, heads, T, S) is multiplied by keep_scale if the 32-bit word i of the
// Philox stream (seed, stream) is at least `threshold`, else by 0. Backward draws the same words again.
//
// Plain version, for one query i:
//     s_j = scale q_i k_j where i may look at j, -inf elsewhere;  lse_i = log Σ_j exp(s_j);
//     p_j = exp(s_j - lse_i);  y_i = Σ_j p_j m_j v_j, m_j from dropout;
//     backward: δ_i = dy_i y_i,  ds_j = p_j (m_j dy_i v_j - δ_i),
//               dq_i = scale Σ_j ds_j k_j,  dv_j = Σ_i p_j m_j dy_i,  dk_j = scale Σ_i ds_j q_i.
//
// Fast version (Dao 2023, arXiv:2307.08691): a block keeps a tile of queries in shared memory and loops over
// the tiles of keys, up to the last key that one of its queries may see; for dk and dv it keeps keys and loops
// over queries. Scores exist for one pair of tiles at a time, in registers, and the sums so far are scaled down
// when a larger score appears, so one loop is enough, and the T S scores never go through memory. Backward
// computes the scores twice, once for dq and once for dk and dv, so that every sum has one owner and one order,
// without atomics: the block that owns some keys loops over the queries of each head that shares them, in turn.
//
// rounded: the operands of all products are rounded to bfloat16 as those of tinylm/ops/attention.py: q, k, v, dy, the weights
// p_j m_j, and scale ds_j. The weights are normalised before they are rounded, and δ sums weights that are not rounded: so forward
// and dq loop over the keys twice.
//
// This file is included after bfloat16.cuh, attention_tiles.cuh, philox.cuh and attention_arguments.cuh by a short .cu file for each
// WIDTH that D and E are padded to, which says what WIDTH, C and the R of the kernels are. One launch has N heads ceil(rows / 16 R)
// blocks of 128 threads, rows T; for dk and dv N key_heads ceil(S / 16 R).

#define NEGATIVE_INFINITY __int_as_float(0xff800000)

// ---------------------------------------------------------------- y and lse: one block per (entry, head, tile of queries)

extern "C" __global__ void __launch_bounds__(THREADS, 3) scaled_dot_product_attention_forward(
    float* y, float* lse, long long y_batch, long long y_row,
    const float* q, const float* k, const float* v, const bool* mask, int heads, int key_heads, int steps, int keys, int width,
    int out_width, long long q_batch, long long q_head, long long q_row, long long k_batch, long long k_head, long long k_row,
    long long v_batch, long long v_head, long long v_row, long long mask_batch, long long mask_head, long long mask_row,
    long long mask_column, int causal, float scale, unsigned long long seed, unsigned long long stream, unsigned int threshold,
    float keep_scale, int rounded) {
    const Attention a = {{q, q_batch, q_head, q_row}, {k, k_batch, k_head, k_row}, {v, v_batch, v_head, v_row}, mask, heads, key_heads,
                         steps, keys, width, out_width, mask_batch, mask_head, mask_row, mask_column, causal, scale,
                         {seed, stream, threshold, keep_scale}, rounded};
    constexpr int R = FORWARD_R;
    __shared__ float4 q_s[16 * R][WIDTH / 4 + 1], k_s[8 * C][WIDTH / 4 + 1], v_s[8 * C][WIDTH / 4 + 1], w[16 * R][2 * C + 1];
    __shared__ unsigned char kept[16 * R][C + 1];
    const int tx = lane_column(), ty = lane_row(), tiles = (steps + 16 * R - 1) / (16 * R);
    const int lead = blockIdx.x / tiles, query0 = (tiles - 1 - blockIdx.x % tiles) * 16 * R;  // the longest loops first
    const int end = a.keys_before(query0 + 16 * R);
    const int key_lead = lead / (heads / key_heads);
    const Matrix q_all = a.part(a.q, lead, heads, steps, width), k_all = a.part(a.k, key_lead, key_heads, keys, width);
    const Matrix v_all = a.part(a.v, key_lead, key_heads, keys, out_width);
    const bool* mask_part = a.mask_of(lead);
    float largest[R], total[R];
    float4 sum[R][WIDTH / 32];
    clear<R>(sum);
#pragma unroll
    for (int i = 0; i < R; ++i) largest[i] = NEGATIVE_INFINITY, total[i] = 0.f;
    load<16 * R>(q_s, q_all, query0, a.query_factor(), rounded);

    for (int pass = rounded ? 1 : 2; pass <= 2; ++pass) {  // the first pass is for the largest score and the total
        const bool again = rounded && pass == 2;
        for (int key0 = 0; key0 < end; key0 += 8 * C) {
            load<8 * C>(k_s, k_all, key0, 1.f, rounded);
            load<8 * C>(v_s, v_all, key0, 1.f, rounded);
            a.draw<16 * R, 8 * C>(kept, lead, query0, key0);
            __syncthreads();
            float s[R][C];
            products<R>(s, q_s, k_s);
#pragma unroll
            for (int i = 0; i < R; ++i) {
                const int r = ty + 16 * i;
                float m = largest[i];
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    s[i][j] = a.sees(mask_part, query0 + r, key0 + tx + 8 * j) ? s[i][j] * a.score_factor() : NEGATIVE_INFINITY;
                    m = fmaxf(m, s[i][j]);
                }
                m = row_max(m);
                const float base = m == NEGATIVE_INFINITY ? 0.f : m;  // no key is visible yet: all exponentials are 0
                const float correction = expf(largest[i] - base);
                const float norm = again && total[i] != 0.f ? 1.f / total[i] : 1.f;
                float part = 0.f;
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    s[i][j] = expf(s[i][j] - base);
                    part += s[i][j];
                    s[i][j] *= norm;
                    if (threshold) s[i][j] *= keep_factor(kept[r], a.dropout, a.weight(lead, query0 + r, key0), tx + 8 * j);
                    s[i][j] = a.operand(s[i][j]);
                }
                if (!again) total[i] = total[i] * correction + row_sum(part);
                largest[i] = m;
#pragma unroll
                for (int h = 0; h < WIDTH / 32; ++h) sum[i][h] = times(sum[i][h], correction);
            }
            if (pass == 2) {
                exchange_scores<R>(w, s);
                accumulate<R>(sum, w, v_s);
            }
            __syncthreads();
        }
    }

#pragma unroll
    for (int i = 0; i < R; ++i) {
        const int query = query0 + ty + 16 * i;
        if (query >= steps) continue;
        const float inverse = total[i] == 0.f ? 0.f : rounded ? 1.f : 1.f / total[i];
#pragma unroll
        for (int h = 0; h < WIDTH / 32; ++h)
            store_four(y + a.output(lead, heads, query, out_width, y_batch, y_row), 4 * tx + 32 * h, out_width, times(sum[i][h], inverse));
        if (tx == 0) lse[static_cast<Long>(lead) * steps + query] = total[i] == 0.f ? 0.f : largest[i] + logf(total[i]);
    }
}

// ---------------------------------------------------------------- dq and δ: one block per (entry, head, tile of queries)

extern "C" __global__ void __launch_bounds__(THREADS, 3) scaled_dot_product_attention_query_gradient(
    const float* y, const float* lse, float* delta, float* dq, long long y_batch, long long y_row, long long dq_batch, long long dq_row,
    const float* dy, long long dy_batch, long long dy_head, long long dy_row,
    const float* q, const float* k, const float* v, const bool* mask, int heads, int key_heads, int steps, int keys, int width,
    int out_width, long long q_batch, long long q_head, long long q_row, long long k_batch, long long k_head, long long k_row,
    long long v_batch, long long v_head, long long v_row, long long mask_batch, long long mask_head, long long mask_row,
    long long mask_column, int causal, float scale, unsigned long long seed, unsigned long long stream, unsigned int threshold,
    float keep_scale, int rounded) {
    const Attention a = {{q, q_batch, q_head, q_row}, {k, k_batch, k_head, k_row}, {v, v_batch, v_head, v_row}, mask, heads, key_heads,
                         steps, keys, width, out_width, mask_batch, mask_head, mask_row, mask_column, causal, scale,
                         {seed, stream, threshold, keep_scale}, rounded};
    constexpr int R = BACKWARD_R;
    __shared__ float4 q_s[16 * R][WIDTH / 4 + 1], dy_s[16 * R][WIDTH / 4 + 1], w[16 * R][2 * C + 1];
    __shared__ float4 k_s[8 * C][WIDTH / 4 + 1], v_s[8 * C][WIDTH / 4 + 1];
    __shared__ unsigned char kept[16 * R][C + 1];
    const int tx = lane_column(), ty = lane_row(), tiles = (steps + 16 * R - 1) / (16 * R);
    const int lead = blockIdx.x / tiles, query0 = (tiles - 1 - blockIdx.x % tiles) * 16 * R;
    const int end = a.keys_before(query0 + 16 * R);
    const int key_lead = lead / (heads / key_heads);
    const Matrix q_all = a.part(a.q, lead, heads, steps, width), k_all = a.part(a.k, key_lead, key_heads, keys, width);
    const Matrix v_all = a.part(a.v, key_lead, key_heads, keys, out_width);
    const Matrix dy_all = a.part({dy, dy_batch, dy_head, dy_row}, lead, heads, steps, out_width);
    const bool* mask_part = a.mask_of(lead);
    load<16 * R>(q_s, q_all, query0, a.query_factor(), rounded);
    load<16 * R>(dy_s, dy_all, query0, 1.f, rounded);
    __syncthreads();

    float row_lse[R], row_delta[R];
    float4 sum[R][WIDTH / 32];
    clear<R>(sum);
#pragma unroll
    for (int i = 0; i < R; ++i) {
        const int r = ty + 16 * i, query = query0 + r;
        const Matrix result = {y + a.output(lead, heads, query, out_width, y_batch, y_row), 0, query < steps, out_width};  // no row beyond T
        float part = 0.f;
#pragma unroll
        for (int h = 0; h < WIDTH / 32; ++h) part = dot(dy_s[r][tx + 8 * h], four(result, 0, 4 * tx + 32 * h), part);
        row_delta[i] = rounded ? 0.f : row_sum(part);
        row_lse[i] = query < steps ? lse[static_cast<Long>(lead) * steps + query] : 0.f;
    }

    for (int pass = rounded ? 1 : 2; pass <= 2; ++pass) {  // the first pass is for δ_i = Σ_j p_j m_j dy_i v_j
        for (int key0 = 0; key0 < end; key0 += 8 * C) {
            load<8 * C>(k_s, k_all, key0, 1.f, rounded);
            load<8 * C>(v_s, v_all, key0, 1.f, rounded);
            a.draw<16 * R, 8 * C>(kept, lead, query0, key0);
            __syncthreads();
            float s[R][C], ds[R][C];
            products<R>(s, q_s, k_s);
            products<R>(ds, dy_s, v_s);  // dy_i v_j
#pragma unroll
            for (int i = 0; i < R; ++i) {
                const int r = ty + 16 * i;
                float part = 0.f;
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    const bool seen = a.sees(mask_part, query0 + r, key0 + tx + 8 * j);
                    const float p = seen ? expf(s[i][j] * a.score_factor() - row_lse[i]) : 0.f;
                    if (threshold) ds[i][j] *= keep_factor(kept[r], a.dropout, a.weight(lead, query0 + r, key0), tx + 8 * j);
                    part += p * ds[i][j];
                    ds[i][j] = a.operand(p * (ds[i][j] - row_delta[i]) * a.score_factor());
                }
                if (pass == 1) row_delta[i] += row_sum(part);
            }
            if (pass == 2) {
                exchange_scores<R>(w, ds);
                accumulate<R>(sum, w, k_s);
            }
            __syncthreads();
        }
    }

#pragma unroll
    for (int i = 0; i < R; ++i) {
        const int query = query0 + ty + 16 * i;
        if (query >= steps) continue;
#pragma unroll
        for (int h = 0; h < WIDTH / 32; ++h) {
            float* row = dq + a.output(lead, heads, query, width, dq_batch, dq_row);
            store_four(row, 4 * tx + 32 * h, width, times(sum[i][h], a.query_factor()));
        }
        if (tx == 0) delta[static_cast<Long>(lead) * steps + query] = row_delta[i];
    }
}

// ---------------------------------------------------------------- dk and dv: one block per (entry, head of keys, tile of keys)

extern "C" __global__ void __launch_bounds__(THREADS, 3) scaled_dot_product_attention_key_value_gradients(
    const float* lse, const float* delta, float* dk, float* dv, long long dk_batch, long long dk_row, long long dv_batch, long long dv_row,
    const float* dy, long long dy_batch, long long dy_head, long long dy_row,
    const float* q, const float* k, const float* v, const bool* mask, int heads, int key_heads, int steps, int keys, int width,
    int out_width, long long q_batch, long long q_head, long long q_row, long long k_batch, long long k_head, long long k_row,
    long long v_batch, long long v_head, long long v_row, long long mask_batch, long long mask_head, long long mask_row,
    long long mask_column, int causal, float scale, unsigned long long seed, unsigned long long stream, unsigned int threshold,
    float keep_scale, int rounded) {
    const Attention a = {{q, q_batch, q_head, q_row}, {k, k_batch, k_head, k_row}, {v, v_batch, v_head, v_row}, mask, heads, key_heads,
                         steps, keys, width, out_width, mask_batch, mask_head, mask_row, mask_column, causal, scale,
                         {seed, stream, threshold, keep_scale}, rounded};
    constexpr int R = BACKWARD_R;
    __shared__ float4 k_s[16 * R][WIDTH / 4 + 1], v_s[16 * R][WIDTH / 4 + 1], w[16 * R][2 * C + 1];
    __shared__ float4 q_s[8 * C][WIDTH / 4 + 1], dy_s[8 * C][WIDTH / 4 + 1];
    __shared__ float lse_s[8 * C], delta_s[8 * C];
    __shared__ unsigned char kept[8 * C][2 * R + 1];
    const int tx = lane_column(), ty = lane_row(), tiles = (keys + 16 * R - 1) / (16 * R);
    const int key_lead = blockIdx.x / tiles, key0 = blockIdx.x % tiles * 16 * R;
    float4 dk_sum[R][WIDTH / 32], dv_sum[R][WIDTH / 32];
    clear<R>(dk_sum);
    clear<R>(dv_sum);
    load<16 * R>(k_s, a.part(a.k, key_lead, key_heads, keys, width), key0, 1.f, rounded);
    load<16 * R>(v_s, a.part(a.v, key_lead, key_heads, keys, out_width), key0, 1.f, rounded);

    const int sharing = heads / key_heads;
    for (int lead = key_lead * sharing; lead < (key_lead + 1) * sharing; ++lead) {  // the heads that look at these keys
        const Matrix q_all = a.part(a.q, lead, heads, steps, width);
        const Matrix dy_all = a.part({dy, dy_batch, dy_head, dy_row}, lead, heads, steps, out_width);
        const bool* mask_part = a.mask_of(lead);
        for (int query0 = a.queries_from(key0); query0 < steps; query0 += 8 * C) {
            load<8 * C>(q_s, q_all, query0, a.query_factor(), rounded);
            load<8 * C>(dy_s, dy_all, query0, 1.f, rounded);
            a.draw<8 * C, 16 * R>(kept, lead, query0, key0);
            if (threadIdx.x < 8 * C) {
                const int query = query0 + threadIdx.x;
                lse_s[threadIdx.x] = query < steps ? lse[static_cast<Long>(lead) * steps + query] : 0.f;
                delta_s[threadIdx.x] = query < steps ? delta[static_cast<Long>(lead) * steps + query] : 0.f;
            }
            __syncthreads();
            float p[R][C], ds[R][C];
            products<R>(p, k_s, q_s);
            products<R>(ds, v_s, dy_s);
#pragma unroll
            for (int i = 0; i < R; ++i) {
                const int r = ty + 16 * i;
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    const int c = tx + 8 * j;
                    p[i][j] = a.sees(mask_part, query0 + c, key0 + r) ? expf(p[i][j] * a.score_factor() - lse_s[c]) : 0.f;
                    const float keep = threshold ? keep_factor(kept[c], a.dropout, a.weight(lead, query0 + c, key0), r) : 1.f;
                    ds[i][j] = a.operand(p[i][j] * (ds[i][j] * keep - delta_s[c]) * a.score_factor());
                    p[i][j] = a.operand(p[i][j] * keep);
                }
            }
            exchange_scores<R>(w, p);
            accumulate<R>(dv_sum, w, dy_s);
            exchange_scores<R>(w, ds);
            accumulate<R>(dk_sum, w, q_s);  // q_s or ds carries the scale
            __syncthreads();
        }
    }

#pragma unroll
    for (int i = 0; i < R; ++i) {
        const int key = key0 + ty + 16 * i;
        if (key >= keys) continue;
#pragma unroll
        for (int h = 0; h < WIDTH / 32; ++h) {
            store_four(dk + a.output(key_lead, key_heads, key, width, dk_batch, dk_row), 4 * tx + 32 * h, width, dk_sum[i][h]);
            store_four(dv + a.output(key_lead, key_heads, key, out_width, dv_batch, dv_row), 4 * tx + 32 * h, out_width, dv_sum[i][h]);
        }
    }
}
