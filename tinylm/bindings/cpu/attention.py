"""Scaled dot-product attention that never holds the (T, S) weights.

The reference does what would need them, the weights as a result and floating masks, and what no
layer asks for: keys broadcast over leading axes.
"""

import math
import struct

import numpy as np

from tinylm.bindings.cpu.heads import numbers, restored, side_by_side, strided, strides
from tinylm.bindings.cpu.library import Strided, call, library
from tinylm.bindings.served_shapes import attention_fits, attention_mask_fits, four_axes
from tinylm.engine.kernels import kernel


@kernel("scaled_dot_product_attention", device="cpu")
def scaled_dot_product_attention(q, k, v, mask=None, /, *, causal=False, dropout=0.0, scale=None, return_weights=False, key=None):
    if return_weights or not 0 <= dropout < 1 or not attention_fits(q, k, v) or not attention_mask_fits(mask, q, k) or library() is None:
        return NotImplemented
    ndim = q.ndim
    q, k, v = strided(q), strided(k), strided(v)
    (batch, heads, steps, width), (shared, keys, out_width) = q.shape, v.shape[1:]
    masked, mask_strides = (None, (0, 0, 0)) if mask is None else _mask(mask, ndim, keys)
    (y,) = side_by_side(1, (batch, heads, steps, out_width), q)
    sizes = batch, heads, heads // shared if shared else 1, steps, keys, width, out_width, bool(causal)
    layout = numbers(*sizes, *strides(q), *strides(k), *strides(v), *mask_strides, *strides(y))
    scale = 1 / math.sqrt(width) if scale is None else scale
    draw = struct.pack("3Q", *key, min(round(dropout * 2**32), 2**32 - 1)) if dropout else None
    arguments = layout, scale, draw, 1 / (1 - dropout), Strided(q), Strided(k), Strided(v), masked
    call("scaled_dot_product_attention_forward", *arguments, Strided(y))

    def vjp(dy):
        dy = strided(dy)
        gradients = _gradients(q, k, v)
        further = numbers(*(s for x in (dy, *gradients) for s in strides(x)))
        call("scaled_dot_product_attention_backward", *arguments, further, Strided(dy), *map(Strided, gradients))
        return *(restored(g, ndim) for g in gradients), None

    return restored(y, ndim), vjp


def _mask(mask, ndim, keys):
    """The mask, with rows of S bytes each in one piece, and its strides, 0 along an axis it is broadcast over."""
    mask = four_axes(mask[(None,) * (ndim - mask.ndim)])
    if mask.shape[3] != keys or mask.strides[3] != 1:
        mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:3], keys)))
    return Strided(mask), [0 if n == 1 else s for n, s in zip(mask.shape[:3], mask.strides[:3], strict=True)]


def _gradients(q, k, v):
    """Room for those of q, k and v."""
    if q.shape == k.shape == v.shape:
        return side_by_side(3, q.shape, q)
    if k.shape == v.shape:
        return side_by_side(1, q.shape, q) + side_by_side(2, k.shape, k)
    return [side_by_side(1, x.shape, x)[0] for x in (q, k, v)]


@kernel("split_heads", device="cpu")
def split_heads(x, /, parts, heads, *, batch_first=True):
    """As the reference, but where the cotangents lie as the parts of x do, what they are parts of is the gradient: no copy."""
    if x.ndim != 3 or x.shape[2] % (parts * heads):
        return NotImplemented
    apart = (*x.shape[:2], parts, heads, x.shape[2] // (parts * heads))
    axes = (0, 2, 1, 3) if batch_first else (1, 2, 0, 3)

    def taken_apart(whole):
        return tuple(whole[:, :, i].transpose(axes) for i in range(parts))

    def vjp(*dys):
        whole = dys[0].base
        if not isinstance(whole, np.ndarray) or whole.shape != apart or not all(map(_same, dys, taken_apart(whole))):
            whole = np.empty(apart, np.float32)
            for part, dy in zip(taken_apart(whole), dys, strict=True):
                part[...] = dy
        return (whole.reshape(x.shape),)

    return taken_apart(x.reshape(apart)), vjp


def _same(a, b):
    """Whether two arrays are the same view."""
    return a.base is b.base and a.ctypes.data == b.ctypes.data and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype
