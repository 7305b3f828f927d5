/* What both directions of scaled dot-product attention need: see scaled_dot_product_attention.c. A pair is a batch
   entry and a head; a block is up to BLOCK_ROWS queries of a pair. */
#ifndef TINYLM_ATTENTION_H
#define TINYLM_ATTENTION_H

#include "panels.h"

#include <stdint.h>

/* Floats (of a mask: bytes) from one batch entry, head or row of an array (N, heads, rows, columns) to the next. */
typedef struct {
    int64_t batch, head, row;
} Strides;

/* N, heads, how many heads of q use the same one of k and v, T, S, D, E, whether causal, and the strides. */
typedef struct {
    int64_t batch, heads, group, steps, keys, width, out_width, causal;
    Strides q, k, v, mask, y;
} AttentionLayout;

typedef struct {
    Strides dy, dq, dk, dv;
} AttentionGradientLayout;

/* A weight is kept, times keep_scale, if its 32-bit word of the key's random stream is at least the threshold. */
typedef struct {
    uint64_t key0, key1, threshold;
    float keep_scale;
} AttentionDropout;

typedef struct {
    AttentionLayout at;
    int rounded;
    float scale;
    const AttentionDropout *dropout; /* null: none */
    const float *q, *k, *v;
    const uint8_t *mask; /* null: none */
} Attention;

enum { BLOCK_ROWS = 2 * TILE_ROWS };

static inline int64_t pairs_of(const Attention *a) { return a->at.batch * a->at.heads; }

/* Where a row of a pair begins. */
static inline int64_t offset(const Attention *a, const Strides *s, int64_t pair, int64_t row) {
    return pair / a->at.heads * s->batch + pair % a->at.heads * s->head + row * s->row;
}

/* The same for K, V and their gradients. */
static inline int64_t key_offset(const Attention *a, const Strides *s, int64_t pair, int64_t row) {
    return pair / a->at.heads * s->batch + pair % a->at.heads / a->at.group * s->head + row * s->row;
}

/* The number of keys that some query before `query` may look at: the first ones. */
static inline int64_t keys_before(const Attention *a, int64_t query) {
    int64_t n = a->at.causal ? query + a->at.keys - a->at.steps : a->at.keys;
    return n < 0 ? 0 : n > a->at.keys ? a->at.keys : n;
}

/* n rounded up to whole vectors. */
static inline int64_t whole(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* The number of keys that a query may look at, rounded up to whole vectors: loops over them have no slow remainder. */
static inline int64_t whole_keys(const Attention *a, int64_t query) { return whole(keys_before(a, query + 1)); }

/* Floats from one row of a block's scores to the next. Rows a power of two apart would compete for a few cache lines. */
static inline int64_t score_stride(const Attention *a) { return panels_columns(a->at.keys) + LANES; }

/* A workspace of `size` floats for every part, aligned to cache lines; size is rounded up to whole lines. Null if there is no memory. */
float *workspaces(int64_t *size);

/* Packs a pair's K or V, (S, columns), or its transpose. */
void pack_keys(const Attention *a, const float *k, const Strides *strides, int64_t pair, int64_t columns, int transposed, float *packed);

/* x *= factor. */
static inline void scale_row(float *x, int64_t n, float factor) {
    for (int64_t j = 0; j < n; j++) x[j] *= factor;
}

/* scale Q Kᵀ of a block and the first `keys` keys, rounded up to whole vectors; packed is Kᵀ. scaled is the workspace for scale Q. */
void block_scores(
    const Attention *a, int64_t pair, int64_t first, int64_t rows, int64_t keys, const float *packed, float *scaled, float *scores
);

/* Overwrites the scores s of a block with e^(s - m), where m is the largest score of a query, and sets inverse to 1 / Σ e^(s - m), or
   to 0 for a query that may look nowhere. Keys that the query may not look at get 0, and so does what follows up to whole_keys and up
   to `keys`. */
void exponentials(const Attention *a, int64_t pair, int64_t first, int64_t rows, int64_t keys, float *scores, float *inverse);

/* Dropout. draw_words: the 32-bit words of a block's weights; the number of a weight's word in the key's stream is the weight's own
   in (N, heads, T, S). drop: multiplies the weights, or an array of the same layout, by keep_scale where the word is at least the
   threshold, else by 0. */
void draw_words(const Attention *a, int64_t pair, int64_t first, int64_t rows, uint32_t *words);
void drop(const Attention *a, int64_t first, int64_t rows, const uint32_t *words, float *weights);

/* C (rows, n) = A B for a block A and the first k rows of B (S, n); packed is all of B. */
void multiply_first(
    const Attention *a, const float *block, int64_t rows, int64_t k, const float *packed, int64_t n, float *c, int64_t c_stride
);

#endif
