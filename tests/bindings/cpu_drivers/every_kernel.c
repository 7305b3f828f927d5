/* Every kernel of kernels/cpu once or more, forward and backward: shapes with remainders of all kinds, and arrays that end where their
   allocation ends. */

#include "every_kernel.h"
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

/* The arrays that this thread has made since the last `forget`, and the checksum of the outputs. */
static _Thread_local float *made[64];
static _Thread_local int made_count;
static _Thread_local unsigned long checksum;
static _Thread_local int rounded; /* the products' operands, to bfloat16 */

float *numbers(int64_t n) {
    float *a = malloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) a[i] = (float)((i * 37 + made_count * 11) % 41 - 20) / 40;
    return made[made_count++] = a;
}

static void look(const float *a, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        unsigned bits;
        memcpy(&bits, a + i, 4);
        checksum = checksum * 31 + bits;
    }
}

void forget(void) {
    while (made_count) free(made[--made_count]);
}

static void linear(int64_t rows, int64_t in, int64_t out, int activation) {
    float *x = numbers(rows * in), *w = numbers(out * in), *b = numbers(out), *residual = numbers(rows * out);
    float *kept = activation ? numbers(rows * out) : 0, *y = numbers(rows * out), *dz = numbers(rows * out);
    float *dx = numbers(rows * in), *dw = numbers(out * in), *db = numbers(out);
    linear_forward(rows, in, out, rounded, x, w, b, residual, activation, kept, y);
    linear_backward(rows, in, out, rounded, x, w, activation, kept, y, activation ? dz : 0, dx, dw, db);
    linear_backward(rows, in, out, rounded, x, w, activation, kept, y, activation ? dz : 0, dx, 0, 0); /* a frozen layer's */
    look(y, rows * out), look(dx, rows * in), look(dw, out * in), look(db, out);
    forget();
}

static void matmul(int64_t batches, int64_t m, int64_t n, int64_t k, int transposed) {
    float *a = numbers(batches * m * k), *b = numbers(k * n), *c = numbers(batches * m * n);
    matmul_batches(batches, m, n, k, rounded, a, m * k, transposed, b, 0, transposed, c);
    look(c, batches * m * n);
    forget();
    int64_t tile[3];
    product_tile(tile);
}

/* C = A B, then C += A B: twice the first result, exactly, since the numbers are whole. */
static void added(int64_t m, int64_t n, int64_t k, int turned) {
    float *a = numbers(m * k), *b = numbers(k * n), *once = numbers(m * n), *twice = numbers(m * n);
    for (int64_t i = 0; i < m * k; i++) a[i] = (float)(i % 7 - 3);
    for (int64_t i = 0; i < k * n; i++) b[i] = (float)(i % 5 - 2);
    const Factor left = plain(a, k), right = turned ? transposed(b, k) : plain(b, n);
    const Product products[] = {
        {m, n, k, left, right, once, n, 0, rounded, 0, 0}, {m, n, k, left, right, twice, n, 0, rounded, 0, 0},
        {m, n, k, left, right, twice, n, 1, rounded, 0, 0}
    };
    products_run(products, 3, 0, 0);
    for (int64_t i = 0; i < m * n; i++) {
        if (twice[i] != 2 * once[i]) abort();
    }
    look(once, m * n);
    forget();
}

static void recurrent(int blocks, int64_t T, int64_t N, int64_t I, int64_t H, int reverse, const int64_t *running) {
    int64_t R = blocks * H;
    float *x = numbers(T * N * I), *wi = numbers(R * I), *wh = numbers(R * H), *bi = numbers(R), *bh = numbers(R);
    float *states = numbers((T + 1) * N * H), *cells = numbers((T + 1) * N * H), *gates = numbers(T * N * R), *s_n = numbers(T * N * H);
    float *dy = numbers(T * N * H), *dh = numbers(N * H), *dc = numbers(N * H), *d = numbers(T * N * (blocks == 1 ? H : 4 * H));
    float *dx = numbers(T * N * I), *dwi = numbers(R * I), *dwh = numbers(R * H), *dbi = numbers(R), *dbh = numbers(R);
    const RecurrentSizes sizes = {T, N, I, H, reverse, running};
#define FRONT &sizes, rounded, x, wi, wh
    if (blocks == 1) {
        for (int f = 0; f < 3; f++) {
            rnn_forward(FRONT, bi, bh, f, states, gates);
            rnn_backward(FRONT, f, states, dy, dh, d, dx, dwi, dwh, dbi, dbh);
        }
    } else if (blocks == 4) {
        lstm_forward(FRONT, bi, bh, states, cells, gates);
        lstm_backward(FRONT, states, cells, gates, dy, dh, dc, d, dx, dwi, dwh, dbi, dbh);
    } else {
        gru_forward(FRONT, bi, 0, states, gates, s_n);
        gru_backward(FRONT, states, gates, s_n, dy, dh, d, dx, dwi, dwh, dbi, 0);
    }
    look(states, (T + 1) * N * H), look(dh, N * H), look(dc, N * H), look(dx, T * N * I);
    look(dwi, R * I), look(dwh, R * H), look(dbi, R), look(dbh, R);
    forget();
}

