"""Functions that move elements without changing them. The adjoint moves dy back."""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tinylm.checks import check_integer
from tinylm.engine.arrays import all_promoted, array_module, is_number, raw_module, sum_to
from tinylm.engine.op import op
from tinylm.errors import ShapeError
from tinylm.ops.reductions import own_axis


@op
def reshape(x, /, shape):
    """The same elements in another shape (one size may be -1: it follows from the others).  dx = dy in the old shape.

    >>> tinylm.arange(6).reshape(2, -1)
    Tensor([[0, 1, 2],
            [3, 4, 5]], dtype=int64)
    """
    return array_module(x).reshape(x, shape), lambda dy: (array_module(dy).reshape(dy, x.shape),)


@op
def transpose(x, /, axes=None):
    """x with its axes in another order (reversed for None).  dx = dy in the old order.

    axes: which axis of x each axis of the result is: x (N, T, C) -> (N, C, T) for (0, 2, 1).

    >>> tinylm.transpose(np.zeros((2, 3, 4)), (0, 2, 1)).shape
    (2, 4, 3)
    """

    def vjp(dy):
        back = None if axes is None else sorted(range(len(axes)), key=lambda i: axes[i] % len(axes))
        return (array_module(dy).transpose(dy, back),)

    return array_module(x).transpose(x, axes), vjp


@op
def swapaxes(x, /, axis1, axis2):
    """x with two axes exchanged.  dx = dy with them exchanged back."""
    return array_module(x).swapaxes(x, axis1, axis2), lambda dy: (array_module(dy).swapaxes(dy, axis1, axis2),)


@op
def expand_dims(x, /, axis):
    """x with new axes of length 1 at `axis`.  dx = dy without them."""
    return array_module(x).expand_dims(x, axis), lambda dy: (array_module(dy).reshape(dy, x.shape),)


@op
def squeeze(x, /, axis=None):
    """x without its axes of length 1, or without those given: one or several.  dx = dy with them.

    Raises ShapeError for an axis of another length.
    """
    axis = own_axis(x, axis)
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axis is None else normalize_axis_tuple(axis, x.ndim)
    for i in axes:
        if x.shape[i] != 1:
            raise ShapeError(f"squeeze: axis {i} of the shape {x.shape} has the length {x.shape[i]}: expected 1")
    return array_module(x).squeeze(x, tuple(axes)), lambda dy: (array_module(dy).reshape(dy, x.shape),)


@op
def broadcast_to(x, /, shape):
    """x repeated to `shape` by NumPy's broadcasting; -1 keeps the length of an axis.  dx = dy summed over the repeats.

    Raises ShapeError for a -1 where x has no axis.
    """
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    if -1 in sizes:
        lead = len(sizes) - x.ndim
        if -1 in sizes[: max(lead, 0)]:
            raise ShapeError(f"broadcast_to: {tuple(sizes)} has a -1 before the axes of x, whose shape is {x.shape}")
        sizes = tuple(x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(sizes))
    return array_module(x).broadcast_to(x, tuple(sizes)), lambda dy: (sum_to(dy, x.shape),)


