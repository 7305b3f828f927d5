/* Up to three linear layers of the same x in one run: Z_i = X W_iᵀ + b_i with x (rows, inputs), W_i (outputs_i, inputs); and for
   two layers, if it is needed, the gated product Y = silu(Z_0) Z_1.

   Each part computes the same rows or columns of Z_0 and Z_1, so a block of Y is finished while both are in its core's cache. */

#include "joint_linear.h"

#include "functions.h"
#include "pool.h"
#include "products.h"

EXPORT_SIZE(JointLayer)
EXPORT_SIZE(JointLinearSizes)

typedef struct {
    Product product;
    const float *bias, *gate; /* gate: Z_0 for the layer that makes Y, else null */
    float *y;
} Layer;

static void finish_block(const void *context, int64_t row, int64_t row_end, int64_t from, int64_t to) {
    const Layer *l = context;
    for (; row < row_end; row++) {
        float *z = l->product.c + row * l->product.stride;
        if (l->bias) {
            const float *bias = l->bias;
#pragma omp simd
            for (int64_t j = from; j < to; j++) z[j] += bias[j];
        }
        if (l->gate) {
            const float *gate = l->gate + row * l->product.stride;
            float *y = l->y + row * l->product.n;
#pragma omp simd
            for (int64_t j = from; j < to; j++) y[j] = silu_of(gate[j]) * z[j];
        }
    }
}

/* Whether a weight is in another format, whose product is always in parts: then so are those that share Y or dX
   with it, since no part waits for another. */
static int some_stored(const JointLinearSizes *s) {
    int found = 0;
    for (int i = 0; i < MOST_LAYERS; i++) found |= s->layers[i].outputs && s->layers[i].format != FLOAT32;
    return found;
}

static void forward_part(void *argument, int part, int parts) {
    const Layer *layers = argument;
    for (int i = 0; i < MOST_LAYERS; i++) product_part(&layers[i].product, part, parts);
}

/* y is null if it is not needed, a bias if the layer has none. */
EXPORT int joint_linear_forward(
    const JointLinearSizes *s, int rounded, const float *x, const void *w0, const void *w1, const void *w2, const float *b0, const float *b1,
    const float *b2, float *z, float *y
) {
    const void *weights[] = {w0, w1, w2};
    const float *biases[] = {b0, b1, b2};
    Layer layers[MOST_LAYERS];
    int64_t outputs = 0;
    const int in_parts = some_stored(s);
    for (int i = 0; i < MOST_LAYERS; i++) {
        Factor weight = weight_factor(weights[i], s->inputs, (int)s->layers[i].format, 1);
        Product product = {s->rows, s->layers[i].outputs, s->inputs, plain(x, s->inputs), weight, z + s->layers[i].offset, s->stride, 0, rounded};
        layers[i] = (Layer){product, biases[i], y && i == 1 ? z + s->layers[0].offset : 0, y};
        layers[i].product.context = &layers[i];
        layers[i].product.in_parts = in_parts;
        if (biases[i] || layers[i].gate) layers[i].product.finish = finish_block;
        outputs += s->layers[i].outputs;
    }
    pool_run(forward_part, layers, linear_operations(s->rows, s->inputs, outputs));
    return 0;
}

/* dX = Σ dZ_i W_i; dW_i = dZ_iᵀ X and db_i = Σ dZ_i unless they are null. */
EXPORT int joint_linear_backward(
    const JointLinearSizes *s, int rounded, const float *x, const void *w0, const void *w1, const void *w2, const float *dz, float *dx,
    float *dw0, float *dw1, float *dw2, float *db0, float *db1, float *db2
) {
    const void *weights[] = {w0, w1, w2};
    float *dweights[] = {dw0, dw1, dw2}, *dbiases[] = {db0, db1, db2};
    Product products[2 * MOST_LAYERS];
    ColumnSums sums[MOST_LAYERS];
    int count = 0, sums_count = 0;
    const int in_parts = some_stored(s);
    for (int i = 0; i < MOST_LAYERS; i++) {
        const int64_t outputs = s->layers[i].outputs;
        const float *d = dz + s->layers[i].offset;
        if (i > 0 && outputs == 0) continue; /* the first one sets dX, the others add to it */
        Factor weight = weight_factor(weights[i], s->inputs, (int)s->layers[i].format, 0);
        products[count++] = (Product){
            s->rows, s->inputs, outputs, plain(d, s->stride), weight, dx, s->inputs, i > 0, rounded, .in_parts = in_parts,
        };
        if (dweights[i]) {
            products[count++] = (Product){outputs, s->inputs, s->rows, transposed(d, s->stride), plain(x, s->inputs), dweights[i], s->inputs, 0, rounded};
        }
        if (dbiases[i]) sums[sums_count++] = (ColumnSums){d, s->rows, outputs, s->stride, dbiases[i]};
    }
    products_run(products, count, sums, sums_count);
    return 0;
}