static void norm(int64_t rows, int64_t columns, int centred) {
    float *x = numbers(rows * columns), *w = numbers(columns), *b = numbers(columns), *y = numbers(rows * columns);
    float *kept = numbers(2 * rows), *dx = numbers(rows * columns), *dw = numbers(columns), *db = numbers(columns);
    norm_forward(rows, columns, centred, x, w, b, 1e-5f, y, kept);
    norm_backward(rows, columns, centred, x, w, kept, y, dx, dw, centred ? db : 0);
    look(y, rows * columns), look(dx, rows * columns), look(dw, columns), look(db, columns);
    forget();
}

static void probabilities(int64_t rows, int64_t classes, int flag) {
    float *x = numbers(rows * classes), *y = numbers(rows * classes), *dx = numbers(rows * classes);
    float *kept = numbers(2 * rows), *losses = numbers(rows), *value = numbers(1), *count = numbers(1);
    int64_t *targets = malloc((size_t)(rows + 1) * sizeof(int64_t));
    for (int64_t i = 0; i < rows; i++) targets[i] = i % 5 == 3 ? -100 : i % classes;
    softmax_forward(rows, classes, flag, x, y);
    softmax_backward(rows, classes, flag, y, x, dx);
    look(y, rows * classes), look(dx, rows * classes);
    cross_entropy_forward(rows, classes, x, targets, -100, flag ? 0.1f : 0, flag, kept, losses, value, count);
    cross_entropy_backward(rows, classes, x, targets, -100, flag ? 0.1f : 0, kept, losses, flag, *count, dx);
    look(losses, rows), look(value, 1), look(count, 1), look(dx, rows * classes);
    targets[0] = classes;
    checksum += (unsigned long)cross_entropy_forward(rows, classes, x, targets, -100, 0, 0, kept, losses, value, count);
    free(targets);
    forget();
}

static void updates(int64_t n) {
    float *w = numbers(n), *g = numbers(n), *m = numbers(n), *v = numbers(n), *total = numbers(1);
    for (int64_t i = 0; i < n; i++) v[i] *= v[i];
    adamw(n, w, g, m, v, 0.5f, 0.1f, 0.9f, 0.1f, 0.99f, 0.01f, 0.9f, 0.1f, 2, 1e-8f);
    sgd(n, w, g, 0, 0.5f, 0.1f, 0.2f, 0, 0, 0);
    sgd(n, w, g, m, 0.5f, 0.1f, 0.2f, 0.9f, 0.9f, n % 2 == 0);
    squared_norm(n, g, total);
    look(w, n), look(m, n), look(v, n), look(total, 1);
    forget();
}

static void orthogonal(int64_t count, int64_t m, int64_t n) {
    float *w = numbers(count * m * n), *g = numbers(count * m * n), *v = numbers(count * m * n);
    muon(count, m, n, w, g, v, 0.5f, 0.9f, 0.1f, 0.9f, 0.1f);
    look(w, count * m * n), look(v, count * m * n);
    forget();
}

static void dropout(int64_t n) {
    float *x = numbers(n), *y = numbers(n), *dx = numbers(n);
    uint8_t *kept = malloc((size_t)((n + 7) / 8));
    dropout_forward(n, x, 1, ~(uint64_t)0, 1u << 31, 2, kept, y);
    dropout_backward(n, y, 2, kept, dx);
    look(y, n), look(dx, n);
    free(kept);
    forget();
}

static void embedding(int64_t n, int64_t rows, int64_t columns) {
    float *w = numbers(rows * columns), *y = numbers(n * columns), *dw = numbers(rows * columns);
    int64_t *ids = malloc((size_t)n * sizeof(int64_t));
    for (int64_t i = 0; i < n; i++) ids[i] = i * i % rows;
    embedding_forward(n, rows, columns, ids, w, y);
    if (n > 0) ids[n - 1] = rows, checksum += (unsigned long)embedding_forward(n, rows, columns, ids, w, y), ids[n - 1] = 0;
    embedding_backward(n, rows, columns, 1, ids, y, dw);
    look(y, n * columns), look(dw, rows * columns);
    free(ids);
    forget();
}

