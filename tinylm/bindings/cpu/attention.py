"""Scaled dot-product attention that never stores the (T, S) weights, and arrays (N, heads, T, D) that are used in place.

The reference computes what the kernel does not serve: calls that return the weights, floating masks, and keys that are
broadcast over leading axes.
"""

import ctypes
import functools
import math

import numpy as np

from tinylm.bindings.cpu.library import Strided, Struct, call, contiguous, library
from tinylm.checks import check_finite, check_probability, check_sizes
from tinylm.engine.kernels import kernel
from tinylm.engine.products import products_mode


class Strides(Struct):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("batch", "head", "row"))


class AttentionLayout(Struct):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "heads", "group", "steps", "keys", "width", "out_width", "causal")),
        *((name, Strides) for name in ("q", "k", "v", "mask", "y")),
    )


class AttentionGradientLayout(Struct):
    _fields_ = tuple((name, Strides) for name in ("dy", "dq", "dk", "dv"))


class AttentionDropout(Struct):
    _fields_ = (*((name, ctypes.c_uint64) for name in ("key0", "key1", "threshold")), ("keep_scale", ctypes.c_float))


@kernel("scaled_dot_product_attention", device="cpu")
def scaled_dot_product_attention(q, k, v, mask=None, /, *, causal=False, dropout=0.0, scale=None, return_weights=False, key=None):
    if type(dropout) is not float:
        dropout = check_probability(dropout)
    if scale is not None and (type(scale) is not float or not -math.inf < scale < math.inf):
        scale = check_finite("scale", scale)
    if return_weights or not 0 <= dropout < 1 or not attention_fits(q, k, v, mask) or library() is None:
        return NotImplemented
    ndim = q.ndim
    q, k, v = strided(q), strided(k), strided(v)
    (y,) = side_by_side(1, (*q.shape[:3], v.shape[3]), q)
    masked, mask_strides = (None, (0, 0, 0)) if mask is None else _mask(mask, ndim, k.shape[2])
    layout = _layout(q.shape, v.shape, q.strides, k.strides, v.strides, mask_strides, y.strides, bool(causal))
    threshold = min(round(dropout * 2**32), 2**32 - 1)
    draw = AttentionDropout(key0=key[0], key1=key[1], threshold=threshold, keep_scale=1 / (1 - dropout)) if dropout else None
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    arguments = layout, products_mode.rounded, scale, draw, Strided(q), Strided(k), Strided(v), masked
    call("scaled_dot_product_attention_forward", *arguments, Strided(y))

    def vjp(dy):
        dy = strided(dy)
        gradients = _gradients(q, k, v)
        gradient_layout = _gradient_layout(dy.strides, *(g.strides for g in gradients))
        call("scaled_dot_product_attention_backward", *arguments, gradient_layout, Strided(dy), *map(Strided, gradients))
        return *(restored(g, ndim) for g in gradients), None

    return restored(y, ndim), vjp


def attention_fits(q, k, v, mask):
    """Returns whether a kernel serves the shapes: q, k and v have the same leading axes, at most two, or the axes (N, heads) with
    several heads of q for each of k and v; a mask is boolean and broadcasts to the weights. (The gradient of a floating mask would
    need a (T, S) matrix.)"""
    if not q.dtype == k.dtype == v.dtype or not 2 <= q.ndim == k.ndim <= 4 or k.shape[:-1] != v.shape[:-1] or q.shape[-1] != k.shape[-1]:
        return False
    if not (k.shape[-2] and q.shape[-1] and v.shape[-1]):
        return False
    if q.shape[:-2] != k.shape[:-2] and not (
        q.ndim == 4 and q.shape[0] == k.shape[0] and 0 < k.shape[1] < q.shape[1] and q.shape[1] % k.shape[1] == 0
    ):
        return False
    if mask is None:
        return True
    weights = (*q.shape[:-1], k.shape[-2])[::-1]
    return mask.dtype.kind == "b" and mask.ndim <= q.ndim and all(n in (1, m) for n, m in zip(mask.shape[::-1], weights, strict=False))


