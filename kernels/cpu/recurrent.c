/* The order of the work of every recurrent kernel.

   Forward: one run of the pool for the input products of all steps and for packing W_hh, then one run in which
   each part takes its rows of the batch through all steps, without waiting for the other parts: the rows of a batch do not
   depend on each other until the gradients of the weights. Backward: the same from the last step to the first; the layer
   then computes the gradients, which are products over all steps and rows.

   A sequence of one step, as in decoding, would spend most of its time on packing: its product is an ordinary one, split over
   the pool. */

#include "recurrent.h"

#include "panels.h"

#include <stdlib.h>

EXPORT_SIZE(RecurrentSizes)

typedef struct {
    const RecurrentSizes *sizes;
    const Product *input; /* null in the backward pass */
    /* product (batch, columns) = a B or += a B, with a (batch, k) at step 0 and B (k, n) packed; with a single step it is that
       of single_part */
    const float *weight;
    int64_t k, n, a_stride;
    int transposed, add, rounded;
    const float *a;
    float *packed, *product;
    int64_t operations; /* of the steps */
    Row *row;
    const void *layer;
} Scan;

static void prepare_part(void *argument, int part, int parts) {
    const Scan *s = argument;
    if (s->input) product_part(s->input, part, parts);
    if (s->packed) panels_pack_part(s->weight, s->k, s->n, s->transposed, s->packed, s->rounded, part, parts);
}

static void single_part(void *argument, int part, int parts) {
    const Scan *s = argument;
    Factor b = s->transposed ? transposed(s->weight, s->k) : plain(s->weight, s->n);
    Product p = {s->sizes->batch, s->n, s->k, plain(s->a, s->a_stride), b, s->product, panels_columns(s->n), s->add, s->rounded};
    product_part(&p, part, parts);
}

static void rows_of_step(const Scan *s, int64_t t, int64_t first, int64_t last) {
    int64_t width = panels_columns(s->n);
    for (int64_t row = first; row < last; row++) s->row(s->layer, s->sizes, t, row, s->product + row * width);
}

static void products_of_step(const Scan *s, const float *a, int64_t first, int64_t last) {
    int64_t width = panels_columns(s->n);
    if (!s->packed || first >= last) return;
    panels_multiply(
        a + first * s->a_stride, s->a_stride, 0, last - first, s->k, s->packed, s->k, s->n, s->product + first * width, width, s->add,
        s->rounded
    );
}

/* The end of the rows that run at step t, at most `last`. */
static int64_t running(const RecurrentSizes *z, int64_t t, int64_t last) { return z->running && z->running[t] < last ? z->running[t] : last; }

static void forward_part(void *argument, int part, int parts) {
    const Scan *s = argument;
    const RecurrentSizes *z = s->sizes;
    int64_t first, last;
    part_range(z->batch, 1, part, parts, &first, &last);
    for (int64_t i = 0; i < z->steps && first < last; i++) {
        int64_t t = z->reverse ? z->steps - 1 - i : i, end = running(z, t, last);
        products_of_step(s, s->a + before(z, t, 0), first, end);
        rows_of_step(s, t, first, end);
    }
}

static void backward_part(void *argument, int part, int parts) {
    const Scan *s = argument;
    const RecurrentSizes *z = s->sizes;
    int64_t first, last;
    part_range(z->batch, 1, part, parts, &first, &last);
    for (int64_t i = 0; i < z->steps && first < last; i++) {
        int64_t t = z->reverse ? i : z->steps - 1 - i, end = running(z, t, last);
        rows_of_step(s, t, first, end);
        products_of_step(s, s->a + place(z, t, 0, s->a_stride), first, end);
    }
}

/* Memory aligned to cache lines: the packed weights, if any, then the products. */
static float *make_workspace(Scan *s) {
    int64_t columns = panels_columns(s->n), packed = s->sizes->steps == 1 ? 0 : panels_depth(s->k, s->rounded) * columns;
    size_t bytes = (size_t)(packed + s->sizes->batch * columns) * sizeof(float);
    float *workspace = aligned_alloc(64, (bytes + 64) / 64 * 64);
    s->packed = packed ? workspace : 0;
    s->product = workspace ? workspace + packed : 0;
    return workspace;
}

/* The number of multiply-adds of all steps, including those of the nonlinear functions. */
static int64_t operations(const RecurrentSizes *s, int64_t rows) { return s->steps * s->batch * rows * (s->hidden + 32); }

int sequence_forward(
    const RecurrentSizes *z, int rounded, int64_t blocks, const float *x, const float *weight_ih, const float *weight_hh, float *inputs,
    const float *states, Row *forward, const void *layer
) {
    int64_t rows = blocks * z->hidden;
    Product input = {z->steps * z->batch, rows, z->inputs, plain(x, z->inputs), transposed(weight_ih, z->inputs), inputs, rows, 0, rounded};
    Scan s = {z, &input, weight_hh, z->hidden, rows, z->hidden, 1, 0, rounded, states, 0, 0, operations(z, rows), forward, layer};
    float *workspace = make_workspace(&s);
    if (!workspace) return NO_MEMORY;
    pool_run(prepare_part, &s, rows * (z->steps * z->batch * z->inputs + z->hidden));
    if (z->steps == 1) {
        s.a = states + before(z, 0, 0);
        pool_run(single_part, &s, s.operations);
        s.a = states;
    }
    pool_run(forward_part, &s, s.operations);
    free(workspace);
    return 0;
}

int sequence_backward(
    const RecurrentSizes *z, int rounded, int64_t blocks, const float *weight_hh, const float *ds, int64_t stride, int add, float *dh, Row *backward,
    const void *layer
) {
    Scan s = {z, 0, weight_hh, blocks * z->hidden, z->hidden, stride, 0, add, rounded, ds, 0, 0, operations(z, blocks * z->hidden), backward, layer};
    float *workspace = make_workspace(&s);
    if (!workspace) return NO_MEMORY;
    int64_t width = panels_columns(z->hidden);
    for (int64_t row = 0; row < z->batch; row++) {
        for (int64_t j = 0; j < width; j++) s.product[row * width + j] = j < z->hidden ? dh[row * z->hidden + j] : 0;
    }
    pool_run(prepare_part, &s, s.k * s.n);
    pool_run(backward_part, &s, s.operations);
    if (z->steps == 1) pool_run(single_part, &s, s.operations);
    for (int64_t row = 0; row < z->batch; row++) {
        for (int64_t j = 0; j < z->hidden; j++) dh[row * z->hidden + j] = s.product[row * width + j];
    }
    free(workspace);
    return 0;
}

void add_biases(const float *a, const float *b, int64_t n, float *sum) {
    for (int64_t j = 0; j < n; j++) sum[j] = (a ? a[j] : 0) + (b ? b[j] : 0);
}
