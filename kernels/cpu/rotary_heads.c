/* Queries, keys and values with rotary positions: the three projections of x side by side in z (N, T, heads, D), whose first
   heads, those of the queries and keys, are then turned in place. */

#include "joint_linear.h"
#include "pool.h"
#include "rotary.h"

/* turned: the heads to turn; cos and sin (T, D/2). The other arguments are those of joint_linear_forward. */
EXPORT int rotary_heads_forward(
    const JointLinearSizes *sizes, const RotaryLayout *turned, int rounded, const float *x, const void *w0, const void *w1, const void *w2,
    const float *b0, const float *b1, const float *b2, const float *cos, const float *sin, int interleaved, float *z
) {
    int failed = joint_linear_forward(sizes, rounded, x, w0, w1, w2, b0, b1, b2, z, 0);
    return failed ? failed : rotary(turned, z, cos, sin, 1, interleaved, z);
}
