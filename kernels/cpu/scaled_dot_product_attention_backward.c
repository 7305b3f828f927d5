/* The gradients of Y = softmax(scale Q Kᵀ + mask) V: with P the softmax,
   dV = Pᵀ dY,  dP = dY Vᵀ,  dS = scale P (dP - δ),  δ = Σ P dP over each row,  dQ = dS K,  dK = dSᵀ Q;
   the factors of dropout, drawn again, multiply dP and the P of dV.

   Each part takes whole pairs of a batch entry and a head of K and V, since all queries of a pair add to its dK and dV. For one block
   of queries at a time it computes P again, and dP: both stay in the cache for the three products that need them. */

#include "attention.h"
#include "pool.h"
#include "sums.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    Attention attention;
    AttentionGradientLayout at;
    const float *dy;
    float *dq, *dk, *dv;
    float *workspaces;
    int64_t workspace_size; /* of each part */
} Backward;

/* What each part has for itself. */
typedef struct {
    float *k_transposed, *v_transposed, *k; /* packed once per pair */
    float *scaled, *packed_rows;            /* scale Q of a block; Q or dY of a block, packed */
    float *p, *ds;                          /* (BLOCK_ROWS, score_stride) */
    uint32_t *words;                        /* the same */
} Workspace;

static int64_t wider(const AttentionLayout *at) { return panels_columns(at->width > at->out_width ? at->width : at->out_width); }

/* Floats of what is packed. */
static int64_t k_transposed_size(const Attention *a) { return panels_depth(a->at.width, a->rounded) * panels_columns(a->at.keys); }
static int64_t v_transposed_size(const Attention *a) { return panels_depth(a->at.out_width, a->rounded) * panels_columns(a->at.keys); }
static int64_t k_size(const Attention *a) { return panels_depth(a->at.keys, a->rounded) * panels_columns(a->at.width); }
static int64_t rows_size(const Attention *a) { return panels_depth(BLOCK_ROWS, a->rounded) * wider(&a->at); }

static int64_t workspace_size(const Attention *a) {
    const AttentionLayout *at = &a->at;
    int64_t block = wider(at) + 3 * score_stride(a);
    return k_transposed_size(a) + v_transposed_size(a) + k_size(a) + rows_size(a) + BLOCK_ROWS * block;
}

static Workspace divide_workspace(const Attention *a, float *start) {
    Workspace r = {.k_transposed = start};
    r.v_transposed = r.k_transposed + k_transposed_size(a);
    r.k = r.v_transposed + v_transposed_size(a);
    r.scaled = r.k + k_size(a);
    r.packed_rows = r.scaled + BLOCK_ROWS * wider(&a->at);
    r.p = r.packed_rows + rows_size(a);
    r.ds = r.p + BLOCK_ROWS * score_stride(a);
    r.words = (uint32_t *)r.ds + BLOCK_ROWS * score_stride(a);
    return r;
}

static void clear(float *data, int64_t rows, int64_t stride, int64_t columns) {
    for (int64_t row = 0; row < rows; row++) memset(data + row * stride, 0, sizeof(float) * (size_t)columns);
}

/* Turns a block's scores into weights, and its dP into dS. */
static void softmax_gradient(const Attention *a, const Workspace *workspace, int64_t pair, int64_t first, int64_t rows, int64_t keys) {
    int64_t stride = score_stride(a);
    float inverse[BLOCK_ROWS], delta[BLOCK_ROWS], scale = a->scale, *p = workspace->p, *ds = workspace->ds;
    exponentials(a, pair, first, rows, keys, p, inverse);
    if (a->dropout) {
        draw_words(a, pair, first, rows, workspace->words);
        drop(a, first, rows, workspace->words, ds);
    }
    for (int64_t r = 0; r < rows; r++) delta[r] = inverse[r] * dot(p + r * stride, ds + r * stride, whole_keys(a, first + r));
    for (int64_t r = 0; r < rows; r++, p += stride, ds += stride) {
        int64_t n = whole_keys(a, first + r);
        float inverse_r = inverse[r], delta_r = delta[r];
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            p[j] *= inverse_r;
            ds[j] = scale * (p[j] * (ds[j] - delta_r));
        }
        for (int64_t j = n; j < keys; j++) ds[j] = 0;
    }
    if (a->dropout) drop(a, first, rows, workspace->words, workspace->p);
}

