"""Layer norm: each row is moved to mean 0 and variance 1, then scaled and shifted.

    x̂ = (x - mean) r,   r = 1/√(var + eps),   y = weight x̂ + bias        over the last axis, of length C

var is the mean of (x - mean)², divided by C. mean and r depend on every x of the row, so dx has three terms. With dx̂ = dy weight:
    dx = r (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂))        (Ba et al. 2016; the derivation is in tinylm/ops/README.md)
Before you write it down: which term comes from the mean, which from the variance?

weight and bias serve all rows: their gradients are sums over the rows (sum_to).
"""

import tinylm
from tinylm.engine.arrays import sum_to


@tinylm.op
def layer_norm(x, weight, bias, /, *, eps=1e-5):
    """y = weight x̂ + bias.  x (..., C); weight, bias (C,) -> y (..., C)."""
    xp = tinylm.array_module(x, weight, bias)
    # >>> compute y, define vjp(dy), return y, vjp
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    r = 1 / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    xhat = centred * r

    def vjp(dy):
        dxhat = dy * weight
        dx = r * (dxhat - xp.mean(dxhat, axis=-1, keepdims=True) - xhat * xp.mean(dxhat * xhat, axis=-1, keepdims=True))
        return dx, sum_to(dy * xhat, weight.shape), sum_to(dy, bias.shape)

    return weight * xhat + bias, vjp
    # <<<
