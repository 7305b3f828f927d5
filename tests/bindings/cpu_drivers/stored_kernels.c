/* The kernels that read weights in every format of stored_weights.h: arrays of bytes that end where their allocation ends. */

#include "every_kernel.h"
#include "kernels.h"
#include "stored_weights.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of a matrix whose scales are small: the upper byte of a number of 16 bits is that of one below 0.1. */
static uint8_t *bytes(int format, int64_t rows, int64_t columns) {
    const int64_t size = rows * stored_row(format, columns);
    uint8_t *a = malloc((size_t)size);
    for (int64_t i = 0; i < size; i++) a[i] = (uint8_t)(i * 29 % 43);
    return a;
}

static unsigned long sum_of(const float *a, int64_t n) {
    unsigned long sum = 0;
    for (int64_t i = 0; i < n; i++) {
        unsigned bits;
        memcpy(&bits, a + i, 4);
        sum = sum * 31 + bits;
    }
    return sum;
}

static unsigned long layer(int format, int64_t rows, int64_t in, int64_t out, int rounded) {
    uint8_t *w = bytes(format, out, in);
    float *x = numbers(rows * in), *y = numbers(rows * out), *dx = numbers(rows * in);
    linear_forward(rows, in, out, rounded, x, w, format, 0, 0, 0, 0, y);
    linear_backward(rows, in, out, rounded, x, w, format, 0, 0, y, 0, dx, 0, 0);
    const unsigned long sum = sum_of(y, rows * out) * 31 + sum_of(dx, rows * in);
    forget();
    free(w);
    return sum;
}

static unsigned long table(int format, int64_t rows, int64_t columns) {
    uint8_t *w = bytes(format, rows, columns);
    int64_t ids[9];
    for (int i = 0; i < 9; i++) ids[i] = i * 5 % rows;
    float *y = numbers(9 * columns);
    embedding_forward(9, rows, columns, ids, w, format, y);
    const unsigned long sum = sum_of(y, 9 * columns);
    forget();
    free(w);
    return sum;
}

/* Three layers in three formats, the second of which is given. */
static unsigned long joint(int64_t rows, int second, int rounded) {
    enum { IN = 256, OUT = 5 };
    uint8_t *w[] = {bytes(Q4_K, OUT, IN), bytes(second, OUT, IN), bytes(Q8_0, OUT, IN)};
    const JointLinearSizes sizes = {rows, IN, 3 * OUT, {{OUT, 0, Q4_K}, {OUT, OUT, second}, {OUT, 2 * OUT, Q8_0}}};
    float *x = numbers(rows * IN), *z = numbers(rows * 3 * OUT), *dx = numbers(rows * IN);
    joint_linear_forward(&sizes, rounded, x, w[0], w[1], w[2], 0, 0, 0, z, 0);
    joint_linear_backward(&sizes, rounded, x, w[0], w[1], w[2], z, dx, 0, 0, 0, 0, 0, 0);
    const unsigned long sum = sum_of(z, rows * 3 * OUT) * 31 + sum_of(dx, rows * IN);
    forget();
    for (int i = 0; i < 3; i++) free(w[i]);
    return sum;
}

unsigned long stored_kernels(int rounded) {
    unsigned long sum = joint(1, Q6_K, rounded) + joint(20, Q6_K, rounded) + joint(40, FLOAT32, rounded);
    for (int format = FLOAT16; format <= Q6_K; format++) {
        const int64_t in = format <= BFLOAT16 ? 77 : format >= Q4_K ? 768 : 96;
        sum = sum * 31 + layer(format, 1, in, 7, rounded) + layer(format, 3, in, 37, rounded) + layer(format, 20, in, 35, rounded);
        sum = sum * 31 + layer(format, 1, format >= Q4_K ? 256 : 32, 1, rounded) + table(format, 8, in);
    }
    return sum;
}
