"""Arrays (N, heads, T, D) for kernels that read them in place through their strides."""

from tinylm.bindings.cpu.attention import four_axes
from tinylm.bindings.cuda.launching import contiguous
from tinylm.engine.arrays import array_module


def strided(x, dtype):
    """Returns x in dtype as (N, heads, T, D): itself or a view if each of its rows is contiguous."""
    x = four_axes(x)
    return x if x.dtype == dtype and x.strides[3] == x.itemsize else contiguous(x, dtype)


def strides(x):
    """Returns the strides of all axes but the last, in elements."""
    return [s // x.itemsize for s in x.strides[:3]]


def restored(x, ndim):
    """Returns a result (N, T, heads, columns) with the caller's axes."""
    return x.transpose(0, 2, 1, 3) if ndim == 4 else x.reshape(x.shape[3 - ndim : 2] + x.shape[3:])


def side_by_side(parts, shape, like):
    """Returns `parts` empty arrays (N, heads, T, D) that lie beside each other in one, as `split_heads` finds them:
    (N, T, parts, heads, D), or (T, N, ...) if `like` has that order."""
    xp, (batch, heads, steps, width) = array_module(like), shape
    if like.strides[0] < like.strides[2]:
        whole = xp.empty((steps, batch, parts, heads, width), like.dtype)
        return [whole[:, :, i].transpose(1, 2, 0, 3) for i in range(parts)]
    whole = xp.empty((batch, steps, parts, heads, width), like.dtype)
    return [whole[:, :, i].transpose(0, 2, 1, 3) for i in range(parts)]
