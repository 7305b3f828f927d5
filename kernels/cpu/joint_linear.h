/* Linear layers of the same x in one run: see joint_linear.c. */
#ifndef TINYLM_JOINT_LINEAR_H
#define TINYLM_JOINT_LINEAR_H

#include <stdint.h>

int joint_linear_forward(
    const int64_t *numbers, const float *x, const float *w0, const float *w1, const float *w2, const float *b0, const float *b1,
    const float *b2, float *z, float *y
);

#endif
