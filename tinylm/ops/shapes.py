"""Functions that move elements without changing them. The adjoint moves dy back."""

import math

from tinylm.engine.arrays import all_promoted, array_module, sum_to
from tinylm.engine.op import op
from tinylm.errors import ShapeError


@op
def reshape(x, /, shape):
    """The same elements in another shape (one size may be -1: it follows from the others).  dx = dy in the old shape."""
    return array_module(x).reshape(x, shape), lambda dy: (array_module(dy).reshape(dy, x.shape),)


@op
def transpose(x, /, axes=None):
    """x with its axes in another order (reversed for None).  dx = dy in the old order."""

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
    """x without its axes of length 1, or without those given.  dx = dy with them."""
    return array_module(x).squeeze(x, axis), lambda dy: (array_module(dy).reshape(dy, x.shape),)


@op
def broadcast_to(x, /, shape):
    """x repeated to `shape` by NumPy's broadcasting.  dx = dy summed over the repeats."""
    return array_module(x).broadcast_to(x, shape), lambda dy: (sum_to(dy, x.shape),)


@op(sequence=True)
def concatenate(arrays, /, axis=0):
    """The arrays joined along an existing axis.  Each gets its part of dy."""
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
    """The arrays joined along a new axis.  Each gets its slice of dy."""
    arrays = all_promoted(arrays)

    def vjp(dy):
        at = (slice(None),) * (axis % dy.ndim)
        return [dy[(*at, i)] for i in range(len(arrays))]

    return array_module(*arrays).stack(arrays, axis), vjp


@op
def split(x, /, indices_or_sections, axis=0):
    """x split along `axis` into that many equal parts, or at those indices: a tuple of tensors.
    dx = the parts' cotangents concatenated."""
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
