"""Sums, means and extremes: functions that remove axes. `axis` is None (all), an integer or several.

A number, of shape (), counts as its own axis 0 here, as in PyTorch.
"""

import math
import operator
from typing import Any

from numpy.lib.array_utils import normalize_axis_tuple

from tinylm.checks import check_finite
from tinylm.engine.arrays import Array, array_module, constant, raw_module
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
    """Σ x over the axes.  dx = dy, repeated along the summed axes.

    axis: one, several, or None for all: x (N, C) -> (C,) for axis 0, or (1, C) with keepdims, and () for None.

    >>> x = tinylm.Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> x.sum(axis=0)
    Tensor([5., 7., 9.], dtype=float32)
    >>> x.sum(axis=1, keepdims=True).shape
    (2, 1)
    """
    axis = own_axis(x, axis)
    y = array_module(x).sum(x, axis=axis, keepdims=keepdims)
    return y, lambda dy: (spread(dy, x.shape, axis, keepdims),)


@op
def mean(x, /, axis=None, keepdims=False):
    """Σ x / n over the n elements along the axes.  dx = dy / n, repeated along them.

    axis and keepdims: as in `sum`.

    >>> tinylm.mean([[1.0, 2.0], [3.0, 6.0]], axis=1)
    Tensor([1.5, 4.5], dtype=float32)
    """
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


@op
def std(x, /, axis=None, *, ddof=0, keepdims=False):
    """y = √var, the standard deviation.  dx = dy (x - mean) / (y (n - ddof)), 0 where y is 0.

    Raises ConfigError for a ddof that is not finite.
    """
    squared, var_vjp = var.op.body(x, axis, ddof=ddof, keepdims=keepdims)
    xp = array_module(x)
    flat = constant(squared) == 0  # all elements are equal: there the derivative jumps
    root = xp.sqrt(xp.where(flat, 1.0, squared))
    return xp.where(flat, 0.0, root), lambda dy: var_vjp(xp.where(flat, 0.0, dy / (2 * root)))


@op
def prod(x, /, axis=None, keepdims=False):
    """Π x, 1 of nothing.  dx_i = dy Π_{j ≠ i} x_j, exact where elements are 0.

    The product is a tree: the first half of the elements times the second, and again. dy goes down the tree: each of two
    factors gets it times the other one, so that nothing is divided.
    """
    if x.dtype.kind != "f":
        return array_module(x).prod(x, axis=own_axis(x, axis), keepdims=keepdims), None
    xp = array_module(x)
    axis = own_axis(x, axis)
    axes = tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    order = (*kept, *axes)
    factors = xp.reshape(xp.transpose(x, order), (*(x.shape[i] for i in kept), _count(x.shape, axes)))
    levels = []
    while (n := factors.shape[-1] // 2) > 0:
        a, b = factors[..., :n], factors[..., n : 2 * n]
        levels.append((a, b))
        factors = xp.concatenate([a * b, factors[..., 2 * n :]], -1)
    shape = [1 if i in axes else n for i, n in enumerate(x.shape)] if keepdims else [x.shape[i] for i in kept]
    top = factors if factors.shape[-1] else raw_module(x).ones((*factors.shape[:-1], 1), x.dtype)

    def vjp(dy):
        d = xp.reshape(dy, top.shape)[..., : factors.shape[-1]]
        for a, b in reversed(levels):
            n = a.shape[-1]
            d = xp.concatenate([d[..., :n] * b, d[..., :n] * a, d[..., n:]], -1)
        d = xp.reshape(d, tuple(x.shape[i] for i in order))
        return (xp.transpose(d, sorted(range(x.ndim), key=order.__getitem__)),)

    return xp.reshape(top, tuple(shape)), vjp


def _extreme_vjp(x: Array, y: Array, axis: int | tuple[int, ...] | None, keepdims: bool):
    """Returns a vjp that gives dy to the extreme element, in equal parts if there are several."""

    def vjp(dy):
        chosen = constant(x) == spread(constant(y), x.shape, axis, keepdims)
        part = chosen / chosen.sum(axis=axis, keepdims=True)
        return (spread(dy, x.shape, axis, keepdims) * part.astype(x.dtype),)

    return vjp


@op
def max(x, /, axis=None, keepdims=False):
    """The largest element along the axes.  dy goes to it, in equal parts if several are largest.

    axis and keepdims: as in `sum`.

    >>> tinylm.max([[1.0, 7.0], [3.0, 6.0]], axis=0)
    Tensor([3., 7.], dtype=float32)
    """
    axis = own_axis(x, axis)
    y = array_module(x).max(x, axis=axis, keepdims=keepdims)
    return y, _extreme_vjp(x, y, axis, keepdims)


@op
def min(x, /, axis=None, keepdims=False):
    """The smallest element along the axes.  dy goes to it, in equal parts if several are smallest.

    axis and keepdims: as in `sum`.
    """
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
