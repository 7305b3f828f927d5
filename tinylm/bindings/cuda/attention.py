"""Scaled dot-product attention that never stores the (T, S) weights, and the projections that it reads and makes in place.

The reference computes what the kernel does not serve: calls that return the weights, floating masks, keys that are broadcast
over leading axes, and rows of more than 128 numbers.
"""

import math

from tinylm.bindings.cpu.attention import attention_fits, four_axes, restored
from tinylm.bindings.cuda.heads import side_by_side, strided, strides
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

    (y,), lse = side_by_side(1, (batch, heads, steps, out_width), q), xp.empty((batch, heads, steps), dtype)
    launch("scaled_dot_product_attention_forward", blocks(heads, steps, forward_rows), _THREADS, Strided(y), lse, *_places(y), *shared)

    def vjp(dy):
        dy = strided(dy, dtype)
        delta, (dq, dk, dv) = xp.empty_like(lse), _gradients(q, k, v)
        cotangent = Strided(dy), *strides(dy)
        name = "scaled_dot_product_attention_query_gradient"
        outputs = Strided(y), lse, delta, Strided(dq), *_places(y), *_places(dq)
        launch(name, blocks(heads, steps, backward_rows), _THREADS, *outputs, *cotangent, *shared)
        name = "scaled_dot_product_attention_key_value_gradients"
        outputs = lse, delta, Strided(dk), Strided(dv), *_places(dk), *_places(dv)
        launch(name, blocks(key_heads, keys, backward_rows), _THREADS, *outputs, *cotangent, *shared)
        return restored(dq, ndim), restored(dk, ndim), restored(dv, ndim), None

    return restored(y, ndim), vjp


def _gradients(q, k, v):
    """Returns empty arrays for those of q, k and v, beside each other where these may be."""
    if q.shape == k.shape == v.shape:
        return side_by_side(3, q.shape, q)
    if k.shape == v.shape:
        return side_by_side(1, q.shape, q) + side_by_side(2, k.shape, k)
    return [side_by_side(1, x.shape, x)[0] for x in (q, k, v)]


def _places(x):
    """Returns the strides of an output (N, heads, T, D) whose heads lie beside each other: of the sequences and of their rows."""
    batch, _, row = strides(x)
    return batch, row


def _mask(mask, ndim):
    """Returns the mask and its four strides, 0 along an axis that it is broadcast over."""
    mask = four_axes(mask[(None,) * (ndim - mask.ndim)])
    return Strided(mask), *(0 if n == 1 else s for n, s in zip(mask.shape, mask.strides, strict=True))


@kernel("split_heads", device="cuda")
def split_heads(x, /, parts, heads, *, batch_first=True):
    """As the reference. If the cotangents lie beside each other as the parts of x do, the array they are views of is the gradient."""
    if type(parts) is not int or type(heads) is not int or parts <= 0 or heads <= 0 or x.ndim != 3 or x.shape[2] % (parts * heads):
        return NotImplemented  # the reference says what is wrong
    xp, dtype, shape = array_module(x), x.dtype, x.shape
    apart = (*shape[:2], parts, heads, shape[2] // (parts * heads))
    axes = (0, 2, 1, 3) if batch_first else (1, 2, 0, 3)

    def taken_apart(whole):
        return tuple(whole[:, :, i].transpose(axes) for i in range(parts))

    def vjp(*dys):
        whole = dys[0].base
        if whole is None or whole.shape != apart or whole.dtype != dtype or not all(map(_same, dys, taken_apart(whole))):
            whole = xp.empty(apart, dtype)
            for part, dy in zip(taken_apart(whole), dys, strict=True):
                part[...] = dy
        return (whole.reshape(shape),)

    return taken_apart(x.reshape(apart)), vjp


def _same(a, b):
    """Returns whether two arrays are the same view."""
    return a.data.ptr == b.data.ptr and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype
