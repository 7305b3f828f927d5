/* Dropout, as tinylm/ops/dropout.py has it: y[i] = x[i] scale if the i-th 32-bit word of the key's Philox stream is at
   least `threshold`, else x[i] 0, which keeps a NaN or an infinity visible. n elements.

   A block of the stream has the words of 8 elements, and `kept` has one byte for them, in which the lowest bit is that of the first
   element: in the backward pass, reading one bit per element takes less time than drawing the numbers again. */

#include "philox.h"
#include "pool.h"

enum { WORDS = 8 }; /* of a block */

typedef struct {
    int64_t n;
    const float *x;
    uint64_t key0, key1, threshold;
    float scale;
    uint8_t *kept;
    float *y;
} Dropout;

static inline unsigned draw(const Dropout *d, int64_t block) {
    uint64_t words[WORDS / 2];
    unsigned bits = 0;
    philox(d->key0, d->key1, (uint64_t)block, words);
    for (int i = WORDS / 2 - 1; i >= 0; i--) { /* from the last element to the first, the low half of a word first */
        bits = bits * 2 + (words[i] >> 32 >= d->threshold);
        bits = bits * 2 + ((words[i] & 0xFFFFFFFFu) >= d->threshold);
    }
    return bits;
}

static inline void apply(const float *x, unsigned bits, int count, float scale, float *y) {
#pragma omp simd
    for (int i = 0; i < count; i++) y[i] = x[i] * (bits >> i & 1 ? scale : 0);
}

static inline void apply_part(const Dropout *argument, int draws, int part, int parts) {
    const Dropout d = *argument; /* a copy: otherwise the compiler must assume that writing to `kept` changes its fields */
    int64_t first, last;
    part_range(d.n, WORDS, part, parts, &first, &last);
    for (int64_t i = first; i < last; i += WORDS) {
        const int64_t block = i / WORDS;
        const unsigned bits = draws ? draw(&d, block) : d.kept[block];
        if (draws) d.kept[block] = (uint8_t)bits;
        if (last - i >= WORDS) apply(d.x + i, bits, WORDS, d.scale, d.y + i);
        else apply(d.x + i, bits, (int)(last - i), d.scale, d.y + i);
    }
}

static void forward_part(void *argument, int part, int parts) { apply_part(argument, 1, part, parts); }
static void backward_part(void *argument, int part, int parts) { apply_part(argument, 0, part, parts); }

EXPORT int dropout_forward(
    int64_t n, const float *x, uint64_t key0, uint64_t key1, uint64_t threshold, float scale, uint8_t *kept, float *y
) {
    Dropout d = {n, x, key0, key1, threshold, scale, kept, y};
    pool_run(forward_part, &d, n * 8);
    return 0;
}

EXPORT int dropout_backward(int64_t n, const float *dy, float scale, uint8_t *kept, float *dx) {
    Dropout d = {.n = n, .x = dy, .scale = scale, .kept = kept, .y = dx};
    pool_run(backward_part, &d, n * 2);
    return 0;
}
