"""Layer norm and its relatives, over the last axis."""

import math

from tinylm.checks import check_at_least
from tinylm.engine.arrays import array_module, of_one_dtype, sum_to
from tinylm.engine.op import op


@op
def layer_norm(x, weight=None, bias=None, /, *, eps=1e-5):
    """y = weight * (x - mean) * rstd + bias over the last axis, rstd = 1/√(var + eps).

    x (..., C); weight, bias (C,) or None -> (..., C).  Ba et al. 2016, arXiv:1607.06450, eq. 4.
    With x̂ = (x - mean) rstd and dx̂ = dy weight:
    dx = rstd (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂)),  dweight = Σ dy x̂,  dbias = Σ dy.
    Raises ConfigError for an eps below 0 or not finite.
    """
    if type(eps) is not float or not 0 <= eps < math.inf:
        eps = check_at_least(0, "eps", eps)
    x, weight, bias = of_one_dtype("layer_norm", x=x, weight=weight, bias=bias)
    xp = array_module(x, weight, bias)
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    rstd = 1 / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    xhat = centred * rstd
    y = xhat if weight is None else xhat * weight
    if bias is not None:
        y = y + bias

    def vjp(dy):
        dxhat = dy if weight is None else dy * weight
        dx = rstd * (dxhat - xp.mean(dxhat, axis=-1, keepdims=True) - xhat * xp.mean(dxhat * xhat, axis=-1, keepdims=True))
        dweight = None if weight is None else sum_to(dy * xhat, weight.shape)
        return dx, dweight, None if bias is None else sum_to(dy, bias.shape)

    return y, vjp


@op
def rms_norm(x, weight=None, /, *, eps=1e-6):
    """y = weight * x / √(mean(x²) + eps) over the last axis.

    x (..., C), weight (C,) or None -> (..., C).  Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.
    With x̂ = x r, r = 1/√(mean(x²) + eps), dx̂ = dy weight:  dx = r (dx̂ - x̂ mean(dx̂ x̂)).
    Raises ConfigError for an eps below 0 or not finite.
    """
    if type(eps) is not float or not 0 <= eps < math.inf:
        eps = check_at_least(0, "eps", eps)
    x, weight = of_one_dtype("rms_norm", x=x, weight=weight)
    xp = array_module(x, weight)
    r = 1 / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)
    xhat = x * r

    def vjp(dy):
        dxhat = dy if weight is None else dy * weight
        dx = r * (dxhat - xhat * xp.mean(dxhat * xhat, axis=-1, keepdims=True))
        return dx, None if weight is None else sum_to(dy * xhat, weight.shape)

    return xhat if weight is None else xhat * weight, vjp