static void swiglu(int64_t n) {
    float *a = numbers(n), *b = numbers(n), *y = numbers(n), *da = numbers(n), *db = numbers(n);
    swiglu_forward(n, a, b, y);
    swiglu_backward(n, a, b, y, da, db);
    look(y, n), look(da, n), look(db, n);
    forget();
}

/* x is one of two parts of a projection, y a separate array. */
static void rotate(int64_t N, int64_t heads, int64_t T, int64_t pairs, int interleaved) {
    int64_t D = 2 * pairs, row = heads * D, n = N * T * row;
    float *x = numbers(2 * n), *cos = numbers(T * pairs), *sin = numbers(T * pairs), *y = numbers(n), *dx = numbers(n);
    const Strides own = {T * row, D, row}, in_two = {2 * T * row, D, 2 * row};
    rotary(&(RotaryLayout){N, heads, T, pairs, in_two, own}, x, cos, sin, 1, interleaved, y);
    rotary(&(RotaryLayout){N, heads, T, pairs, own, own}, y, cos, sin, -1, interleaved, dx);
    look(y, n), look(dx, n);
    forget();
}

static void gated(int64_t rows, int64_t in, int64_t out) {
    int64_t n = rows * out;
    const JointLinearSizes sizes = {rows, in, out, {{out, 0}, {out, n}, {0, 0}}};
    float *x = numbers(rows * in), *g = numbers(out * in), *u = numbers(out * in), *b = numbers(out), *z = numbers(2 * n), *y = numbers(n);
    float *dz = numbers(2 * n), *dx = numbers(rows * in), *dg = numbers(out * in), *du = numbers(out * in), *db = numbers(out);
    joint_linear_forward(&sizes, rounded, x, g, u, 0, b, 0, 0, z, y);
    swiglu_backward(n, z, z + n, y, dz, dz + n);
    joint_linear_backward(&sizes, rounded, x, g, u, 0, dz, dx, dg, du, 0, db, 0, 0);
    joint_linear_backward(&sizes, rounded, x, g, u, 0, dz, dx, 0, 0, 0, 0, 0, 0); /* frozen layers' */
    look(y, n), look(dx, rows * in), look(dg, out * in), look(du, out * in), look(db, out);
    forget();
}

/* `heads` of queries, 2 of keys and 1 of values. */
static void turned_heads(int64_t N, int64_t heads, int64_t T, int64_t pairs, int64_t in, int interleaved) {
    int64_t D = 2 * pairs, q = heads * D, row = q + 3 * D, n = N * T * row;
    const JointLinearSizes sizes = {N * T, in, row, {{q, 0}, {2 * D, q}, {D, q + 2 * D}}};
    const RotaryLayout turned = {N, heads + 2, T, pairs, {T * row, D, row}, {T * row, D, row}};
    float *x = numbers(N * T * in), *wq = numbers(q * in), *wk = numbers(2 * D * in), *wv = numbers(D * in), *b = numbers(D);
    float *cos = numbers(T * pairs), *sin = numbers(T * pairs), *z = numbers(n), *dx = numbers(N * T * in);
    float *dwq = numbers(q * in), *dwk = numbers(2 * D * in), *dwv = numbers(D * in), *db = numbers(D);
    rotary_heads_forward(&sizes, &turned, rounded, x, wq, wk, wv, 0, 0, b, cos, sin, interleaved, z);
    look(z, n);
    rotary(&turned, z, cos, sin, -1, interleaved, z);
    joint_linear_backward(&sizes, rounded, x, wq, wk, wv, z, dx, dwq, dwk, dwv, 0, 0, db);
    look(dx, N * T * in), look(dwq, q * in), look(dwk, 2 * D * in), look(dwv, D * in), look(db, D);
    forget();
}

