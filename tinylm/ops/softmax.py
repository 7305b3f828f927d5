"""Softmax and its logarithm."""

from tinylm.engine.arrays import array_module, constant
from tinylm.engine.op import op
from tinylm.ops.reductions import finite_max, own_axis


@op
def softmax(x, /, axis=-1):
    """y = e^x / Σ e^x, the sum along `axis`: numbers become positive and sum to 1.  dx = y (dy - Σ dy y).

    x (...) -> y (...), the same shape. The maximum is subtracted first, so that nothing overflows. A row of -inf gives zeros.

    >>> tinylm.softmax([0.0, 1.0, 2.0])
    Tensor([0.09003057, 0.24472848, 0.66524094], dtype=float32)
    """
    axis = own_axis(x, axis)
    xp = array_module(x)
    e = xp.exp(x - finite_max(x, axis))
    total = xp.sum(e, axis=axis, keepdims=True)
    y = e / xp.where(constant(total) == 0, 1.0, total)
    return y, lambda dy: (y * (dy - xp.sum(dy * y, axis=axis, keepdims=True)),)


@op
def log_softmax(x, /, axis=-1):
    """y = x - log Σ e^x, the sum along `axis`: the logarithm of `softmax`.  dx = dy - e^y Σ dy.

    x (...) -> y (...), the same shape. Exact where softmax would round to 0.
    """
    axis = own_axis(x, axis)
    xp = array_module(x)
    shifted = x - finite_max(x, axis)
    y = shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True)) if x.size else shifted
    return y, lambda dy: (dy - xp.exp(y) * xp.sum(dy, axis=axis, keepdims=True),)
