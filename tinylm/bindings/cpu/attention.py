"""Scaled dot-product attention that never holds the (T, S) weights.

The reference does what would need them, the weights as a result and floating masks, and what no
layer asks for: keys shared over leading axes.
"""

import math
import struct

import numpy as np

from tinylm.bindings.cpu.library import Strided, call, contiguous, library
from tinylm.kernel_registry import kernel


@kernel("scaled_dot_product_attention", device="cpu")
def scaled_dot_product_attention(q, k, v, mask=None, /, *, causal=False, dropout=0.0, scale=None, return_weights=False, key=None):
    if return_weights or not 0 <= dropout < 1 or not _serves(q, k, v) or not _serves_mask(mask, q, k) or library() is None:
        return NotImplemented
    ndim = q.ndim
    q, k, v = _strided(q), _strided(k), _strided(v)
    (batch, heads, steps, width), (keys, out_width) = q.shape, v.shape[2:]
    masked, mask_strides = (None, (0, 0, 0)) if mask is None else _mask(mask, ndim, keys)
    numbers = _numbers(batch, heads, steps, keys, width, out_width, bool(causal), *_strides(q), *_strides(k), *_strides(v), *mask_strides)
    scale = 1 / math.sqrt(width) if scale is None else scale
    draw = struct.pack("3Q", *key, min(round(dropout * 2**32), 2**32 - 1)) if dropout else None
    arguments = numbers, scale, draw, 1 / (1 - dropout), Strided(q), Strided(k), Strided(v), masked
    y = np.empty((batch, steps, heads, out_width), np.float32)
    call("scaled_dot_product_attention_forward", *arguments, y)

    def vjp(dy):
        dy = _strided(dy)
        gradients = _gradients(q, k, v)
        numbers = _numbers(*_strides(dy), *(g.strides[1] // 4 for g in gradients))
        call("scaled_dot_product_attention_backward", *arguments, Strided(dy), numbers, *map(Strided, gradients))
        return *(_restored(g, ndim) for g in gradients), None

    return _restored(y, ndim), vjp


def _serves(q, k, v):
    """Whether the shapes fit, with the same one or two leading axes or none."""
    if not 2 <= q.ndim <= 4 or q.shape[:-2] != k.shape[:-2] or k.shape[:-1] != v.shape[:-1] or q.shape[-1] != k.shape[-1]:
        return False
    return k.shape[-2] > 0 and q.shape[-1] > 0 and v.shape[-1] > 0


def _serves_mask(mask, q, k):
    """Whether there is no mask, or a boolean one that broadcasts to the weights. A floating one has a
    gradient, which is a (T, S) matrix at least."""
    if mask is None:
        return True
    full = (*q.shape[:-1], k.shape[-2])
    return mask.dtype.kind == "b" and mask.ndim <= q.ndim and all(n in (1, m) for n, m in zip(mask.shape[::-1], full[::-1], strict=False))


def _numbers(*numbers):
    """The numbers as C's int64_t, one after the other."""
    return struct.pack(f"{len(numbers)}q", *numbers)


def _four_axes(x):
    """x (T, D), (N, T, D) or (N, heads, T, D) as the last, a view."""
    return x if x.ndim == 4 else x[:, None] if x.ndim == 3 else x[None, None]


def _strided(x):
    """x as (N, heads, T, D), itself or a view wherever its rows lie in one piece."""
    x = _four_axes(x)
    return x if x.dtype == np.float32 and x.strides[3] == 4 and x.flags.aligned else contiguous(x)


def _strides(x):
    """How many floats apart the entries of each axis but the last are."""
    batch, head, row, _ = x.strides
    return batch // 4, head // 4, row // 4


def _mask(mask, ndim, keys):
    """The mask, with rows of S bytes each in one piece, and its strides, 0 along an axis it is broadcast over."""
    mask = _four_axes(mask[(None,) * (ndim - mask.ndim)])
    if mask.shape[3] != keys or mask.strides[3] != 1:
        mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:3], keys)))
    return Strided(mask), [0 if n == 1 else s for n, s in zip(mask.shape[:3], mask.strides[:3], strict=True)]


def _gradients(q, k, v):
    """Room for those of q, k and v, (N, T, heads, columns). Where these are equally large, it is one array
    (N, T, 3, heads, D), as a projection to all three has made them."""
    if q.shape == k.shape == v.shape:
        batch, heads, steps, width = q.shape
        whole = np.empty((batch, steps, 3, heads, width), np.float32)
        return [whole[:, :, i] for i in range(3)]
    return [np.empty((x.shape[0], x.shape[2], x.shape[1], x.shape[3]), np.float32) for x in (q, k, v)]


def _restored(x, ndim):
    """A result (N, T, heads, columns) with the caller's axes."""
    return x.transpose(0, 2, 1, 3) if ndim == 4 else x[:, :, 0] if ndim == 3 else x[0, :, 0]
