"""Dropout, with the same masks as NumPy's random numbers give."""

import numpy as np

from tinylm.bindings.cpu.library import call, contiguous, library
from tinylm.checks import check_probability
from tinylm.engine.kernels import kernel


@kernel("dropout", device="cpu")
def dropout(x, /, p=0.5, *, key=None):
    if type(p) is not float:
        p = check_probability(p)
    if not 0 < p < 1 or library() is None:
        return NotImplemented
    threshold, scale = min(round(p * 2**32), 2**32 - 1), 1 / (1 - p)
    y, kept = np.empty(x.shape, np.float32), np.empty(-(-x.size // 8), np.uint8)
    call("dropout_forward", x.size, contiguous(x), *key, threshold, scale, kept, y)

    def vjp(dy):
        dx = np.empty(y.shape, np.float32)
        call("dropout_backward", y.size, contiguous(dy), scale, kept, dx)
        return (dx,)

    return y, vjp
