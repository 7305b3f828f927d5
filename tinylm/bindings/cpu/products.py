"""Linear layers: the product split over the pool, with what follows it."""

import math

import numpy as np

from tinylm.bindings.cpu.library import LARGEST, call, contiguous, library
from tinylm.kernel_registry import kernel

_ACTIVATIONS = (None, "relu", "gelu", "silu", "sigmoid")  # the place is the kernel's number


@kernel("linear", device="cpu")
def linear(x, weight, bias=None, residual=None, /, *, activation=None):
    if activation not in _ACTIVATIONS or x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        return NotImplemented
    rows, (outputs, inputs) = math.prod(x.shape[:-1]), weight.shape
    shape, number = (*x.shape[:-1], outputs), _ACTIVATIONS.index(activation)
    if (bias is not None and bias.shape != (outputs,)) or (residual is not None and residual.shape != shape):
        return NotImplemented
    if max(rows, inputs, outputs) > LARGEST or library() is None:
        return NotImplemented
    x_, weight_ = contiguous(x), contiguous(weight)
    y = np.empty(shape, np.float32)
    if activation is None:
        kept = None
    elif residual is None and activation in ("relu", "sigmoid"):
        kept = y
    else:
        kept = np.empty(shape, np.float32)
    bias_, residual_ = (None if a is None else contiguous(a) for a in (bias, residual))
    call("linear_forward", rows, inputs, outputs, x_, weight_, bias_, residual_, number, kept, y)

    def vjp(dy):
        dy_ = contiguous(dy)
        dz = None if activation is None else np.empty(shape, np.float32)
        dx, dweight = np.empty(x.shape, np.float32), np.empty(weight.shape, np.float32)
        dbias = None if bias is None else np.empty(outputs, np.float32)
        call("linear_backward", rows, inputs, outputs, x_, weight_, number, kept, dy_, dz, dx, dweight, dbias)
        return dx, dweight, dbias, None if residual is None else dy

    return y, vjp
