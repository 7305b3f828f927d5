/* The steps that both directions of scaled dot-product attention take for a block of queries: scores, softmax, dropout. */

#include "attention.h"

#include "functions.h"
#include "philox.h"
#include "pool.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 8 }; /* 32-bit numbers of a block of the random stream */

EXPORT_SIZE(Strides)
EXPORT_SIZE(AttentionLayout)
EXPORT_SIZE(AttentionGradientLayout)
EXPORT_SIZE(AttentionDropout)

float *workspaces(int64_t *size) {
    *size = (*size / 16 + 1) * 16;
    return aligned_alloc(64, sizeof(float) * (size_t)(pool_parts() * *size));
}

void pack_keys(const Attention *a, const float *k, const Strides *strides, int64_t pair, int64_t columns, int transposed, float *packed) {
    const float *from = k + key_offset(a, strides, pair, 0);
    panels_pack(from, strides->row, transposed, transposed ? columns : a->at.keys, transposed ? a->at.keys : columns, packed, a->rounded);
}

void block_scores(
    const Attention *a, int64_t pair, int64_t first, int64_t rows, int64_t keys, const float *packed, float *scaled, float *scores
) {
    int64_t width = a->at.width;
    if (a->rounded) { /* what is rounded is Q: the product is scaled */
        const float *q = a->q + offset(a, &a->at.q, pair, first);
        panels_multiply(q, a->at.q.row, 0, rows, width, packed, width, whole(keys), scores, score_stride(a), 0, 1);
        for (int64_t r = 0; r < rows; r++) scale_row(scores + r * score_stride(a), whole(keys), a->scale);
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        const float *q = a->q + offset(a, &a->at.q, pair, first + r);
        for (int64_t i = 0; i < width; i++) scaled[r * width + i] = a->scale * q[i];
    }
    panels_multiply(scaled, width, 0, rows, width, packed, width, whole(keys), scores, score_stride(a), 0, 0);
}

/* Sets the scores of keys that a query may not look at to -inf, up to whole_keys, and to 0 from there on. */
static void hide(const Attention *a, int64_t pair, int64_t query, int64_t keys, float *scores) {
    int64_t seen = keys_before(a, query + 1), end = whole(seen);
    for (int64_t j = seen; j < end; j++) scores[j] = -INFINITY;
    for (int64_t j = end; j < keys; j++) scores[j] = 0;
    if (!a->mask) return;
    const uint8_t *mask = a->mask + offset(a, &a->at.mask, pair, query);
#pragma omp simd
    for (int64_t j = 0; j < seen; j++) scores[j] = mask[j] ? scores[j] : -INFINITY;
}

/* Each step is done for all rows before the next one, since within a row it must wait for the result of the previous one. */
void exponentials(const Attention *a, int64_t pair, int64_t first, int64_t rows, int64_t keys, float *scores, float *inverse) {
    int64_t stride = score_stride(a);
    float all_largest[BLOCK_ROWS];
    for (int64_t r = 0; r < rows; r++) hide(a, pair, first + r, keys, scores + r * stride);
    for (int64_t r = 0; r < rows; r++) {
        float largest = largest_of(scores + r * stride, whole_keys(a, first + r));
        all_largest[r] = largest == -INFINITY ? 0 : largest; /* so that -inf - m is not NaN */
    }
    for (int64_t r = 0; r < rows; r++) {
        float *s = scores + r * stride, largest = all_largest[r];
        int64_t n = whole_keys(a, first + r);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float x = s[j] - largest, e = exp_of(x);
            s[j] = x < -87.0f ? 0 : e;
        }
    }
    for (int64_t r = 0; r < rows; r++) {
        float sum = sum_of(scores + r * stride, whole_keys(a, first + r));
        inverse[r] = sum == 0 ? 0 : 1 / sum;
    }
}

/* A row may begin anywhere within a block of the stream. */
void draw_words(const Attention *a, int64_t pair, int64_t first, int64_t rows, uint32_t *words) {
    for (int64_t query = first; query < first + rows; query++, words += score_stride(a)) {
        int64_t begin = (pair * a->at.steps + query) * a->at.keys, end = begin + keys_before(a, query + 1);
        for (int64_t word = begin / WORDS * WORDS; word < end; word += WORDS) {
            uint64_t drawn[WORDS / 2];
            uint32_t halves[WORDS];
            philox(a->dropout->key0, a->dropout->key1, (uint64_t)(word / WORDS), drawn);
            for (int i = 0; i < WORDS; i++) halves[i] = (uint32_t)(drawn[i / 2] >> i % 2 * 32);
            if (word >= begin && word + WORDS <= end) {
                memcpy(words + (word - begin), halves, sizeof halves);
            } else {
                for (int64_t at = word < begin ? begin : word; at < word + WORDS && at < end; at++) words[at - begin] = halves[at - word];
            }
        }
    }
}

void drop(const Attention *a, int64_t first, int64_t rows, const uint32_t *words, float *weights) {
    const uint32_t threshold = (uint32_t)a->dropout->threshold;
    const float scale = a->dropout->keep_scale;
    for (int64_t r = 0; r < rows; r++, words += score_stride(a), weights += score_stride(a)) {
        int64_t n = keys_before(a, first + r + 1);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) weights[j] *= words[j] >= threshold ? scale : 0;
    }
}

void multiply_first(
    const Attention *a, const float *block, int64_t rows, int64_t k, const float *packed, int64_t n, float *c, int64_t c_stride
) {
    panels_multiply(block, score_stride(a), 0, rows, k, packed, a->at.keys, n, c, c_stride, 0, a->rounded);
}
