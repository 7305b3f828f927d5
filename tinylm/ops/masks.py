"""Masks: made from numbers, combined, summed up, and applied as triangles. Only `tril` and `triu` have a derivative."""

from typing import Any

from tinylm.checks import check_integer
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.ids import check_ids
from tinylm.engine.op import op
from tinylm.errors import ShapeError
from tinylm.ops.reductions import own_axis


@op
def isfinite(x, /):
    """True where x is neither NaN nor infinite."""
    return array_module(x).isfinite(x), None


@op
def isnan(x, /):
    """True where x is NaN."""
    return array_module(x).isnan(x), None


def _check_bits(name: str, *arrays: Any) -> None:
    """Raises ShapeError for a floating array or number, whose bits mean nothing here."""
    for a in arrays:
        dtype = getattr(a, "dtype", type(a))
        if getattr(dtype, "kind", dtype) in ("f", float):
            raise ShapeError(
                f"{name}: expected booleans or integers, got {getattr(dtype, 'name', 'a float')}: compare first, as in (x > 0)"
            )


@op
def bitwise_and(a, b, /):
    """a & b: true where both are; of integers, bit by bit."""
    _check_bits("a & b", a, b)
    return array_module(a, b).bitwise_and(a, b), None


@op
def bitwise_or(a, b, /):
    """a | b: true where one of them is, or both; of integers, bit by bit."""
    _check_bits("a | b", a, b)
    return array_module(a, b).bitwise_or(a, b), None


@op
def invert(x, /):
    """~x: true where x is not; of integers, bit by bit: -x - 1."""
    _check_bits("~x", x)
    return array_module(x).invert(x), None


@op
def any(x, /, axis=None, keepdims=False):
    """True where an element along the axes is not 0 (NaN is not 0); False of none."""
    return array_module(x).any(x, axis=own_axis(x, axis), keepdims=keepdims), None


@op
def all(x, /, axis=None, keepdims=False):
    """True where no element along the axes is 0; True of none."""
    return array_module(x).all(x, axis=own_axis(x, axis), keepdims=keepdims), None


def _check_matrices(name: str, x: Array) -> None:
    if x.ndim < 2:
        raise ShapeError(f"{name}: x has shape {x.shape}, expected (..., rows, columns)")


@op
def tril(x, /, k=0):
    """x (..., rows, columns) on and below the diagonal, where column - row <= k; 0 above, whatever stood there.

    dx = the same part of dy.  tril of ones is a causal mask. Raises ShapeError for fewer than two axes.
    """
    _check_matrices("tril", x)
    k = check_integer("tril: k", k)
    return array_module(x).tril(x, k), lambda dy: (array_module(dy).tril(dy, k),)


@op
def triu(x, /, k=0):
    """x (..., rows, columns) on and above the diagonal, where column - row >= k; 0 below, whatever stood there.

    dx = the same part of dy. Raises ShapeError for fewer than two axes.
    """
    _check_matrices("triu", x)
    k = check_integer("triu: k", k)
    return array_module(x).triu(x, k), lambda dy: (array_module(dy).triu(dy, k),)


@op
def one_hot(ids, /, num_classes):
    """y[..., v] = 1 where ids = v, else 0: ids (...) -> (..., num_classes), integers.

    Raises RangeError for an id outside 0 to num_classes - 1, ShapeError for ids that are no integers.
    """
    check_ids(ids, check_integer("one_hot: num_classes", num_classes, 1), "one_hot: id")
    xp = array_module(ids)
    return (ids[..., None] == xp.arange(num_classes)).astype(xp.int64), None
