"""Sums, means and extremes: functions that remove axes. `axis` is None (all), an integer or several."""

import math

from tinylm.engine.arrays import Array, array_module, constant
from tinylm.engine.op import op


def spread(dy: Array, shape: tuple[int, ...], axis: int | tuple[int, ...] | None, keepdims: bool) -> Array:
    """Returns dy repeated along the axes that the reduction removed: the adjoint of summing."""
    xp = array_module(dy)
    if axis is not None and not keepdims:
        dy = xp.expand_dims(dy, axis)
    return xp.broadcast_to(dy, shape)


def _count(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> int:
    return math.prod(shape if axis is None else [shape[i] for i in ((axis,) if isinstance(axis, int) else axis)])


@op
def sum(x, /, axis=None, keepdims=False):
    """Σ x.  dx = dy, repeated along the summed axes."""
    y = array_module(x).sum(x, axis=axis, keepdims=keepdims)
    return y, lambda dy: (spread(dy, x.shape, axis, keepdims),)


@op
def mean(x, /, axis=None, keepdims=False):
    """Σ x / n.  dx = dy / n, repeated."""
    n = _count(x.shape, axis)
    y = array_module(x).mean(x, axis=axis, keepdims=keepdims)
    return y, lambda dy: (spread(dy / n, x.shape, axis, keepdims),)


@op
def var(x, /, axis=None, *, ddof=0, keepdims=False):
    """Σ (x - mean)² / (n - ddof).  dx = dy 2 (x - mean) / (n - ddof)."""
    xp = array_module(x)
    n = _count(x.shape, axis) - ddof
    centred = x - xp.mean(x, axis=axis, keepdims=True)
    y = xp.sum(centred * centred, axis=axis, keepdims=keepdims) / n
    return y, lambda dy: (spread(dy * (2 / n), x.shape, axis, keepdims) * centred,)


def _extreme_vjp(x: Array, y: Array, axis: int | tuple[int, ...] | None, keepdims: bool):
    """Returns a vjp that gives dy to the extreme element, in equal parts if there are several."""

    def vjp(dy):
        chosen = constant(x) == spread(constant(y), x.shape, axis, keepdims)
        part = chosen / chosen.sum(axis=axis, keepdims=True)
        return (spread(dy, x.shape, axis, keepdims) * part.astype(x.dtype),)

    return vjp


@op
def max(x, /, axis=None, keepdims=False):
    """The largest element.  dy goes to it, in equal parts if several are largest."""
    y = array_module(x).max(x, axis=axis, keepdims=keepdims)
    return y, _extreme_vjp(x, y, axis, keepdims)


@op
def min(x, /, axis=None, keepdims=False):
    """The smallest element.  dy goes to it, in equal parts if several are smallest."""
    y = array_module(x).min(x, axis=axis, keepdims=keepdims)
    return y, _extreme_vjp(x, y, axis, keepdims)


@op
def logsumexp(x, /, axis=None, keepdims=False):
    """log Σ eˣ, shifted by the maximum m so that nothing overflows.  dx = dy e^(x - m) / Σ e^(x - m), the softmax."""
    xp = array_module(x)
    shift = finite_max(x, axis)
    total = xp.sum(xp.exp(x - shift), axis=axis, keepdims=True)
    nothing = constant(total) == 0  # a row of -inf: its value is -inf, its gradient 0
    total = xp.where(nothing, 1.0, total)
    kept = xp.log(total) + xp.where(nothing, -math.inf, shift)
    y = kept if keepdims else xp.squeeze(kept, axis)

    def vjp(dy):
        return (spread(dy, x.shape, axis, keepdims) * (xp.exp(x - shift) / total),)  # with a large y, e^(x - y) would lose digits

    return y, vjp


def finite_max(x: Array, axis: int | tuple[int, ...] | None) -> Array:
    """Returns the maximum along axis as a constant; 0 where it is infinite, so that x - max is not NaN."""
    raw = constant(x)
    xp = array_module(raw)
    top = xp.max(raw, axis=axis, keepdims=True)
    return xp.where(xp.isfinite(top), top, xp.zeros_like(top))
