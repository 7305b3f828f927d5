"""Scaled dot-product attention, and the heads it works on."""

import math

from tinylm.backend import array_module, constant, raw_module, sum_to
from tinylm.dispatch import op
from tinylm.errors import ShapeError
from tinylm.ops.probabilities import softmax
from tinylm.ops.randomness import keep_mask


@op(random=True)
def scaled_dot_product_attention(q, k, v, mask=None, /, *, causal=False, dropout=0.0, scale=None, return_weights=False, key=None):
    """Y = softmax(scale Q Kᵀ + mask) V.  Vaswani et al. 2017, arXiv:1706.03762, eq. 1.

    q (..., T, D), k (..., S, D), v (..., S, E) -> y (..., T, E); scale 1/√D by default.
    mask broadcasts to (..., T, S): boolean, True where a query may look; or floating, added.
    causal: query i sees keys up to i + S - T, so the last query sees all of them (with T = S this
    is PyTorch's is_causal). A query that may look nowhere gives zeros.
    dropout: of the weights, with the masks that `key` selects. return_weights: (y, weights), the
    weights (..., T, S) after dropout.
    With P the softmax, A = P after dropout, dA = dY Vᵀ:
    dV = Aᵀ dY,  dS = P (dP - Σ dP P),  dQ = scale dS K,  dK = scale dSᵀ Q.
    """
    if q.ndim < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"attention: shapes q {q.shape}, k {k.shape}, v {v.shape} do not fit (..., T, D), (..., S, D), (..., S, E)")
    xp = array_module(q, k, v, mask)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = xp.matmul(q * scale, xp.swapaxes(k, -1, -2))
    additive = mask is not None and mask.dtype.kind == "f"
    if additive:
        scores = scores + mask
    elif mask is not None:
        scores = xp.where(constant(mask), scores, -math.inf)
    if causal:
        steps, keys = q.shape[-2], k.shape[-2]
        scores = xp.where(raw_module(q).tri(steps, keys, keys - steps, dtype=bool), scores, -math.inf)
    weights, softmax_vjp = softmax.op.body(scores)
    kept = keep_mask(q, weights.shape, dropout, key) if dropout else None
    used = weights if kept is None else weights * kept
    y = xp.matmul(used, v)

    def vjp(dy, dused=None):
        dv = xp.matmul(xp.swapaxes(used, -1, -2), dy)
        dweights = xp.matmul(dy, xp.swapaxes(v, -1, -2))
        if dused is not None:
            dweights = dweights + dused
        if kept is not None:
            dweights = dweights * kept
        (dscores,) = softmax_vjp(dweights)
        dmask = sum_to(dscores, mask.shape) if additive else None
        dscores = dscores * scale
        dq = xp.matmul(dscores, k)
        dk = xp.matmul(xp.swapaxes(dscores, -1, -2), q)
        return sum_to(dq, q.shape), sum_to(dk, k.shape), sum_to(dv, v.shape), dmask

    return ((y, used) if return_weights else y), vjp


@op
def split_heads(x, /, parts, heads, *, batch_first=True):
    """A projection to `parts` times `heads` heads, taken apart: queries, keys and values for 3 parts.

    x (N, T, parts·heads·D), or (T, N, ...) without batch_first -> a tuple of `parts` arrays
    (N, heads, T, D), views of x.  dx = the parts' cotangents side by side.  Vaswani et al. 2017, section 3.2.2.
    """
    if x.ndim != 3 or x.shape[2] % (parts * heads):
        raise ShapeError(f"split_heads: x has shape {x.shape}: expected 3 axes, the last one of {parts} x {heads} heads of equal width")
    xp = array_module(x)
    apart = xp.reshape(x, (*x.shape[:2], parts, heads, x.shape[2] // (parts * heads)))
    axes = (0, 2, 1, 3) if batch_first else (1, 2, 0, 3)
    back = (0, 2, 1, 3) if batch_first else (2, 0, 1, 3)

    def vjp(*dys):
        xp = array_module(*dys)
        return (xp.reshape(xp.stack([xp.transpose(dy, back) for dy in dys], 2), x.shape),)

    return tuple(xp.transpose(apart[:, :, i], axes) for i in range(parts)), vjp


@op
def merge_heads(y, /, *, batch_first=True):
    """The heads' results side by side: y (N, heads, T, D) -> (N, T, heads·D), or (T, N, ...) without
    batch_first.  dy = the heads of the cotangent."""
    xp = array_module(y)
    n, heads, t, d = y.shape
    lead, axes, back = ((n, t), (0, 2, 1, 3), (0, 2, 1, 3)) if batch_first else ((t, n), (2, 0, 1, 3), (1, 2, 0, 3))

    def vjp(dz):
        xp = array_module(dz)
        return (xp.transpose(xp.reshape(dz, (*lead, heads, d)), back),)

    return xp.reshape(xp.transpose(y, axes), (*lead, heads * d)), vjp
