/* Y = act(X Wᵀ + b) + residual: x (rows, inputs), weight (outputs, inputs) -> y (rows, outputs).

   As soon as a block of the product is computed, while it is still in its core's cache, the bias is added, the
   activation applied and the residual added. What the backward pass needs is stored in `kept`: z = X Wᵀ + b
   for gelu and silu; the activation's value for relu and sigmoid, where kept may be y itself if there is no residual;
   nothing without an activation. */

#include "activations.h"
#include "functions.h"
#include "pool.h"
#include "products.h"

#define SQRT_HALF 0.70710678f
#define INVERSE_SQRT_2PI 0.39894228f

typedef struct {
    Product product; /* into kept, or into y if kept is null */
    const float *bias, *residual;
    float *y;
    int activation;
} Forward;

static void finish_row(const Forward *f, int64_t row, int64_t from, int64_t to) {
    float *z = f->product.c + row * f->product.n, *y = f->y + row * f->product.n;
    const float *bias = f->bias, *residual = f->residual ? f->residual + row * f->product.n : 0;
    if (bias) {
#pragma omp simd
        for (int64_t j = from; j < to; j++) z[j] += bias[j];
    }
    switch (f->activation) {
    case RELU:
#pragma omp simd
        for (int64_t j = from; j < to; j++) y[j] = z[j] = z[j] < 0 ? 0 : z[j];
        break;
    case GELU:
#pragma omp simd
        for (int64_t j = from; j < to; j++) y[j] = z[j] * (0.5f + 0.5f * erf_of(z[j] * SQRT_HALF));
        break;
    case SILU:
#pragma omp simd
        for (int64_t j = from; j < to; j++) y[j] = silu_of(z[j]);
        break;
    case SIGMOID:
#pragma omp simd
        for (int64_t j = from; j < to; j++) y[j] = z[j] = sigmoid_of(z[j]);
        break;
    }
    if (residual) {
#pragma omp simd
        for (int64_t j = from; j < to; j++) y[j] += residual[j];
    }
}

static void finish_block(const void *context, int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
    for (; row < row_end; row++) finish_row(context, row, column, column_end);
}

static void forward_part(void *argument, int part, int parts) { product_part(&((Forward *)argument)->product, part, parts); }

/* format: of the weight, see stored_weights.h. */
EXPORT int linear_forward(
    int64_t rows, int64_t inputs, int64_t outputs, int rounded, const float *x, const void *weight, int format,
    const float *bias, const float *residual, int activation, float *kept, float *y
) {
    Product product = {rows, outputs, inputs, plain(x, inputs), weight_factor(weight, inputs, format, 1), kept ? kept : y, outputs, 0, rounded};
    Forward f = {product, bias, residual, y, activation};
    f.product.context = &f;
    if (bias || residual || activation != NONE) f.product.finish = finish_block;
    pool_run(forward_part, &f, linear_operations(rows, inputs, outputs));
    return 0;
}

typedef struct {
    int64_t size;
    const float *kept, *dy;
    float *dz;
    int activation;
} Slope;

static void slope_part(void *argument, int part, int parts) {
    const Slope *s = argument;
    const float *kept = s->kept, *dy = s->dy;
    float *dz = s->dz;
    int64_t first, last;
    part_range(s->size, 16, part, parts, &first, &last);
    switch (s->activation) {
    case RELU:
#pragma omp simd
        for (int64_t i = first; i < last; i++) dz[i] = kept[i] > 0 ? dy[i] : dy[i] * 0;
        break;
    case GELU:
#pragma omp simd
        for (int64_t i = first; i < last; i++) {
            float z = kept[i], density = INVERSE_SQRT_2PI * exp_of(-0.5f * z * z);
            dz[i] = dy[i] * (0.5f + 0.5f * erf_of(z * SQRT_HALF) + z * density);
        }
        break;
    case SILU:
#pragma omp simd
        for (int64_t i = first; i < last; i++) {
            float z = kept[i], s_z = sigmoid_of(z);
            dz[i] = dy[i] * (s_z * (1 + z * (1 - s_z)));
        }
        break;
    case SIGMOID:
#pragma omp simd
        for (int64_t i = first; i < last; i++) dz[i] = dy[i] * (kept[i] - kept[i] * kept[i]);
        break;
    }
}

/* dz (rows, outputs) is workspace for dY act'(Z), null without an activation. The gradients are dx and, unless they
   are null, dweight and dbias. */
EXPORT int linear_backward(
    int64_t rows, int64_t inputs, int64_t outputs, int rounded, const float *x, const void *weight, int format,
    int activation, const float *kept, const float *dy, float *dz, float *dx, float *dweight, float *dbias
) {
    if (activation != NONE) {
        Slope s = {rows * outputs, kept, dy, dz, activation};
        pool_run(slope_part, &s, rows * outputs * 16);
        dy = dz;
    }
    const Product products[] = {
        {rows, inputs, outputs, plain(dy, outputs), weight_factor(weight, inputs, format, 0), dx, inputs, 0, rounded},
        {outputs, inputs, rows, transposed(dy, outputs), plain(x, inputs), dweight, inputs, 0, rounded},
    };
    const ColumnSums sums[] = {{dy, rows, outputs, outputs, dbias}};
    products_run(products, dweight ? 2 : 1, sums, 1);
    return 0;
}