/* If T = S, q, k and v lie side by side, as a projection to all three leaves them; so do their gradients. */
static void attention(
    int64_t N, int64_t heads, int64_t group, int64_t T, int64_t S, int64_t D, int64_t E, int causal, int masked, int dropout
) {
    int packed = T == S && D == E && group == 1;
    int64_t q_row = heads * (packed ? 3 * D : D), k_row = q_row / group, v_row = packed ? q_row : heads / group * E;
    float *q = numbers(N * T * q_row), *k = packed ? q + heads * D : numbers(N * S * k_row);
    float *v = packed ? k + heads * D : numbers(N * S * v_row), *y = numbers(N * T * heads * E), *dy = numbers(N * T * heads * E);
    float *dq = numbers(N * T * q_row), *dk = packed ? dq + heads * D : numbers(N * S * k_row);
    float *dv = packed ? dk + heads * D : numbers(N * S * v_row);
    uint8_t *mask = malloc((size_t)(T * S) + 1);
    for (int64_t i = 0; i < T * S; i++) mask[i] = i * 7 % 5 > 1;
    const Strides q_at = {T * q_row, D, q_row}, k_at = {S * k_row, D, k_row}, v_at = {S * v_row, E, v_row};
    const Strides mask_at = {0, 0, S}, y_at = {T * heads * E, E, heads * E};
    const AttentionLayout layout = {N, heads, group, T, S, D, E, causal, q_at, k_at, v_at, mask_at, y_at};
    const AttentionGradientLayout gradients = {y_at, q_at, k_at, v_at};
    const AttentionDropout draw = {5, 7, 1u << 30, 1.3f}, *drawn = dropout ? &draw : 0;
    const uint8_t *hidden = masked ? mask : 0;
    scaled_dot_product_attention_forward(&layout, rounded, 0.3f, drawn, q, k, v, hidden, y);
    scaled_dot_product_attention_backward(&layout, rounded, 0.3f, drawn, q, k, v, hidden, &gradients, dy, dq, dk, dv);
    look(y, N * T * heads * E), look(dq, N * T * q_row);
    if (!packed) look(dk, N * S * k_row), look(dv, N * S * v_row);
    free(mask);
    forget();
}

static void products(void) {
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        turned_heads(2, 3, 7, 17, 9, interleaved), turned_heads(1, 4, 1, 1, 3, interleaved), turned_heads(2, 1, 0, 3, 2, interleaved);
    }
    for (int activation = 0; activation < 5; activation++) {
        linear(37, 5, 19, activation);
        linear(3, 7, 50, activation);
        linear(1, 1, 1, activation);
        linear(0, 3, 2, activation);
    }
    gated(37, 5, 19), gated(3, 7, 50), gated(90, 33, 40), gated(1, 1, 1), gated(2, 0, 5), gated(0, 3, 2);
    for (int turned = 0; turned < 2; turned++) {
        matmul(5, 7, 33, 9, turned);
        matmul(1, 50, 2, 600, turned);
        matmul(2, 3, 4, 0, turned);
        matmul(1, 13, 70, 121, turned);
        matmul(1, 120, 35, 530, turned);
        for (int64_t m = 1; m < 20; m += m < 5 ? 1 : 6) added(m, 37, 130, turned);
        added(30, 3, 7, turned), added(2, 1, 40, turned);
    }
    for (int reverse = 0; reverse < 2; reverse++) {
        for (int blocks = 1; blocks < 5; blocks += blocks == 1 ? 2 : 1) {
            recurrent(blocks, 3, 29, 5, 13, reverse, 0);
            recurrent(blocks, 3, 29, 5, 13, reverse, (const int64_t[]){29, 20, 1});
            recurrent(blocks, 4, 1, 2, 35, reverse, 0);
            recurrent(blocks, 1, 5, 3, 9, reverse, 0);
            recurrent(blocks, 2, 0, 3, 4, reverse, 0);
        }
    }
    for (int kind = 0; kind < 8; kind++) {
        attention(2, 3, 1, 53, 53, 5, 5, kind & 1, kind & 2, kind & 4);
        attention(1, 2, 1, 70, 37, 33, 3, kind & 1, kind & 2, kind & 4);
        attention(1, 1, 1, 5, 41, 1, 40, kind & 1, kind & 2, kind & 4);
        attention(3, 1, 1, 1, 9, 7, 18, kind & 1, kind & 2, kind & 4);
        attention(1, 2, 1, 0, 3, 2, 2, kind & 1, kind & 2, kind & 4);
        attention(2, 6, 3, 29, 29, 5, 5, kind & 1, kind & 2, kind & 4);
        attention(1, 4, 2, 3, 19, 6, 17, kind & 1, kind & 2, kind & 4);
    }
}

unsigned long every_kernel(void) {
    checksum = 0;
    embedding(50, 7, 70), embedding(3, 9, 1), embedding(0, 2, 5);
    dropout(1003), dropout(8), dropout(1), dropout(0);
    swiglu(1003), swiglu(1), swiglu(0);
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        rotate(2, 3, 7, 17, interleaved), rotate(1, 5, 1, 1, interleaved), rotate(2, 1, 0, 3, interleaved);
    }
    orthogonal(7, 33, 33), orthogonal(1, 70, 45), orthogonal(1, 45, 70), orthogonal(2, 1, 1);
    updates(5001), updates(2048), updates(1), updates(0);
    for (int flag = 0; flag < 2; flag++) {
        probabilities(40, 75, flag);
        probabilities(7, 2100, flag);
        probabilities(1, 1, flag);
    }
    for (int centred = 0; centred < 2; centred++) {
        norm(150, 77, centred);
        norm(33, 3, centred);
        norm(0, 4, centred);
    }
    for (rounded = 0; rounded < 2; rounded++) products();
    return checksum;
}
