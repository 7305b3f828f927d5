"""Bug: "The loss is wonderful, and the generated text is not."

Causal attention: position i must not know anything of the positions after it. The weights of later positions are exactly 0, as one
can see by printing them. And yet, if the last token of the input is changed, the output at the first position changes. The model
learns to read the future from that, and when it generates there is no future.

Find the mistake and repair it.
"""

import math

import numpy as np

import tinylm


@tinylm.op
def causal_attention(q, k, v, /):
    """y = softmax(q kᵀ/√D, causal) v.  q, k (..., T, D), v (..., T, E) -> y (..., T, E)."""
    xp = tinylm.array_module(q, k, v)
    scale = 1 / math.sqrt(q.shape[-1])
    seen = np.tri(q.shape[-2], dtype=bool)
    scores = xp.where(seen, xp.matmul(q, xp.swapaxes(k, -1, -2)) * scale, -math.inf)
    e = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    weights = e / xp.sum(e, axis=-1, keepdims=True)

    def vjp(dy):
        dweights = xp.matmul(dy, xp.swapaxes(v, -1, -2))
        dscores = weights * (dweights - xp.sum(dweights * weights, axis=-1, keepdims=True)) * scale
        dq, dk = xp.matmul(dscores, k), xp.matmul(xp.swapaxes(dscores, -1, -2), q)
        return dq, dk, xp.matmul(xp.swapaxes(weights, -1, -2), dy)

    return xp.matmul(weights, v), vjp
