"""Reads and adds at positions: indexing, embedding, and their adjoint scatter_add."""

from numpy.lib.array_utils import normalize_axis_index

from tinylm.engine.arrays import array_module, constant, promoted, raw_module
from tinylm.engine.ids import check_ids, padding_row
from tinylm.engine.op import op
from tinylm.errors import ShapeError


@op
def getitem(x, /, key):
    """x[key] for integers, slices, None, ..., integer arrays and boolean masks.
    dx = zeros with dy added at [key]."""
    return x[key], lambda dy: (array_module(dy).scatter_add(dy, key, x.shape),)


@op
def scatter_add(values, /, key, shape):
    """Zeros of `shape` with values added at [key], repeated positions are summed in a fixed order: the
    adjoint of getitem.  dvalues = dy[key]."""
    return array_module(values).scatter_add(values, key, shape), lambda dy: (dy[key],)


@op
def index_add(x, values, /, key):
    """x with values added at the distinct positions [key].  dx = dy, dvalues = dy[key]."""
    x, values = promoted(x, values)
    xp = array_module(x, values)
    return x + xp.scatter_add(values, key, x.shape), lambda dy: (dy, dy[key])


@op
def take_along_axis(x, indices, /, axis):
    """y[i, j] = x[i, indices[i, j]] for the last of two axes, and likewise for others; indices has
    as many axes as x.  dx = dy added at those positions."""
    if indices.ndim != x.ndim:
        raise ShapeError(f"take_along_axis: indices have {indices.ndim} axes, x has {x.ndim}")
    axis = normalize_axis_index(axis, x.ndim)
    xp = raw_module(x)
    key = tuple(constant(indices) if i == axis else xp.arange(n).reshape((-1,) + (1,) * (x.ndim - 1 - i)) for i, n in enumerate(x.shape))
    return x[key], lambda dy: (array_module(dy).scatter_add(dy, key, x.shape), None)


@op
def embedding(ids, weight, /, *, padding_idx=None):
    """Row ids[...] of the table: ids (...), weight (V, C) -> (..., C).

    dweight[v] = Σ dy over the positions where ids = v, added in a fixed order; the row
    `padding_idx`, counted from the end if it is negative, gets no gradient. Raises RangeError for an id
    outside 0 to V - 1 and for a padding_idx outside -V to V - 1.
    """
    check_ids(ids, weight.shape[0], "embedding: token id")
    padding = None if padding_idx is None else padding_row(padding_idx, weight.shape[0])

    def vjp(dy):
        if padding is not None:
            dy = array_module(dy).where((ids != padding)[..., None], dy, 0.0)
        return None, array_module(dy).scatter_add(dy, ids, weight.shape)

    return weight[ids], vjp
