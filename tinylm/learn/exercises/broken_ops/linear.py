"""Bug: "It worked for months. Now my inputs are sequences, and backward fails."

A linear layer, y = x Wᵀ + bias. With a batch of vectors, x (N, C), all is right. With a batch of sequences, x (N, T, C), the
value is right as well, but the backward pass stops with an error about a shape.

Find the mistake and repair it.
"""

import tinylm


@tinylm.op
def linear(x, weight, bias, /):
    """y = x Wᵀ + bias.  x (..., C), weight (M, C), bias (M,) -> y (..., M)."""
    xp = tinylm.array_module(x, weight, bias)

    def vjp(dy):
        rows, drows = xp.reshape(x, (-1, x.shape[-1])), xp.reshape(dy, (-1, dy.shape[-1]))
        return xp.matmul(dy, weight), xp.matmul(xp.transpose(drows), rows), xp.sum(drows, axis=0)

    return xp.matmul(x, xp.transpose(weight)) + bias, vjp
