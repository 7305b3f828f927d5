"""Softmax: scores to probabilities, along the last axis.

    y_i = exp(x_i) / Σ_j exp(x_j)

exp(1000) overflows. Since a number that is subtracted from all x of a row cancels, subtract the row's maximum first: the
largest exponent is then 0. (xp.max and xp.sum take axis=-1 and keepdims=True, which keeps the axis with length 1.)

Every y_i depends on every x_j of its row: ∂y_i/∂x_j = y_i (1 - y_i) if i = j, and -y_i y_j otherwise. In
    dx_j = Σ_i dy_i ∂y_i/∂x_j
the sum can be written without a matrix: work it out on paper before you write it down.
"""

import tinylm


@tinylm.op
def softmax(x, /):
    """y = softmax(x) along the last axis.  x (..., V) -> y (..., V)."""
    xp = tinylm.array_module(x)
    # >>> compute y, define vjp(dy), return y, vjp
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    y = e / xp.sum(e, axis=-1, keepdims=True)

    def vjp(dy):
        return (y * (dy - xp.sum(dy * y, axis=-1, keepdims=True)),)

    return y, vjp
    # <<<
