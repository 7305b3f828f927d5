"""Arrays (N, heads, T, D) for kernels that read and write them where they lie, by their strides."""

import struct

import numpy as np

from tinylm.bindings.cpu.library import contiguous
from tinylm.bindings.served_shapes import four_axes


def numbers(*values):
    """The numbers as C's int64_t, one after the other."""
    return struct.pack(f"{len(values)}q", *values)


def strided(x):
    """x as (N, heads, T, D), itself or a view wherever its rows lie in one piece."""
    x = four_axes(x)
    return x if x.dtype == np.float32 and x.strides[3] == 4 and x.flags.aligned else contiguous(x)


def strides(x):
    """How many floats apart the entries of each axis but the last are."""
    batch, head, row, _ = x.strides
    return batch // 4, head // 4, row // 4


def side_by_side(parts, shape, like):
    """`parts` arrays of that shape (N, heads, T, D), side by side in one as `split_heads` finds them: (N, T, parts, heads, D), or
    (T, N, ...) if `like` lies so."""
    batch, heads, steps, width = shape
    if like.strides[0] < like.strides[2]:
        whole = np.empty((steps, batch, parts, heads, width), np.float32)
        return [whole[:, :, i].transpose(1, 2, 0, 3) for i in range(parts)]
    whole = np.empty((batch, steps, parts, heads, width), np.float32)
    return [whole[:, :, i].transpose(0, 2, 1, 3) for i in range(parts)]


def restored(x, ndim):
    """A result (N, heads, T, columns) with the caller's axes."""
    return x if ndim == 4 else x[:, 0] if ndim == 3 else x[0, 0]