@op
def flatten(x, /, start_axis=0, end_axis=-1):
    """x with the axes from start_axis to end_axis as one: (B, T, C) is (B T, C) from axis 0 to 1.  dx = dy in the old shape.

    A number, of shape (), becomes an array of one element. Raises ShapeError if end_axis comes first.
    """
    ndim = max(x.ndim, 1)
    first, last = normalize_axis_index(start_axis, ndim), normalize_axis_index(end_axis, ndim)
    if last < first:
        raise ShapeError(f"flatten: end_axis {end_axis} comes before start_axis {start_axis} in the shape {x.shape}")
    shape = (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
    return array_module(x).reshape(x, shape), lambda dy: (array_module(dy).reshape(dy, x.shape),)


@op
def repeat(x, /, repeats, axis=None):
    """Each element along `axis` (of the flattened array for None) that many times in a row: repeat([a, b], 2) is [a, a, b, b].

    repeats: an integer, or one for each element.  dx = dy summed over the repetitions. Raises ConfigError for a number
    that is negative or no integer, ShapeError for another number of them.
    """
    at = 0 if axis is None else normalize_axis_index(axis, x.ndim)
    rows = array_module(x).reshape(x, (-1,)) if axis is None else x
    n = rows.shape[at]
    if np.ndim(repeats):
        counts = [check_integer("repeat: repeats", r, 0) for r in np.asarray(repeats).tolist()]
        if len(counts) != n:
            raise ShapeError(f"repeat: {len(counts)} numbers of repetitions for {n} elements of axis {at}")
        key = (slice(None),) * at + (raw_module(x).asarray(np.repeat(np.arange(n), counts)),)
        return rows[key], lambda dy: (array_module(dy).reshape(array_module(dy).scatter_add(dy, key, rows.shape), x.shape),)
    r = check_integer("repeat: repeats", repeats, 0)

    def vjp(dy):
        xp = array_module(dy)
        parts = xp.reshape(dy, (*rows.shape[: at + 1], r, *rows.shape[at + 1 :]))
        return (xp.reshape(xp.sum(parts, axis=at + 1), x.shape),)

    return array_module(x).repeat(rows, r, axis=at), vjp


@op
def tile(x, /, reps):
    """x laid out again and again: tile([a, b], 2) is [a, b, a, b]; reps: how often, one integer or one per axis.

    Missing axes count as 1, those of x and of reps alike, from the front.  dx = dy summed over the copies.
    Raises ConfigError for a number that is negative or no integer.
    """
    several = [check_integer("tile: reps", r, 0) for r in (reps if isinstance(reps, (tuple, list)) else (reps,))]
    ndim = max(len(several), x.ndim)
    several = [1] * (ndim - len(several)) + several
    shape = (1,) * (ndim - x.ndim) + x.shape

    def vjp(dy):
        xp = array_module(dy)
        parts = xp.reshape(dy, tuple(n for pair in zip(several, shape, strict=True) for n in pair))
        return (xp.reshape(xp.sum(parts, axis=tuple(range(0, 2 * ndim, 2))), x.shape),)

    return array_module(x).tile(x, tuple(several)), vjp


@op
def roll(x, /, shift, axis=None):
    """y_i = x_{i - shift} along `axis` (of the flattened array for None), the last elements first: roll([a, b, c], 1) is
    [c, a, b].  shift and axis: an integer, or as many as axes.  dx = dy rolled back.

    Raises ConfigError for a shift that is no integer, ShapeError for another number of shifts than of axes.
    """
    axes = (0,) if axis is None else normalize_axis_tuple(axis, x.ndim, allow_duplicate=True)
    shifts = [check_integer("roll: shift", s) for s in (shift if isinstance(shift, (tuple, list)) else [shift] * len(axes))]
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes")

    def rolled(y, direction):
        xp = array_module(y)
        y = xp.reshape(y, (-1,)) if axis is None else y
        for s, at in zip(shifts, axes, strict=True):
            cut = -direction * s % max(y.shape[at], 1)
            before = (slice(None),) * at
            y = xp.concatenate([y[(*before, slice(cut, None))], y[(*before, slice(cut))]], at)
        return xp.reshape(y, x.shape)

    return rolled(x, 1), lambda dy: (rolled(dy, -1),)


@op(sequence=True)
def concatenate(arrays, /, axis=0):
    """The arrays joined along an existing axis.  Each gets its part of dy.

    arrays: a sequence of (..., n_i, ...), equal along the other axes -> (..., Σ n_i, ...).

    >>> tinylm.concatenate([[1.0, 2.0], [3.0]])
    Tensor([1., 2., 3.], dtype=float32)
    """
    arrays = all_promoted(arrays)

    def vjp(dy):
        at, parts, start = axis % dy.ndim, [], 0
        for a in arrays:
            stop = start + a.shape[at]
            parts.append(dy[(slice(None),) * at + (slice(start, stop),)])
            start = stop
        return parts

    return array_module(*arrays).concatenate(arrays, axis), vjp


@op(sequence=True)
def stack(arrays, /, axis=0):
    """The arrays joined along a new axis.  Each gets its slice of dy.

    arrays: a sequence of k arrays of one shape (...) -> (k, ...) for axis 0.

    >>> tinylm.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    Tensor([[1., 3.],
            [2., 4.]], dtype=float32)
    """
    arrays = all_promoted(arrays)

    def vjp(dy):
        at = (slice(None),) * (axis % dy.ndim)
        return [dy[(*at, i)] for i in range(len(arrays))]

    return array_module(*arrays).stack(arrays, axis), vjp


@op
def split(x, /, indices_or_sections, axis=0):
    """x split along `axis` into that many equal parts, or at those indices: a tuple of tensors.
    dx = the parts' cotangents concatenated."""
    known = is_number(indices_or_sections) and indices_or_sections > 0 and -len(x.shape) <= axis < len(x.shape)
    if known and x.shape[axis] % indices_or_sections:
        raise ShapeError(
            f"split: axis {axis} of x {x.shape} has length {x.shape[axis]}, which {indices_or_sections} equal parts do not divide: "
            "expected a divisor, or a list of the indices at which to cut"
        )
    parts = tuple(array_module(x).split(x, indices_or_sections, axis))
    return parts, lambda *dys: (array_module(*dys).concatenate(dys, axis),)


@op
def pad(x, /, pad_width, constant_values=0.0):
    """x with pad_width = ((before, after), ...) constants around it.  dx = the inner part of dy."""
    widths = [tuple(p) for p in pad_width]
    if len(widths) != len(x.shape):
        raise ShapeError(f"pad: {len(widths)} pairs of widths for an array of shape {x.shape}")
    inner = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    return array_module(x).pad(x, widths or 0, constant_values=constant_values), lambda dy: (dy[inner],)


def as_rows(x, width):
    """Returns x (..., width) as a matrix (rows, width): one BLAS product serves all leading axes."""
    return array_module(x).reshape(x, (math.prod(x.shape[:-1]), width))


@op
def flip(x, /, axis=None):
    """x with its elements in the opposite order along `axis`: one, several, or all for None.  dx = dy in the opposite order."""
    axis = axis if axis is None or isinstance(axis, int) else tuple(axis)
    return array_module(x).flip(x, axis), lambda dy: (array_module(dy).flip(dy, axis),)
