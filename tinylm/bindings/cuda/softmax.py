"""Softmax and log-softmax, over the last axis."""

from tinylm.bindings.cuda.launching import CudaSource, contiguous, row_threads
from tinylm.engine.arrays import array_module
from tinylm.engine.kernels import kernel

_SOFTMAX, _LOG_SOFTMAX = CudaSource("softmax"), CudaSource("log_softmax")


def _of_rows(file, forward, backward, x, axis):
    """Returns (value, vjp) of a function of each row, by the kernels forward (x, y) and backward (y, dy, dx)."""
    if x.ndim == 0 or x.shape[-1] == 0 or axis not in (-1, x.ndim - 1):
        return NotImplemented
    xp = array_module(x)
    shape, columns = x.shape, x.shape[-1]
    x = contiguous(x)
    grid, block = (x.size // columns,), (row_threads(columns),)
    y = xp.empty_like(x)
    file.launch(forward, grid, block, x, y, columns)

    def vjp(dy):
        dx = xp.empty(shape, y.dtype)
        file.launch(backward, grid, block, y, contiguous(dy, y.dtype), dx, columns)
        return (dx,)

    return y, vjp


@kernel("softmax", device="cuda")
def softmax(x, /, axis=-1):
    return _of_rows(_SOFTMAX, "softmax_forward", "softmax_backward", x, axis)


@kernel("log_softmax", device="cuda")
def log_softmax(x, /, axis=-1):
    return _of_rows(_LOG_SOFTMAX, "log_softmax_forward", "log_softmax_backward", x, axis)
