"""Layer norm and RMS norm: one kernel, whose mean is 0 for the latter."""

import functools
import math

import numpy as np

from tinylm.bindings.cpu.library import call, contiguous, library
from tinylm.checks import check_at_least
from tinylm.engine.kernels import kernel


@kernel("layer_norm", device="cpu")
def layer_norm(x, weight=None, bias=None, /, *, eps=1e-5):
    return _norm(x, (weight, bias), eps, centred=True)


@kernel("rms_norm", device="cpu")
def rms_norm(x, weight=None, /, *, eps=1e-6):
    return _norm(x, (weight,), eps, centred=False)


@functools.lru_cache(maxsize=16)
def _filled(columns, value):
    return np.full(columns, value, np.float32)


def _norm(x, parameters, eps, *, centred):
    """Returns (value, vjp). parameters: the weight and, of layer norm, the bias."""
    width = x.shape[-1:]
    if width in ((), (0,)) or any(p is not None and p.shape != width for p in parameters) or library() is None:
        return NotImplemented
    if type(eps) is not float or not 0 <= eps < math.inf:
        eps = check_at_least(0, "eps", eps)
    weight, bias = (*parameters, None)[:2]
    rows, columns = math.prod(x.shape[:-1]), x.shape[-1]
    x_ = contiguous(x)
    weight_ = _filled(columns, 1) if weight is None else contiguous(weight)
    bias_ = _filled(columns, 0) if bias is None else contiguous(bias)
    y, kept = np.empty(x.shape, np.float32), np.empty((2, rows), np.float32)
    call("norm_forward", rows, columns, centred, x_, weight_, bias_, eps, y, kept)

    def vjp(dy):
        dx = np.empty(x.shape, np.float32)
        dweight, dbias = (None if p is None else np.empty(columns, np.float32) for p in (weight, bias))
        call("norm_backward", rows, columns, centred, x_, weight_, kept, contiguous(dy), dx, dweight, dbias)
        return dx, *(dweight, dbias)[: len(parameters)]

    return y, vjp