/* dk and dv belong to the pair; the block adds to them. */
static void block(const Backward *b, const Workspace *r, int64_t pair, int64_t first, int64_t rows, float *dk, float *dv) {
    const Attention *a = &b->attention;
    const AttentionLayout *at = &a->at;
    int64_t stride = score_stride(a), keys = keys_before(a, first + rows), dy_row = b->at.dy.row;
    const float *q = a->q + offset(a, &at->q, pair, first), *dy = b->dy + offset(a, &b->at.dy, pair, first);
    block_scores(a, pair, first, rows, keys, r->k_transposed, r->scaled, r->p);
    panels_multiply(dy, dy_row, 0, rows, at->out_width, r->v_transposed, at->out_width, whole(keys), r->ds, stride, 0, a->rounded);
    softmax_gradient(a, r, pair, first, rows, keys);
    panels_pack(dy, dy_row, 0, rows, at->out_width, r->packed_rows, a->rounded);
    panels_multiply(r->p, stride, 1, keys, rows, r->packed_rows, rows, at->out_width, dv, b->at.dv.row, 1, a->rounded);
    panels_pack(q, at->q.row, 0, rows, at->width, r->packed_rows, a->rounded);
    panels_multiply(r->ds, stride, 1, keys, rows, r->packed_rows, rows, at->width, dk, b->at.dk.row, 1, a->rounded);
    multiply_first(a, r->ds, rows, keys, r->k, at->width, b->dq + offset(a, &b->at.dq, pair, first), b->at.dq.row);
}

static void pairs_part(void *argument, int part, int parts) {
    const Backward *b = argument;
    const Attention *a = &b->attention;
    const AttentionLayout *at = &a->at;
    Workspace workspace = divide_workspace(a, b->workspaces + part * b->workspace_size);
    int64_t begin, end;
    part_range(pairs_of(a) / at->group, 1, part, parts, &begin, &end);
    for (int64_t shared = begin; shared < end; shared++) {
        int64_t pair = shared * at->group;
        pack_keys(a, a->k, &at->k, pair, at->width, 1, workspace.k_transposed);
        pack_keys(a, a->k, &at->k, pair, at->width, 0, workspace.k);
        pack_keys(a, a->v, &at->v, pair, at->out_width, 1, workspace.v_transposed);
        float *dk = b->dk + key_offset(a, &b->at.dk, pair, 0), *dv = b->dv + key_offset(a, &b->at.dv, pair, 0);
        clear(dk, at->keys, b->at.dk.row, at->width);
        clear(dv, at->keys, b->at.dv.row, at->out_width);
        for (; pair < (shared + 1) * at->group; pair++) {
            for (int64_t first = 0; first < at->steps; first += BLOCK_ROWS) {
                block(b, &workspace, pair, first, at->steps - first < BLOCK_ROWS ? at->steps - first : BLOCK_ROWS, dk, dv);
            }
        }
    }
}

EXPORT int scaled_dot_product_attention_backward(
    const AttentionLayout *layout, int rounded, float scale, const AttentionDropout *dropout, const float *q, const float *k, const float *v,
    const uint8_t *mask, const AttentionGradientLayout *gradients, const float *dy, float *dq, float *dk, float *dv
) {
    Backward b = {{*layout, rounded, scale, dropout, q, k, v, mask}, *gradients, dy, dq, dk, dv, 0, 0};
    b.workspace_size = workspace_size(&b.attention);
    b.workspaces = workspaces(&b.workspace_size);
    if (!b.workspaces) return NO_MEMORY;
    int64_t scores = pairs_of(&b.attention) * layout->steps * layout->keys / (layout->causal ? 2 : 1);
    pool_run(pairs_part, &b, scores * (3 * layout->width + 2 * layout->out_width + 16));
    free(b.workspaces);
    return 0;
}
