"""Functions along one axis that keep it: sorting, and cumulative sums. In a tie, the element that comes first is first."""

from typing import Any

from numpy.lib.array_utils import normalize_axis_index

from tinylm.checks import check_integer, shown
from tinylm.engine.arrays import Array, array_module, constant, raw_module
from tinylm.engine.op import op
from tinylm.errors import ConfigError
from tinylm.ops.indexing import positions_along


@op
def argsort(x, /, axis=-1):
    """The positions of the elements along `axis` in ascending order, NaN last: take_along_axis(x, argsort(x, axis), axis) is sorted."""
    return _order(x, axis), None


@op
def sort(x, /, axis=-1):
    """The elements along `axis` in ascending order, NaN last.  Each element gets the dy of its place; which one of equal ones
    gets which is settled by their order in x."""
    key = positions_along(_order(x, axis), normalize_axis_index(axis, x.ndim))
    return x[key], lambda dy: (array_module(dy).scatter_add(dy, key, x.shape),)


@op
def topk(x, /, k, axis=-1):
    """The k largest elements along `axis` in descending order, and their positions; NaN counts as largest.

    x (..., n, ...) -> two of (..., k, ...).  Each chosen element gets the dy of its place, the others 0.
    Raises ConfigError for a k outside 0 to n.
    """
    axis = normalize_axis_index(axis, x.ndim)
    n = x.shape[axis]
    if not 0 <= check_integer("topk: k", k) <= n:
        raise ConfigError(f"topk: k is {shown(k)}: expected 0 to {n}, for x of shape {x.shape} along axis {axis}")
    raw, xp = constant(x), raw_module(x)
    # Ascending in the reversed array, then reversed: descending, and equal elements in their own order.
    indices = n - 1 - xp.flip(_order(xp.flip(raw, axis), axis), axis)
    indices = indices[(slice(None),) * axis + (slice(k),)]
    key = positions_along(indices, axis)
    return (x[key], indices), lambda dy, _: (array_module(dy).scatter_add(dy, key, x.shape),)


def _order(x: Array, axis: Any) -> Array:
    """Returns argsort of a raw array or a tensor's, equal elements in their own order."""
    raw = constant(x)
    return array_module(raw).argsort(raw, axis=normalize_axis_index(axis, raw.ndim), kind="stable")


@op
def cumsum(x, /, axis=None):
    """y_i = Σ_{j <= i} x_j along `axis` (of the flattened array for None).  dx_j = Σ_{i >= j} dy_i."""
    if axis is not None:
        axis = normalize_axis_index(axis, x.ndim)
    along = axis or 0

    def vjp(dy):
        xp = array_module(dy)
        return (xp.reshape(xp.flip(xp.cumsum(xp.flip(dy, along), axis=along), along), x.shape),)

    return array_module(x).cumsum(x, axis=axis), vjp
