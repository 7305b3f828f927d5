/* The functions of kernels/cpu/functions.h over arrays, vectorised as in the kernels. */

#include "functions.h"

#define OVER_AN_ARRAY(name)                                                      \
    void name(const float *x, float *y, int n) {                                 \
        _Pragma("omp simd") for (int i = 0; i < n; i++) y[i] = name##_of(x[i]);  \
    }

OVER_AN_ARRAY(tanh)
OVER_AN_ARRAY(sigmoid)
OVER_AN_ARRAY(erf)
OVER_AN_ARRAY(exp)
