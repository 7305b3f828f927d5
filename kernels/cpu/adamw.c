/* One step of Adam or AdamW on n parameters w in place, as tinylm/optim/adam.py has it: with g = scale grads + decay w,
   m = β1 m + (1 - β1) g, v = β2 v + (1 - β2) g², w = shrink w - rate m / (√v / root + eps).

   Decoupled weight decay is in `shrink`, coupled weight decay in `decay`; the bias corrections of m and v are in `rate`
   and `root`. Each array is read and written once. */

#include "pool.h"

#include <math.h>

typedef struct {
    int64_t n;
    float *w;
    const float *grads;
    float *m, *v;
    float scale, decay, beta1, rest1, beta2, rest2, shrink, rate, inverse_root, eps;
} Step;

static void step_part(void *argument, int part, int parts) {
    const Step s = *(const Step *)argument;
    int64_t first, last;
    part_range(s.n, 16, part, parts, &first, &last);
#pragma omp simd
    for (int64_t i = first; i < last; i++) {
        float w = s.w[i], g = s.grads[i] * s.scale + s.decay * w;
        float m = s.m[i] * s.beta1 + s.rest1 * g, v = s.v[i] * s.beta2 + s.rest2 * (g * g);
        s.m[i] = m;
        s.v[i] = v;
        s.w[i] = s.shrink * w - s.rate * (m / (sqrtf(v) * s.inverse_root + s.eps));
    }
}

/* rest1 and rest2 are 1 - β1 and 1 - β2. */
EXPORT int adamw(
    int64_t n, float *w, const float *grads, float *m, float *v, float scale, float decay, float beta1, float rest1, float beta2,
    float rest2, float shrink, float rate, float inverse_root, float eps
) {
    Step s = {n, w, grads, m, v, scale, decay, beta1, rest1, beta2, rest2, shrink, rate, inverse_root, eps};
    pool_run(step_part, &s, n * 16);
    return 0;
}
