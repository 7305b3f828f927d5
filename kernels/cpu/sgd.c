/* One step of SGD on n parameters w in place, as tinylm/optim/sgd.py has it: with g = scale grads + decay w,
   w -= lr g without momentum, else v = keep v + g and w -= lr d, d being v or, for Nesterov's, g + momentum v.
   `keep` is the momentum, or 0 in the first step. */

#include "pool.h"

typedef struct {
    int64_t n;
    float *w;
    const float *grads;
    float *v;
    float scale, decay, lr, momentum, keep;
    int nesterov;
} Step;

static void step_part(void *argument, int part, int parts) {
    const Step s = *(const Step *)argument;
    int64_t first, last;
    part_range(s.n, 16, part, parts, &first, &last);
    if (s.momentum == 0) {
#pragma omp simd
        for (int64_t i = first; i < last; i++) s.w[i] -= s.lr * (s.grads[i] * s.scale + s.decay * s.w[i]);
        return;
    }
#pragma omp simd
    for (int64_t i = first; i < last; i++) {
        float g = s.grads[i] * s.scale + s.decay * s.w[i], v = s.keep * s.v[i] + g;
        s.v[i] = v;
        s.w[i] -= s.lr * (s.nesterov ? g + s.momentum * v : v);
    }
}

EXPORT int sgd(
    int64_t n, float *w, const float *grads, float *v, float scale, float decay, float lr, float momentum, float keep, int nesterov
) {
    Step s = {n, w, grads, v, scale, decay, lr, momentum, keep, nesterov};
    pool_run(step_part, &s, n * 4);
    return 0;
}
