/* Queries, keys and values with rotary positions: the three projections of x side by side in z (N, T, heads, D), whose first
   `turned` heads, those of the queries and keys, are then turned where they lie. */

#include "joint_linear.h"
#include "pool.h"
#include "rotary.h"

/* numbers: of the layers, see joint_linear.c. turns: of the heads to turn, see rotary.c; cos and sin (T, D/2). */
EXPORT int rotary_heads_forward(
    const int64_t *numbers, const int64_t *turns, const float *x, const float *w0, const float *w1, const float *w2, const float *b0,
    const float *b1, const float *b2, const float *cos, const float *sin, int interleaved, float *z
) {
    int failed = joint_linear_forward(numbers, x, w0, w1, w2, b0, b1, b2, z, 0);
    return failed ? failed : rotary(turns, z, cos, sin, 1, interleaved, z);
}
