/* Linear layers of the same x in one run: see joint_linear.c. */
#ifndef TINYLM_JOINT_LINEAR_H
#define TINYLM_JOINT_LINEAR_H

#include <stdint.h>

enum { MOST_LAYERS = 3 };

/* A layer's number of outputs, 0 if the layer is missing; the offset of its first row in z; and the format of its weight, see
   stored_weights.h. */
typedef struct {
    int64_t outputs, offset, format;
} JointLayer;

/* z and dz hold all layers in one array; the rows of a layer are `stride` floats apart. */
typedef struct {
    int64_t rows, inputs, stride;
    JointLayer layers[MOST_LAYERS];
} JointLinearSizes;

int joint_linear_forward(
    const JointLinearSizes *sizes, int rounded, const float *x, const void *w0, const void *w1, const void *w2, const float *b0, const float *b1,
    const float *b2, float *z, float *y
);

#endif
