"""Softmax and log-softmax, over the last axis."""

import numpy as np

from tinylm.bindings.cpu.library import call, contiguous, library
from tinylm.engine.kernels import kernel


@kernel("softmax", device="cpu")
def softmax(x, /, axis=-1):
    return _softmax(x, axis, logs=False)


@kernel("log_softmax", device="cpu")
def log_softmax(x, /, axis=-1):
    return _softmax(x, axis, logs=True)


def _softmax(x, axis, *, logs):
    if x.ndim == 0 or x.shape[-1] == 0 or axis not in (-1, x.ndim - 1) or library() is None:
        return NotImplemented
    columns = x.shape[-1]
    y = np.empty(x.shape, np.float32)
    call("softmax_forward", x.size // columns, columns, logs, contiguous(x), y)

    def vjp(dy):
        dx = np.empty(y.shape, np.float32)
        call("softmax_backward", y.size // columns, columns, logs, y, contiguous(dy), dx)
        return (dx,)

    return y, vjp
