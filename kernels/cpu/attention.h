/* What the two directions of scaled dot-product attention share: see scaled_dot_product_attention.c. A pair is a batch
   entry and a head, a block up to BLOCK_ROWS queries of a pair. */
#ifndef TINYLM_ATTENTION_H
#define TINYLM_ATTENTION_H

#include "panels.h"

#include <stdint.h>

/* Floats (of a mask: bytes) from one batch entry, head or row of an array (N, heads, rows, columns) to the next. */
typedef struct {
    int64_t batch, head, row;
} Strides;

/* What Python hands over as numbers, in this order: N, heads, how many heads of q share one of k and v, T, S, D, E, whether
   causal, and the strides. */
typedef struct {
    int64_t batch, heads, group, steps, keys, width, out_width, causal;
    Strides q, k, v, mask, y;
} Layout;

typedef struct {
    Layout at;
    const float *q, *k, *v;
    const uint8_t *mask;  /* null: none */
    const uint64_t *draw; /* of dropout, the key's two numbers and the threshold; null: none */
    float scale, keep_scale;
} Attention;

enum { BLOCK_ROWS = 2 * TILE_ROWS };

static inline int64_t pairs_of(const Attention *a) { return a->at.batch * a->at.heads; }

/* Where a row of a pair begins. */
static inline int64_t offset(const Attention *a, const Strides *s, int64_t pair, int64_t row) {
    return pair / a->at.heads * s->batch + pair % a->at.heads * s->head + row * s->row;
}

/* The same in K, V and their gradients. */
static inline int64_t key_offset(const Attention *a, const Strides *s, int64_t pair, int64_t row) {
    return pair / a->at.heads * s->batch + pair % a->at.heads / a->at.group * s->head + row * s->row;
}

/* The keys that some query before `query` may look at are those before this one. */
static inline int64_t keys_before(const Attention *a, int64_t query) {
    int64_t n = a->at.causal ? query + a->at.keys - a->at.steps : a->at.keys;
    return n < 0 ? 0 : n > a->at.keys ? a->at.keys : n;
}

/* Up to whole vectors. */
static inline int64_t whole(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* A query's number of keys, up to whole vectors, since loops over those have no slow end. */
static inline int64_t whole_keys(const Attention *a, int64_t query) { return whole(keys_before(a, query + 1)); }

/* Floats from one row of a block's scores to the next: rows a power of two apart would share few lines of the cache. */
static inline int64_t score_stride(const Attention *a) { return panels_columns(a->at.keys) + LANES; }

/* Room for every part, `size` floats each, on the boundaries of cache lines: size is rounded up to whole lines. Null: no memory. */
float *rooms(int64_t *size);

/* Packs a pair's K or V, (S, columns), or its transpose. */
void pack_keys(const Attention *a, const float *k, const Strides *strides, int64_t pair, int64_t columns, int transposed, float *packed);

/* scale Q Kᵀ of a block and the first `keys` keys, up to whole vectors, for Kᵀ packed. scaled has room for scale Q. */
void block_scores(
    const Attention *a, int64_t pair, int64_t first, int64_t rows, int64_t keys, const float *packed, float *scaled, float *scores
);

/* e^(s - m) in place of the scores s of a block, with m the largest of a query, and 1 / Σ e^(s - m), which is 0 for a
   query that may look nowhere. 0 for keys that the query may not look at, as for what follows up to whole_keys and up to `keys`. */
void exponentials(const Attention *a, int64_t pair, int64_t first, int64_t rows, int64_t keys, float *scores, float *inverse);

/* Dropout: a weight has the 32-bit word of the key's stream with its own place in (N, heads, T, S). The words of a block's weights;
   and the weights, or what else lies as they do, times keep_scale where the word is at least the threshold, else times 0. */
void draw_words(const Attention *a, int64_t pair, int64_t first, int64_t rows, uint32_t *words);
void drop(const Attention *a, int64_t first, int64_t rows, const uint32_t *words, float *weights);

/* C (rows, n) = A B, with a block A and the first k rows of B (S, n), which has been packed whole. */
void multiply_first(
    const Attention *a, const float *block, int64_t rows, int64_t k, const float *packed, int64_t n, float *c, int64_t c_stride
);

#endif
