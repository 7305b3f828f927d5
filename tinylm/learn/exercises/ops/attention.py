"""Attention: each position takes a weighted mean of the values at all positions.

    scores = q kᵀ/√D,   weights = softmax(scores) along the last axis,   y = weights v
    q (..., T, D), k (..., S, D), v (..., S, E) -> y (..., T, E)        (Vaswani et al. 2017, eq. 1)

causal (T = S): position i sees positions j <= i only. Scores of the others become -inf before the softmax, whose weight is then
exactly 0. xp.where(seen, scores, -math.inf) does it; seen = np.tri(T, dtype=bool) is True for j <= i.

You have written matmul and softmax. An op's body works on arrays: `weights, softmax_vjp = softmax.op.body(scores)`
gives value and vjp. Go backwards through your own lines: y, then weights, then scores, then q and k.
"""

import math

import numpy as np

import tinylm
from tinylm.ops.softmax import softmax


@tinylm.op
def scaled_dot_product_attention(q, k, v, /, *, causal=False):
    """y = softmax(q kᵀ/√D) v.  q (..., T, D), k (..., S, D), v (..., S, E) -> y (..., T, E)."""
    xp = tinylm.array_module(q, k, v)
    scale = 1 / math.sqrt(q.shape[-1])
    # >>> compute y, define vjp(dy), return y, vjp
    scores = xp.matmul(q, xp.swapaxes(k, -1, -2)) * scale
    if causal:
        scores = xp.where(np.tri(q.shape[-2], dtype=bool), scores, -math.inf)
    weights, softmax_vjp = softmax.op.body(scores)

    def vjp(dy):
        dv = xp.matmul(xp.swapaxes(weights, -1, -2), dy)
        (dscores,) = softmax_vjp(xp.matmul(dy, xp.swapaxes(v, -1, -2)))
        dq = xp.matmul(dscores, k) * scale
        dk = xp.matmul(xp.swapaxes(dscores, -1, -2), q) * scale
        return dq, dk, dv

    return xp.matmul(weights, v), vjp
    # <<<
