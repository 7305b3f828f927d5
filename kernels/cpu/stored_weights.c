/* Weights as their file has them: runs of numbers of a row, and panels of them for products with many rows. */

#include "stored_weights.h"

#include "panels.h"
#include "pool.h"
#include "products.h"

/* A run in pieces; those that lie only partly in it are decoded whole, beside y. The last numbers of a row of 16 bits are no piece. */
static inline __attribute__((always_inline)) void run(const int format, const uint8_t *row, int64_t from, int64_t to, float *y) {
    const int single = format == FLOAT16 || format == BFLOAT16;
    for (int64_t l = from; l < to;) {
        const int64_t first = single ? l : l / PIECE * PIECE, end = first + PIECE < to ? first + PIECE : to;
        Vector piece[PIECE_VECTORS];
        if (single && end - l < PIECE) {
            for (; l < end; l++) y[l - from] = format == FLOAT16 ? float16_at(row + l * 2) : bfloat16_at(row + l * 2);
            break;
        }
        decode_piece(format, row, first, piece);
        memcpy(y + l - from, (const float *)piece + (l - first), sizeof(float) * (size_t)(end - l));
        l = end;
    }
}

void decode_run(int format, const void *row, int64_t from, int64_t to, float *y) {
    switch (format) {
#define CASE(FORMAT) \
    case FORMAT: run(FORMAT, row, from, to, y); break;
        CASE(FLOAT16) CASE(BFLOAT16) CASE(Q4_0) CASE(Q4_1) CASE(Q8_0) CASE(Q4_K) CASE(Q6_K)
#undef CASE
    default: memcpy(y, (const float *)row + from, sizeof(float) * (size_t)(to - from));
    }
}

/* A panel's part of B is decoded into a matrix of the same layout, and packed from there. */
void stored_panels_pack(const Factor *b, int64_t l, int64_t depth, int64_t column, int64_t column_end, float *packed, int rounded) {
    enum { GAP = 16 }; /* rows that are 2 KB apart would lie in the same places of the L1 cache */
    static _Thread_local float decoded[PANEL * (MOST_DEPTH + GAP)];
    const uint8_t *stored = (const uint8_t *)b->data;
    for (int64_t j = column; j < column_end; j += PANEL) {
        const int64_t end = j + PANEL < column_end ? j + PANEL : column_end;
        if (b->transposed) {
            for (int64_t i = j; i < end; i++) decode_run(b->format, stored + i * b->stride, l, l + depth, decoded + (i - j) * (MOST_DEPTH + GAP));
        } else {
            for (int64_t i = 0; i < depth; i++) decode_run(b->format, stored + (l + i) * b->stride, j, end, decoded + i * PANEL);
        }
        float *to = packed + (j - column) * panels_depth(depth, rounded);
        panels_pack(decoded, b->transposed ? MOST_DEPTH + GAP : PANEL, b->transposed, depth, end - j, to, rounded);
    }
}
