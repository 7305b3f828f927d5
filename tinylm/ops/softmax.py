"""Softmax and its logarithm."""

from tinylm.engine.arrays import array_module, constant
from tinylm.engine.op import op
from tinylm.ops.reductions import finite_max, own_axis


@op
def softmax(x, /, axis=-1):
    """e^x / Σ e^x along axis; a row of -inf gives zeros.  dx = y (dy - Σ dy y)."""
    axis = own_axis(x, axis)
    xp = array_module(x)
    e = xp.exp(x - finite_max(x, axis))
    total = xp.sum(e, axis=axis, keepdims=True)
    y = e / xp.where(constant(total) == 0, 1.0, total)
    return y, lambda dy: (y * (dy - xp.sum(dy * y, axis=axis, keepdims=True)),)


@op
def log_softmax(x, /, axis=-1):
    """x - log Σ e^x along axis.  dx = dy - e^y Σ dy."""
    axis = own_axis(x, axis)
    xp = array_module(x)
    shifted = x - finite_max(x, axis)
    y = shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True)) if x.size else shifted
    return y, lambda dy: (dy - xp.exp(y) * xp.sum(dy, axis=axis, keepdims=True),)
