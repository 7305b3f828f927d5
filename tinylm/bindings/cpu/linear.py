"""Matrix products, and linear layers with what follows the product, split over the pool."""

import math

import numpy as np

from tinylm.bindings.activation_numbers import LINEAR_ACTIVATIONS
from tinylm.bindings.cpu.library import LARGEST, as_weight, call, contiguous, library
from tinylm.engine.kernels import kernel
from tinylm.engine.products import products_mode


@kernel("linear", device="cpu", reads_stored=True)
def linear(x, weight, bias=None, residual=None, /, *, activation=None, frozen=False):
    if activation not in LINEAR_ACTIVATIONS or x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        return NotImplemented
    rows, (outputs, inputs) = math.prod(x.shape[:-1]), weight.shape
    shape, number = (*x.shape[:-1], outputs), LINEAR_ACTIVATIONS[activation]
    if (bias is not None and bias.shape != (outputs,)) or (residual is not None and residual.shape != shape):
        return NotImplemented
    if max(rows, inputs, outputs) > LARGEST or library() is None:
        return NotImplemented
    x_, (weight_, form), rounded = contiguous(x), as_weight(weight), products_mode.rounded
    y = np.empty(shape, np.float32)
    if activation is None:
        kept = None
    elif residual is None and activation in ("relu", "sigmoid"):
        kept = y
    else:
        kept = np.empty(shape, np.float32)
    bias_, residual_ = (None if a is None else contiguous(a) for a in (bias, residual))
    call("linear_forward", rows, inputs, outputs, rounded, x_, weight_, form, bias_, residual_, number, kept, y)

    def vjp(dy):
        dy_ = contiguous(dy)
        dz = None if activation is None else np.empty(shape, np.float32)
        dx = np.empty(x.shape, np.float32)
        dweight = None if frozen else np.empty(weight.shape, np.float32)
        dbias = None if bias is None or frozen else np.empty(outputs, np.float32)
        call("linear_backward", rows, inputs, outputs, rounded, x_, weight_, form, number, kept, dy_, dz, dx, dweight, dbias)
        return dx, dweight, dbias, None if residual is None else dy

    return y, vjp


@kernel("matmul", device="cpu")
def matmul(a, b, /):
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2] or not (b.ndim == 2 or a.shape[:-2] == b.shape[:-2]):
        return NotImplemented
    rows = math.prod(a.shape[:-1])
    if max(rows, *b.shape[-2:]) > LARGEST or library() is None:
        return NotImplemented
    a_ = a.reshape(rows, a.shape[-1]) if b.ndim == 2 else a  # one product of all rows
    rounded = products_mode.rounded
    y = multiplied(a_, b, rounded)

    def vjp(dy):
        dy_ = dy.reshape(y.shape)
        return multiplied(dy_, b.swapaxes(-1, -2), rounded).reshape(a.shape), multiplied(a_.swapaxes(-1, -2), dy_, rounded)

    return y.reshape(*a.shape[:-1], b.shape[-1]), vjp


def multiplied(a, b, rounded=False):
    """Returns a b for a (..., n, k) and b (..., k, m) with the same leading axes; rounded: of the operands rounded to bfloat16."""
    (*lead, n, k), m = a.shape, b.shape[-1]
    c = np.empty((*lead, n, m), np.float32)
    (a_, a_transposed), (b_, b_transposed) = _stored(a), _stored(b)
    call("matmul_batches", math.prod(lead), n, m, k, rounded, a_, n * k, a_transposed, b_, k * m, b_transposed, c)
    return c


def _stored(x):
    """Returns an array in C order, and whether its matrices are the transposes of those of x."""
    turned = x.swapaxes(-1, -2)
    if turned.dtype == np.float32 and turned.flags.c_contiguous and not x.flags.c_contiguous:
        return turned, 1
    return contiguous(x), 0
