"""Reads and adds at positions: indexing, embedding, and their adjoint scatter_add."""

from numpy.lib.array_utils import normalize_axis_index

from tinylm.engine.arrays import Array, array_module, constant, promoted
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
    key = positions_along(constant(indices), axis, x.shape)
    return x[key], lambda dy: (array_module(dy).scatter_add(dy, key, x.shape), None)


@op
def gather(x, indices, /, axis):
    """y[i, j] = x[i, indices[i, j]] for the last of two axes, and likewise for others, as torch.gather(x, axis, indices).

    indices has as many axes as x, and may be shorter than x along the others: the first rows of x are meant then. (In
    take_along_axis a row of indices stands for all rows of x.)  dx = dy added at those positions. Raises ShapeError for
    indices that are longer, RangeError for one outside 0 to n - 1.
    """
    axis = normalize_axis_index(axis, x.ndim)
    if indices.ndim != x.ndim or any(n > m for i, (n, m) in enumerate(zip(indices.shape, x.shape, strict=True)) if i != axis):
        raise ShapeError(f"gather: indices have shape {indices.shape}, x {x.shape}: expected as many axes, none longer but axis {axis}")
    check_ids(indices, x.shape[axis], "gather: index")
    key = positions_along(constant(indices), axis)
    return x[key], lambda dy: (array_module(dy).scatter_add(dy, key, x.shape), None)


def positions_along(indices: Array, axis: int, shape: tuple[int, ...] | None = None) -> tuple[Array, ...]:
    """Returns the key of the elements whose position is `indices` along axis, and counts up from 0 along the other axes
    of `shape` (of the indices' own)."""
    xp, sizes = array_module(indices), indices.shape if shape is None else shape
    return tuple(indices if i == axis else xp.arange(n).reshape((-1,) + (1,) * (len(sizes) - 1 - i)) for i, n in enumerate(sizes))


@op
def take(x, indices, /, axis=None):
    """The elements x[..., indices, ...] of `axis` (of the flattened array for None); negative indices count from the end.

    x (..., n, ...), indices (...) -> (..., *indices.shape, ...).  dx = dy added at those positions.
    Raises ShapeError for indices that are no integers: a mask is for x[mask].
    """
    if type(indices) is not int and getattr(getattr(indices, "dtype", None), "kind", "") not in ("i", "u"):
        raise ShapeError(f"take: indices must be integers, got {getattr(indices, 'dtype', type(indices).__name__)}; for a mask: x[mask]")
    at = 0 if axis is None else normalize_axis_index(axis, x.ndim)
    rows = array_module(x).reshape(x, -1) if axis is None else x
    key = (slice(None),) * at + (constant(indices),)

    def vjp(dy):
        xp = array_module(dy)
        return xp.reshape(xp.scatter_add(dy, key if at else key[0], rows.shape), x.shape), None

    return rows[key], vjp


@op
def embedding(ids, weight, /, *, padding_idx=None):
    """Row ids[...] of the table: ids (...), weight (V, C) -> (..., C).

    dweight[v] = Σ dy over the positions where ids = v, added in a fixed order; the row
    `padding_idx`, counted from the end if it is negative, gets no gradient. Raises RangeError for an id
    outside 0 to V - 1 and for a padding_idx outside -V to V - 1.

    >>> tinylm.embedding(np.array([2, 0]), np.array([[0.0, 0.1], [1.0, 1.1], [2.0, 2.1]]))
    Tensor([[2. , 2.1],
            [0. , 0.1]], dtype=float64)
    """
    check_ids(ids, weight.shape[0], "embedding: token id")
    padding = None if padding_idx is None else padding_row(padding_idx, weight.shape[0])

    def vjp(dy):
        if padding is not None:
            dy = array_module(dy).where((ids != padding)[..., None], dy, 0.0)
        return None, array_module(dy).scatter_add(dy, ids, weight.shape)

    return weight[ids], vjp
