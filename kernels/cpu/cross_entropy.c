/* Cross-entropy of the rows of z (rows, classes), as tinylm/ops/losses.py has it, in nats:
   loss = log Σ e^(z - top) - (1 - ε) (z_target - top) - ε mean(z - top), dz = g (p - ε/V) - (1 - ε) g onehot(target).

   The probabilities p = e^(z - top - log Σ) are never stored: the backward pass computes dz directly from kept (2, rows), which
   has top and log Σ. These are separate, since their sum would lose digits if the scores are large. */

#include "exponentials.h"
#include "pool.h"

typedef struct {
    int64_t rows, classes;
    const float *z;
    const int64_t *targets;
    int64_t ignore_index;
    float smoothing, *tops, *logs, *losses;
} Forward;

static void forward_part(void *argument, int part, int parts) {
    const Forward *f = argument;
    const int64_t classes = f->classes;
    int64_t first, last;
    part_range(f->rows, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *z = f->z + row * classes, top = top_of(z, classes), log_total = logf(exponentials(z, classes, top, 0));
        int ignored = f->targets[row] == f->ignore_index;
        float mean = 0;
        if (f->smoothing != 0) {
            for (int64_t from = 0; from < classes; from += BLOCK) {
                const int64_t to = classes - from < BLOCK ? classes : from + BLOCK;
                float block = 0;
#pragma omp simd reduction(+ : block)
                for (int64_t j = from; j < to; j++) block += z[j] - top;
                mean += block;
            }
            mean = f->smoothing * (mean / (float)classes);
        }
        f->tops[row] = top;
        f->logs[row] = log_total;
        f->losses[row] = ignored ? 0 : log_total - (1 - f->smoothing) * (z[f->targets[row]] - top) - mean;
    }
}

/* losses (rows), kept (2, rows); value: the sum of the losses, or their mean over the targets that are not ignored; count: the number of
   these targets. Nothing is written if a target is out of range. */
EXPORT int cross_entropy_forward(
    int64_t rows, int64_t classes, const float *z, const int64_t *targets, int64_t ignore_index, float smoothing, int mean,
    float *kept, float *losses, float *value, float *count
) {
    int64_t valid = 0;
    double total = 0;
    for (int64_t row = 0; row < rows; row++) {
        if (targets[row] == ignore_index) continue;
        if (targets[row] < 0 || targets[row] >= classes) return ID_OUT_OF_RANGE;
        valid++;
    }
    Forward f = {rows, classes, z, targets, ignore_index, smoothing, kept, kept + rows, losses};
    pool_run(forward_part, &f, rows * classes * 16);
    for (int64_t row = 0; row < rows; row++) total += losses[row];
    *value = (float)(mean ? total / (double)valid : total);
    *count = (float)valid;
    return 0;
}

typedef struct {
    int64_t rows, classes;
    const float *z;
    const int64_t *targets;
    int64_t ignore_index;
    float smoothing;
    const float *tops, *logs, *dy;
    int single;
    float divisor, *dz;
} Backward;

static void backward_part(void *argument, int part, int parts) {
    const Backward *b = argument;
    const int64_t classes = b->classes;
    const float uniform = b->smoothing / (float)classes;
    int64_t first, last;
    part_range(b->rows, 1, part, parts, &first, &last);
    for (int64_t row = first; row < last; row++) {
        const float *z = b->z + row * classes, top = b->tops[row], log_total = b->logs[row];
        float *dz = b->dz + row * classes;
        if (b->targets[row] == b->ignore_index) {  /* 0 whatever dy and the row are: if all rows are ignored, the mean is 0/0 */
            memset(dz, 0, (size_t)classes * sizeof *dz);
            continue;
        }
        const float g = b->dy[b->single ? 0 : row] / b->divisor;
#pragma omp simd
        for (int64_t j = 0; j < classes; j++) dz[j] = g * (exp_to_0(z[j] - top - log_total) - uniform);
        dz[b->targets[row]] -= (1 - b->smoothing) * g;
    }
}

/* dy: one number, or one per row; divisor: what the sum of losses was divided by. */
EXPORT int cross_entropy_backward(
    int64_t rows, int64_t classes, const float *z, const int64_t *targets, int64_t ignore_index, float smoothing, const float *kept,
    const float *dy, int single, float divisor, float *dz
) {
    Backward b = {rows, classes, z, targets, ignore_index, smoothing, kept, kept + rows, dy, single, divisor, dz};
    pool_run(backward_part, &b, rows * classes * 16);
    return 0;
}
