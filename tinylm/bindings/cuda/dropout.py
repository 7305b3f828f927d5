"""Dropout, with the same masks as NumPy's random numbers give."""

from tinylm.bindings.cuda.launching import CudaSource, contiguous
from tinylm.checks import check_probability
from tinylm.engine.arrays import array_module
from tinylm.engine.kernels import kernel

_DROPOUT = CudaSource("dropout")
_THREADS, _WORDS = 256, 8  # a block's threads, each of which draws 8 words


@kernel("dropout", device="cuda")
def dropout(x, /, p=0.5, *, key=None):
    if type(p) is not float:
        p = check_probability(p)
    if not 0 < p < 1:
        return NotImplemented
    xp = array_module(x)
    threshold, scale = min(round(p * 2**32), 2**32 - 1), 1 / (1 - p)
    grid = (-(-x.size // (_THREADS * _WORDS)),)

    def masked(a):
        a = contiguous(a, x.dtype)
        out = xp.empty_like(a)
        _DROPOUT.launch("dropout", grid, (_THREADS,), a, out, a.size, *key, threshold, scale)
        return out

    return masked(x), lambda dy: (masked(dy),)
