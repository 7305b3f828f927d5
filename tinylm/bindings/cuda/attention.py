"""Scaled dot-product attention that never stores the (T, S) weights.

The reference computes what the kernel does not serve: calls that return the weights, floating masks, keys that are broadcast
over leading axes, and rows of more than 128 numbers.
"""

import math

from tinylm.bindings.cpu.attention import attention_fits, four_axes
from tinylm.bindings.cuda.heads import restored, strided, strides
from tinylm.bindings.cuda.launching import CudaSource, Strided
from tinylm.checks import check_finite, check_probability
from tinylm.engine.arrays import array_module
from tinylm.engine.kernels import kernel
from tinylm.engine.products import products_mode

_ROWS = {32: (64, 32), 64: (64, 32), 128: (32, 16)}  # widest D or E -> rows of a block's tile, 16 FORWARD_R and 16 BACKWARD_R
_SOURCES = {width: CudaSource(f"scaled_dot_product_attention_{width}") for width in _ROWS}
_THREADS = (128,)


@kernel("scaled_dot_product_attention", device="cuda")
def scaled_dot_product_attention(q, k, v, mask=None, /, *, causal=False, dropout=0.0, scale=None, return_weights=False, key=None):
    if type(dropout) is not float:
        dropout = check_probability(dropout)
    if scale is not None and (type(scale) is not float or not -math.inf < scale < math.inf):
        scale = check_finite("scale", scale)
    if return_weights or not 0 <= dropout < 1 or not attention_fits(q, k, v, mask):
        return NotImplemented
    if max(q.shape[-1], v.shape[-1]) > max(_ROWS):  # too wide for every tile
        return NotImplemented
    xp, ndim, dtype = array_module(q), q.ndim, q.dtype
    q, k, v = strided(q, dtype), strided(k, dtype), strided(v, dtype)
    (batch, heads, steps, width), (key_heads, keys, out_width) = q.shape, v.shape[1:]
    padded = next(n for n in _ROWS if n >= max(width, out_width))
    forward_rows, backward_rows = _ROWS[padded]
    launch = _SOURCES[padded].launch

    masks = (None, 0, 0, 0, 0) if mask is None else _mask(mask, ndim)
    seed, stream = key if dropout else (0, 0)
    shared = (
        Strided(q), Strided(k), Strided(v), masks[0], heads, key_heads, steps, keys, width, out_width,
        *strides(q), *strides(k), *strides(v), *masks[1:], causal, 1 / math.sqrt(width) if scale is None else scale,
        seed, stream, min(round(dropout * 2**32), 2**32 - 1), 1 / (1 - dropout), products_mode.rounded,
    )  # fmt: skip

    def blocks(heads, length, rows):
        return (batch * heads * -(-length // rows),)

    def made(heads, length, columns):
        return xp.empty((batch, length, heads, columns), dtype)

    y, lse = made(heads, steps, out_width), xp.empty((batch, heads, steps), dtype)
    launch("scaled_dot_product_attention_forward", blocks(heads, steps, forward_rows), _THREADS, y, lse, *shared)

    def vjp(dy):
        dy = strided(dy, dtype)
        delta, dq = xp.empty_like(lse), made(heads, steps, width)
        dk, dv = made(key_heads, keys, width), made(key_heads, keys, out_width)
        cotangent = Strided(dy), *strides(dy)
        name = "scaled_dot_product_attention_query_gradient"
        launch(name, blocks(heads, steps, backward_rows), _THREADS, y, lse, delta, dq, *cotangent, *shared)
        name = "scaled_dot_product_attention_key_value_gradients"
        launch(name, blocks(key_heads, keys, backward_rows), _THREADS, lse, delta, dk, dv, *cotangent, *shared)
        return restored(dq, ndim), restored(dk, ndim), restored(dv, ndim), None

    return restored(y, ndim), vjp


def _mask(mask, ndim):
    """Returns the mask and its four strides, 0 along an axis that it is broadcast over."""
    mask = four_axes(mask[(None,) * (ndim - mask.ndim)])
    return Strided(mask), *(0 if n == 1 else s for n, s in zip(mask.shape, mask.strides, strict=True))
