"""Arrays (N, heads, T, D) for kernels that read them where they lie, by their strides."""

from tinylm.bindings.cuda.launching import contiguous
from tinylm.bindings.served_shapes import four_axes


def strided(x, dtype):
    """x in dtype as (N, heads, T, D), itself or a view wherever its rows lie in one piece."""
    x = four_axes(x)
    return x if x.dtype == dtype and x.strides[3] == x.itemsize else contiguous(x, dtype)


def strides(x):
    """How many elements apart the entries of each axis but the last are."""
    return [s // x.itemsize for s in x.strides[:3]]


def restored(x, ndim):
    """A result (N, T, heads, columns) with the caller's axes."""
    return x.transpose(0, 2, 1, 3) if ndim == 4 else x.reshape(x.shape[3 - ndim : 2] + x.shape[3:])
