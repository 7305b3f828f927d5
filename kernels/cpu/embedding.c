/* Rows of a table: y[i] = weight[ids[i]] for n ids and rows of `columns` numbers in any format of stored_weights.h; and the table's gradient,
   dweight[v] = Σ dy[i] over the i with ids[i] = v, in the order of the positions. In the backward pass each part takes some columns of
   all rows, so that no two parts add to the same number. */

#include "pool.h"
#include "stored_weights.h"

#include <string.h>

typedef struct {
    int64_t n, rows, columns, padding;
    const int64_t *ids;
    const void *from;
    float *to;
    int format; /* of from, in the forward pass */
} Lookup;

static void forward_part(void *argument, int part, int parts) {
    const Lookup *l = argument;
    int64_t first, last;
    part_range(l->n, 1, part, parts, &first, &last);
    const int64_t size = stored_row(l->format, l->columns);
    for (int64_t i = first; i < last; i++) {
        decode_run(l->format, (const char *)l->from + l->ids[i] * size, 0, l->columns, l->to + i * l->columns);
    }
}

/* weight (rows, columns). Nothing is written if an id is out of range. */
EXPORT int embedding_forward(int64_t n, int64_t rows, int64_t columns, const int64_t *ids, const void *weight, int format, float *y) {
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= rows) return ID_OUT_OF_RANGE;
    }
    Lookup l = {.n = n, .columns = columns, .ids = ids, .from = weight, .to = y, .format = format};
    pool_run(forward_part, &l, n * columns);
    return 0;
}

static void backward_part(void *argument, int part, int parts) {
    const Lookup *l = argument;
    int64_t first, last;
    part_range(l->columns, 16, part, parts, &first, &last);
    if (first == last) return;
    for (int64_t row = 0; row < l->rows; row++) {
        memset(l->to + row * l->columns + first, 0, sizeof(float) * (size_t)(last - first));
    }
    for (int64_t i = 0; i < l->n; i++) {
        const float *dy = (const float *)l->from + i * l->columns;
        float *sums = l->to + l->ids[i] * l->columns;
        if (l->ids[i] == l->padding) continue;
#pragma omp simd
        for (int64_t j = first; j < last; j++) sums[j] += dy[j];
    }
}

/* The ids are those of the forward pass. padding: the id whose row gets no gradient, or -1. */
EXPORT int embedding_backward(
    int64_t n, int64_t rows, int64_t columns, int64_t padding, const int64_t *ids, const float *dy, float *dweight
) {
    Lookup l = {n, rows, columns, padding, ids, dy, dweight, FLOAT32};
    pool_run(backward_part, &l, (n + rows) * columns);
    return 0;
}
