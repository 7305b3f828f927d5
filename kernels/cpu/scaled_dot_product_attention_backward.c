/* The gradients of Y = softmax(scale Q Kᵀ + mask) V: with P the softmax,
   dV = Pᵀ dY,  dP = dY Vᵀ,  dS = scale P (dP - δ),  δ = Σ P dP a row,  dQ = dS K,  dK = dSᵀ Q;
   dropout's factors, drawn anew, multiply dP and the P of dV.

   A part of the pool takes whole pairs of a batch entry and a head of K and V, since all its queries add to dK and dV. It computes P
   anew for a block of queries at a time, and dP beside it: both stay in the cache for the three products that they go into. */

#include "attention.h"
#include "pool.h"
#include "sums.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    Strides dy, dq, dk, dv;
} Layouts; /* what Python hands over as further numbers, in this order */

typedef struct {
    Attention attention;
    Layouts at;
    const float *dy;
    float *dq, *dk, *dv;
    float *room;
    int64_t room_size; /* of each part */
} Backward;

/* What a part holds. */
typedef struct {
    float *k_transposed, *v_transposed, *k; /* packed once a pair */
    float *scaled, *packed_rows;            /* scale Q of a block; Q or dY of a block, packed */
    float *p, *ds;                          /* (BLOCK_ROWS, score_stride) */
    uint32_t *words;                        /* the same */
} Room;

static int64_t wider(const Layout *at) { return panels_columns(at->width > at->out_width ? at->width : at->out_width); }

static int64_t room_size(const Attention *a) {
    const Layout *at = &a->at;
    int64_t keys = panels_columns(at->keys), block = 2 * wider(at) + 3 * score_stride(a);
    return keys * (at->width + at->out_width) + at->keys * panels_columns(at->width) + BLOCK_ROWS * block;
}

static Room divide_room(const Attention *a, float *start) {
    const Layout *at = &a->at;
    Room r = {.k_transposed = start};
    r.v_transposed = r.k_transposed + at->width * panels_columns(at->keys);
    r.k = r.v_transposed + at->out_width * panels_columns(at->keys);
    r.scaled = r.k + at->keys * panels_columns(at->width);
    r.packed_rows = r.scaled + BLOCK_ROWS * wider(at);
    r.p = r.packed_rows + BLOCK_ROWS * wider(at);
    r.ds = r.p + BLOCK_ROWS * score_stride(a);
    r.words = (uint32_t *)r.ds + BLOCK_ROWS * score_stride(a);
    return r;
}

static void clear(float *data, int64_t rows, int64_t stride, int64_t columns) {
    for (int64_t row = 0; row < rows; row++) memset(data + row * stride, 0, sizeof(float) * (size_t)columns);
}

/* From a block's scores to the weights, and from its dP to dS. */
static void softmax_gradient(const Attention *a, const Room *room, int64_t pair, int64_t first, int64_t rows, int64_t keys) {
    int64_t stride = score_stride(a);
    float inverse[BLOCK_ROWS], delta[BLOCK_ROWS], scale = a->scale, *p = room->p, *ds = room->ds;
    exponentials(a, pair, first, rows, keys, p, inverse);
    if (a->draw) {
        draw_words(a, pair, first, rows, room->words);
        drop(a, first, rows, room->words, ds);
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
    if (a->draw) drop(a, first, rows, room->words, room->p);
}

/* dk and dv are the pair's, to which the block adds. */
static void block(const Backward *b, const Room *r, int64_t pair, int64_t first, int64_t rows, float *dk, float *dv) {
    const Attention *a = &b->attention;
    const Layout *at = &a->at;
    int64_t stride = score_stride(a), keys = keys_before(a, first + rows), dy_row = b->at.dy.row;
    const float *q = a->q + offset(a, &at->q, pair, first), *dy = b->dy + offset(a, &b->at.dy, pair, first);
    block_scores(a, pair, first, rows, keys, r->k_transposed, r->scaled, r->p);
    panels_multiply(dy, dy_row, 0, rows, at->out_width, r->v_transposed, whole(keys), r->ds, stride, 0);
    softmax_gradient(a, r, pair, first, rows, keys);
    panels_pack(dy, dy_row, 0, rows, at->out_width, r->packed_rows);
    panels_multiply(r->p, stride, 1, keys, rows, r->packed_rows, at->out_width, dv, b->at.dv.row, 1);
    panels_pack(q, at->q.row, 0, rows, at->width, r->packed_rows);
    panels_multiply(r->ds, stride, 1, keys, rows, r->packed_rows, at->width, dk, b->at.dk.row, 1);
    multiply_first(a, r->ds, rows, keys, r->k, at->width, b->dq + offset(a, &b->at.dq, pair, first), b->at.dq.row);
}

static void pairs_share(void *argument, int part, int parts) {
    const Backward *b = argument;
    const Attention *a = &b->attention;
    const Layout *at = &a->at;
    Room room = divide_room(a, b->room + part * b->room_size);
    int64_t begin, end;
    share(pairs_of(a) / at->group, 1, part, parts, &begin, &end);
    for (int64_t shared = begin; shared < end; shared++) {
        int64_t pair = shared * at->group;
        pack_keys(a, a->k, &at->k, pair, at->width, 1, room.k_transposed);
        pack_keys(a, a->k, &at->k, pair, at->width, 0, room.k);
        pack_keys(a, a->v, &at->v, pair, at->out_width, 1, room.v_transposed);
        float *dk = b->dk + key_offset(a, &b->at.dk, pair, 0), *dv = b->dv + key_offset(a, &b->at.dv, pair, 0);
        clear(dk, at->keys, b->at.dk.row, at->width);
        clear(dv, at->keys, b->at.dv.row, at->out_width);
        for (; pair < (shared + 1) * at->group; pair++) {
            for (int64_t first = 0; first < at->steps; first += BLOCK_ROWS) {
                block(b, &room, pair, first, at->steps - first < BLOCK_ROWS ? at->steps - first : BLOCK_ROWS, dk, dv);
            }
        }
    }
}

/* numbers and draw: as forward. further: Layouts. */
EXPORT int scaled_dot_product_attention_backward(
    const int64_t *numbers, float scale, const uint64_t *draw, float keep_scale, const float *q, const float *k, const float *v,
    const uint8_t *mask, const int64_t *further, const float *dy, float *dq, float *dk, float *dv
) {
    Backward b = {{.q = q, .k = k, .v = v, .mask = mask, .draw = draw, .scale = scale, .keep_scale = keep_scale}};
    Layout *at = &b.attention.at;
    memcpy(at, numbers, sizeof *at);
    memcpy(&b.at, further, sizeof b.at);
    b.dy = dy, b.dq = dq, b.dk = dk, b.dv = dv;
    b.room_size = room_size(&b.attention);
    b.room = rooms(&b.room_size);
    if (!b.room) return 1;
    int64_t scores = pairs_of(&b.attention) * at->steps * at->keys / (at->causal ? 2 : 1);
    pool_run(pairs_share, &b, scores * (3 * at->width + 2 * at->out_width + 16));
    free(b.room);
    return 0;
}
