/* Y = softmax(scale Q Kᵀ + mask) V for each pair of a batch entry and a head: q (N, heads, T, D), k (N, heads, S, D),
   v (N, heads, S, E) -> y (N, heads, T, E), read and written in place through their strides. K and V may have fewer heads; each of
   these then serves `group` neighbouring heads of Q.

   Each part takes some blocks of queries, one after the other. Kᵀ and V are packed once per pair, or once per group. The scores
   of a block with all keys stay in the cache from the first product, through softmax and dropout, to the second one:
   there is never a (T, S) matrix, and nothing is kept for the backward pass. Keys that no query of a block may look at
   are skipped; those that only some of its queries may look at have a weight of 0 for the others.

   For one to four queries, as in decoding, packing would cost more than the products: plain inner products are used. */

#include "attention.h"
#include "bfloat16.h"
#include "pool.h"
#include "sums.h"

#include <stdlib.h>

enum { FEW_QUERIES = 4 };

typedef struct {
    Attention attention;
    float *y;
    float *workspaces;
    int64_t workspace_size; /* of each part */
} Forward;

static float *result_row(const Forward *f, int64_t pair, int64_t query) {
    return f->y + offset(&f->attention, &f->attention.at.y, pair, query);
}

/* ---------------------------------------------------------------- many queries */

typedef struct {
    float *k_transposed, *v; /* packed once per pair */
    float *scaled, *scores;  /* of a block */
    uint32_t *words;
} Workspace;

/* Floats of what is packed. */
static int64_t k_transposed_size(const Attention *a) { return panels_depth(a->at.width, a->rounded) * panels_columns(a->at.keys); }
static int64_t v_size(const Attention *a) { return panels_depth(a->at.keys, a->rounded) * panels_columns(a->at.out_width); }

static int64_t block_workspace(const Attention *a) {
    return k_transposed_size(a) + v_size(a) + BLOCK_ROWS * (panels_columns(a->at.width) + 2 * score_stride(a));
}

static Workspace divide_workspace(const Attention *a, float *start) {
    Workspace r = {.k_transposed = start};
    r.v = r.k_transposed + k_transposed_size(a);
    r.scaled = r.v + v_size(a);
    r.scores = r.scaled + BLOCK_ROWS * panels_columns(a->at.width);
    r.words = (uint32_t *)r.scores + BLOCK_ROWS * score_stride(a);
    return r;
}

static void block(const Forward *f, const Workspace *r, int64_t pair, int64_t first, int64_t rows) {
    const Attention *a = &f->attention;
    int64_t keys = keys_before(a, first + rows);
    float inverse[BLOCK_ROWS];
    block_scores(a, pair, first, rows, keys, r->k_transposed, r->scaled, r->scores);
    exponentials(a, pair, first, rows, keys, r->scores, inverse);
    if (a->dropout) {
        draw_words(a, pair, first, rows, r->words);
        drop(a, first, rows, r->words, r->scores);
    }
    if (a->rounded) { /* what is rounded are the softmax's weights: they are scaled before, not after */
        for (int64_t i = 0; i < rows; i++) scale_row(r->scores + i * score_stride(a), keys, inverse[i]);
        multiply_first(a, r->scores, rows, keys, r->v, a->at.out_width, result_row(f, pair, first), a->at.y.row);
        return;
    }
    multiply_first(a, r->scores, rows, keys, r->v, a->at.out_width, result_row(f, pair, first), a->at.y.row);
    for (int64_t i = 0; i < rows; i++) scale_row(result_row(f, pair, first + i), a->at.out_width, inverse[i]);
}

static void blocks_part(void *argument, int part, int parts) {
    const Forward *f = argument;
    const Attention *a = &f->attention;
    const AttentionLayout *at = &a->at;
    Workspace workspace = divide_workspace(a, f->workspaces + part * f->workspace_size);
    int64_t blocks = (at->steps + BLOCK_ROWS - 1) / BLOCK_ROWS, begin, end, packed = -1;
    part_range(pairs_of(a) * blocks, 1, part, parts, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t pair = i / blocks, first = i % blocks * BLOCK_ROWS;
        if (pair / at->group != packed) {
            pack_keys(a, a->k, &at->k, pair, at->width, 1, workspace.k_transposed);
            pack_keys(a, a->v, &at->v, pair, at->out_width, 0, workspace.v);
            packed = pair / at->group;
        }
        block(f, &workspace, pair, first, at->steps - first < BLOCK_ROWS ? at->steps - first : BLOCK_ROWS);
    }
}

