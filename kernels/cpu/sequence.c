/* The order of the work of every recurrent kernel.

   Forward: one run of the pool for the input products of all steps and for packing weight_hh, then one run
   in which each part takes its share of the batch through all steps, without waiting for the others: the rows of
   a batch have nothing to do with each other until the gradients of the weights. Backward: the same against
   the order of the steps, then one run for the products over all steps and rows.

   A sequence of one step, as in decoding, would spend most of its time on packing: its product is one of the
   BLAS's, split over the pool like the others. */

#include "sequence.h"

#include <stdlib.h>

int64_t recurrent_floats(const Sizes *s, int64_t k, int64_t n) { return s->steps == 1 ? 0 : k * panels_columns(n); }

void recurrent_pack_share(const Sizes *s, const Recurrent *r, int part, int parts) {
    if (s->steps > 1) panels_pack_share(r->b, r->k, r->n, r->transposed, r->packed, part, parts);
}

void recurrent_single_share(
    const Sizes *s, const Recurrent *r, const float *a, int64_t a_stride, float *c, int add, int part, int parts
) {
    if (s->steps > 1) return;
    Factor b = r->transposed ? transposed(r->b, r->k) : plain(r->b, r->n);
    Product p = {s->batch, r->n, r->k, plain(a, a_stride), b, c, panels_columns(r->n), add};
    product_share(&p, part, parts);
}

float *allocate(int64_t floats) {
    size_t bytes = ((size_t)floats * sizeof(float) + 63) / 64 * 64;
    return aligned_alloc(64, bytes ? bytes : 64);
}

void add_biases(const float *a, const float *b, int64_t n, float *sum) {
    for (int64_t j = 0; j < n; j++) sum[j] = (a ? a[j] : 0) + (b ? b[j] : 0);
}
