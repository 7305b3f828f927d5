"""Sums, means and extremes: functions that remove axes. `axis` is None (all), an integer or several.

A number, of shape (), counts as its own axis 0 here, as in PyTorch.
"""

import math
import operator
from typing import Any

from tinylm.checks import check_finite
from tinylm.engine.arrays import Array, array_module, constant
from tinylm.engine.op import op


def spread(dy: Array, shape: tuple[int, ...], axis: int | tuple[int, ...] | None, keepdims: bool) -> Array:
    """Returns dy repeated along the axes that the reduction removed: the adjoint of summing."""
    xp = array_module(dy)
    if axis is not None and not keepdims:
        dy = xp.expand_dims(dy, axis)
    return xp.broadcast_to(dy, shape)


def own_axis(x: Array, axis: Any) -> Any:
    """Returns axis; None, which reduces all there is, if it is the only one that PyTorch gives an array of shape ()."""
    return None if getattr(x, "ndim", 0) == 0 and axis in (0, -1, (0,), (-1,)) else axis


def _count(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> int:
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[i] for i in (axis if isinstance(axis, tuple) else (operator.index(axis),)))


@op
def sum(x, /, axis=None, keepdims=False):
    """Σ x.  dx = dy, repeated along the summed axes."""
    axis = own_axis(x, axis)
    y = array_module(x).sum(x, axis=axis, keepdims=keepdims)
    return y, lambda dy: (spread(dy, x.shape, axis, keepdims),)


@op
def mean(x, /, axis=None, keepdims=False):
    """Σ x / n.  dx = dy / n, repeated."""
    axis = own_axis(x, axis)
    y = array_module(x).mean(x, axis=axis, keepdims=keepdims)
    n = _count(x.shape, axis)
    return y, lambda dy: (spread(dy / n, x.shape, axis, keepdims),)


@op
def var(x, /, axis=None, *, ddof=0, keepdims=False):
    """Σ (x - mean)² / (n - ddof).  dx = dy 2 (x - mean) / (n - ddof).

    Without a degree of freedom, n <= ddof, both are divided by 0: infinite, or NaN where x is the mean.
    Raises ConfigError for a ddof that is not finite.
    """
    if type(ddof) is not int:
        ddof = check_finite("ddof", ddof)
    axis = own_axis(x, axis)
    xp = array_module(x)
    centred = x - xp.mean(x, axis=axis, keepdims=True)
    squares = xp.sum(centred * centred, axis=axis, keepdims=keepdims)
    freedom = _count(x.shape, axis) - ddof
    n, slope = (freedom, 2 / freedom) if freedom > 0 else (0, math.inf)
    return squares / n, lambda dy: (spread(dy * slope, x.shape, axis, keepdims) * centred,)


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
    axis = own_axis(x, axis)
    y = array_module(x).max(x, axis=axis, keepdims=keepdims)
    return y, _extreme_vjp(x, y, axis, keepdims)


@op
def min(x, /, axis=None, keepdims=False):
    """The smallest element.  dy goes to it, in equal parts if several are smallest."""
    axis = own_axis(x, axis)
    y = array_module(x).min(x, axis=axis, keepdims=keepdims)
    return y, _extreme_vjp(x, y, axis, keepdims)


@op
def logsumexp(x, /, axis=None, keepdims=False):
    """log Σ eˣ, shifted by the maximum m so that nothing overflows; -inf over no elements.
    dx = dy e^(x - m) / Σ e^(x - m), the softmax."""
    axis = own_axis(x, axis)
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
    if raw.size == 0:
        return xp.sum(raw, axis=axis, keepdims=True)  # zeros, of the shape that the maximum would have if there were one
    top = xp.max(raw, axis=axis, keepdims=True)
    return xp.where(xp.isfinite(top), top, xp.zeros_like(top))