/* ---------------------------------------------------------------- few queries */

/* Σ x round(y) over n numbers. */
static float rounded_dot(const float *x, const float *y, int64_t n) {
    float sums[2 * SUMS] = {0}, rest = 0;
    int64_t j = 0;
    for (; j + 2 * SUMS <= n; j += 2 * SUMS) {
#pragma omp simd
        for (int i = 0; i < 2 * SUMS; i++) sums[i] += x[j + i] * rounded_to_bfloat16(y[j + i]);
    }
    for (; j < n; j++) rest += x[j] * rounded_to_bfloat16(y[j]);
    return add_up(sums) + rest;
}

/* y += Σ round(inverse e_j) round(v_j) over the keys. */
static void add_rounded(const float *e, float inverse, int64_t keys, const float *v, int64_t stride, float *y, int64_t columns) {
    for (int64_t j = 0; j < keys; j++, v += stride) {
        const float weight = rounded_to_bfloat16(inverse * e[j]);
#pragma omp simd
        for (int64_t i = 0; i < columns; i++) y[i] += weight * rounded_to_bfloat16(v[i]);
    }
}

static void query_row(const Forward *f, int64_t pair, int64_t query, float *scores, uint32_t *words) {
    const Attention *a = &f->attention;
    int64_t columns = a->at.out_width, keys = keys_before(a, query + 1), stride = a->at.v.row, j = 0;
    const float *q = a->q + offset(a, &a->at.q, pair, query), *k = a->k + key_offset(a, &a->at.k, pair, 0);
    const float *v = a->v + key_offset(a, &a->at.v, pair, 0);
    float *y = result_row(f, pair, query), inverse;
    if (a->rounded) {
        float *rounded = scores + 2 * score_stride(a);
        round_row(q, a->at.width, rounded);
        for (; j < keys; j++) scores[j] = a->scale * rounded_dot(rounded, k + j * a->at.k.row, a->at.width);
    }
    for (; j < keys; j++) scores[j] = a->scale * dot(q, k + j * a->at.k.row, a->at.width);
    exponentials(a, pair, query, 1, keys, scores, &inverse);
    if (a->dropout) {
        draw_words(a, pair, query, 1, words);
        drop(a, query, 1, words, scores);
    }
    for (int64_t e = 0; e < columns; e++) y[e] = 0;
    if (a->rounded) {
        add_rounded(scores, inverse, keys, v, stride, y, columns);
        return;
    }
    for (j = 0; j + 4 <= keys; j += 4, v += 4 * stride) { /* y is read and written once for 4 keys */
        const float *s = scores + j;
#pragma omp simd
        for (int64_t e = 0; e < columns; e++) {
            y[e] += s[0] * v[e] + s[1] * v[stride + e] + s[2] * v[2 * stride + e] + s[3] * v[3 * stride + e];
        }
    }
    for (; j < keys; j++, v += stride) {
        for (int64_t e = 0; e < columns; e++) y[e] += scores[j] * v[e];
    }
    scale_row(y, columns, inverse);
}

static void rows_part(void *argument, int part, int parts) {
    const Forward *f = argument;
    int64_t steps = f->attention.at.steps, begin, end;
    float *scores = f->workspaces + part * f->workspace_size;
    uint32_t *words = (uint32_t *)scores + score_stride(&f->attention);
    part_range(pairs_of(&f->attention) * steps, 1, part, parts, &begin, &end);
    for (int64_t i = begin; i < end; i++) query_row(f, i / steps, i % steps, scores, words);
}

EXPORT int scaled_dot_product_attention_forward(
    const AttentionLayout *layout, int rounded, float scale, const AttentionDropout *dropout, const float *q, const float *k, const float *v,
    const uint8_t *mask, float *y
) {
    Forward f = {{*layout, rounded, scale, dropout, q, k, v, mask}, .y = y};
    Attention *a = &f.attention;
    int few = a->at.steps <= FEW_QUERIES;
    f.workspace_size = few ? 2 * score_stride(a) + a->at.width : block_workspace(a);
    f.workspaces = workspaces(&f.workspace_size);
    if (!f.workspaces) return NO_MEMORY;
    int64_t scores = pairs_of(a) * a->at.steps * a->at.keys / (a->at.causal ? 2 : 1);
    pool_run(few ? rows_part : blocks_part, &f, scores * (a->at.width + a->at.out_width + 16));
    free(f.workspaces);
    return 0;
}