@functools.lru_cache(maxsize=256)
def _layout(q_shape, v_shape, q, k, v, mask, y, causal):
    """Returns the struct for arrays of these shapes and strides. A model calls with the same ones again and again."""
    (batch, heads, steps, width), (_, shared, keys, out_width) = q_shape, v_shape
    return AttentionLayout(
        batch=batch, heads=heads, group=heads // shared if shared else 1, steps=steps, keys=keys, width=width, out_width=out_width,
        causal=causal, q=in_floats(q), k=in_floats(k), v=in_floats(v), mask=mask, y=in_floats(y),
    )  # fmt: skip


@functools.lru_cache(maxsize=256)
def _gradient_layout(dy, dq, dk, dv):
    return AttentionGradientLayout(dy=in_floats(dy), dq=in_floats(dq), dk=in_floats(dk), dv=in_floats(dv))


def _mask(mask, ndim, keys):
    """Returns the mask, whose rows are S contiguous bytes, and its strides, 0 along an axis that it is broadcast over."""
    mask = four_axes(mask[(None,) * (ndim - mask.ndim)])
    if mask.shape[3] != keys or mask.strides[3] != 1:
        mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:3], keys)))
    return Strided(mask), tuple(0 if n == 1 else s for n, s in zip(mask.shape[:3], mask.strides[:3], strict=True))


def _gradients(q, k, v):
    """Returns empty arrays for those of q, k and v."""
    if q.shape == k.shape == v.shape:
        return side_by_side(3, q.shape, q)
    if k.shape == v.shape:
        return side_by_side(1, q.shape, q) + side_by_side(2, k.shape, k)
    return [side_by_side(1, x.shape, x)[0] for x in (q, k, v)]


# ---------------------------------------------------------------- arrays (N, heads, T, D) in place


def four_axes(x):
    """Returns x (T, D), (N, T, D) or (N, heads, T, D) with the axes of the last one, a view."""
    return x if x.ndim == 4 else x[:, None] if x.ndim == 3 else x[None, None]


def strided(x):
    """Returns x as (N, heads, T, D): itself or a view if each of its rows is contiguous."""
    x = four_axes(x)
    return x if x.dtype == np.float32 and x.strides[3] == 4 and x.flags.aligned else contiguous(x)


def in_floats(strides):
    """Returns NumPy's strides of an array (N, heads, T, D) as the fields of Strides, in floats."""
    return strides[0] // 4, strides[1] // 4, strides[2] // 4


def side_by_side(parts, shape, like):
    """Returns `parts` empty arrays (N, heads, T, D) that lie side by side in one, as `split_heads` finds them: (N, T, parts, heads, D),
    or (T, N, ...) if `like` has that order."""
    batch, heads, steps, width = shape
    if like.strides[0] < like.strides[2]:
        whole = np.empty((steps, batch, parts, heads, width), np.float32)
        return [whole[:, :, i].transpose(1, 2, 0, 3) for i in range(parts)]
    whole = np.empty((batch, steps, parts, heads, width), np.float32)
    return [whole[:, :, i].transpose(0, 2, 1, 3) for i in range(parts)]


def restored(x, ndim):
    """Returns a result (N, heads, T, columns) with the caller's axes."""
    return x if ndim == 4 else x[:, 0] if ndim == 3 else x[0, 0]


@kernel("split_heads", device="cpu")
def split_heads(x, /, parts, heads, *, batch_first=True):
    """As the reference. If the cotangents lie side by side as the parts of x do, the array they are views of is the gradient: no copy."""
    if not (type(parts) is type(heads) is int and parts > 0 and heads > 0):
        check_sizes(parts=parts, heads=heads)
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
    """Returns whether two arrays are the same view."""
    return a.base is b.base and a.ctypes.data == b.ctypes.data and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype


@kernel("merge_heads", device="cpu")
def merge_heads(y, /, *, batch_first=True):
    """As the reference. The results of attention lie as the next layer needs them: no copy in either direction."""
    if y.ndim != 4:
        return NotImplemented
    order, back = ((0, 2, 1, 3), (0, 2, 1, 3)) if batch_first else ((2, 0, 1, 3), (1, 2, 0, 3))
    apart = y.transpose(order)
    shape = apart.shape
    return apart.reshape(*shape[:2], shape[2] * shape[3]), lambda dz: (dz.reshape(shape).transpose(back),)
