"""Scaled dot-product attention, and splitting into heads and merging them."""

import math

import numpy as np

from tinylm.checks import check_finite, check_probability, check_sizes
from tinylm.engine.arrays import array_module, constant, of_one_dtype, raw_module, sum_to
from tinylm.engine.op import op
from tinylm.engine.products import matmul_now
from tinylm.errors import ShapeError
from tinylm.ops.dropout import keep_mask
from tinylm.ops.softmax import softmax


@op(random=True)
def scaled_dot_product_attention(q, k, v, mask=None, /, *, causal=False, dropout=0.0, scale=None, return_weights=False, key=None):
    """Y = softmax(scale Q Kᵀ + mask) V.  Vaswani et al. 2017, arXiv:1706.03762, eq. 1.

    q (..., T, D), k (..., S, D), v (..., S, E) -> y (..., T, E); scale 1/√D by default.
    mask broadcasts to (..., T, S): boolean, True where a query attends to a key; or floating, added to the scores.
    causal: query i attends to keys up to i + S - T, so the last query attends to all of them (with T = S this
    is PyTorch's is_causal). A query that attends to no key gives zeros.
    If k and v have fewer heads than q, on axis -3, each serves H/K neighbouring heads of q:
    q (..., H, T, D), k (..., K, S, D), H a multiple of K.  Ainslie et al. 2023, arXiv:2305.13245, section 2.2.
    dropout: of the weights, with the masks that `key` selects. return_weights: (y, weights), the
    weights (..., T, S) after dropout.
    With P the softmax, A = P after dropout, dA = dY Vᵀ:
    dV = Aᵀ dY,  dS = P (dP - Σ dP P),  dQ = scale dS K,  dK = scale dSᵀ Q.
    Raises ShapeError for shapes that do not fit, ConfigError for a scale that is not finite and a dropout outside 0 to 1.
    """
    if scale is not None and (type(scale) is not float or not -math.inf < scale < math.inf):
        scale = check_finite("scale", scale)
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"attention: shapes q {q.shape}, k {k.shape}, v {v.shape} do not fit (..., T, D), (..., S, D), (..., S, E)")
    additive = mask is not None and mask.dtype.kind == "f"
    q, k, v, added = of_one_dtype("attention", q=q, k=k, v=v, mask=mask if additive else None)
    if grouped(q, k, v):
        return _in_groups(q, k, v, mask, causal, dropout, scale, return_weights, key)
    xp = array_module(q, k, v, mask)
    matmul = matmul_now(xp)
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else scale
    scores = matmul(q, xp.swapaxes(k, -1, -2)) * scale
    if additive:
        scores = scores + added
    elif mask is not None:
        scores = xp.where(constant(mask), scores, -math.inf)
    if causal:
        steps, keys = q.shape[-2], k.shape[-2]
        scores = xp.where(raw_module(q).tri(steps, keys, keys - steps, dtype=bool), scores, -math.inf)
    weights, softmax_vjp = softmax.op.body(scores)
    kept = keep_mask(q, weights.shape, dropout, key) if check_probability(dropout) else None
    used = weights if kept is None else weights * kept
    y = matmul(used, v)

    def vjp(dy, dused=None):
        dv = matmul(xp.swapaxes(used, -1, -2), dy)
        dweights = matmul(dy, xp.swapaxes(v, -1, -2))
        if dused is not None:
            dweights = dweights + dused
        if kept is not None:
            dweights = dweights * kept
        (dscores,) = softmax_vjp(dweights)
        dmask = sum_to(dscores, mask.shape) if additive else None
        dscores = dscores * scale
        dq = matmul(dscores, k)
        dk = matmul(xp.swapaxes(dscores, -1, -2), q)
        return sum_to(dq, q.shape), sum_to(dk, k.shape), sum_to(dv, v.shape), dmask

    return ((y, used) if return_weights else y), vjp


def grouped(q, k, v):
    """Returns whether several heads of q share one of k and v. Raises ShapeError if they cannot be shared evenly."""
    heads, shared, values = (x.shape[-3] if x.ndim > 2 else 1 for x in (q, k, v))
    if len({n for x in (q, k, v) for n in x.shape[:-2]} - {1}) > 1:  # leading axes that differ: do they broadcast?
        apart = heads != shared and min(heads, shared) > 1
        if apart and (heads % shared or values != shared):
            raise ShapeError(
                f"attention: {shared} heads of k and {values} of v cannot be shared by {heads} heads of q: k {k.shape}, v {v.shape}"
            )
        try:
            np.broadcast_shapes(*(x.shape[: -3 if apart else -2] for x in (q, k, v)))
        except ValueError as error:
            raise ShapeError(f"attention: the leading axes of q {q.shape}, k {k.shape}, v {v.shape} do not fit together") from error
        return apart
    return False


def _in_groups(q, k, v, mask, causal, dropout, scale, return_weights, key):
    """Computes the same with one more axis, over which k and v are broadcast: q (..., K, H/K, T, D), k and v (..., K, 1, S, ·)."""
    xp = array_module(q, k, v, mask)
    heads, shared = q.shape[-3], k.shape[-3]

    def apart(x):
        return xp.reshape(x, (*x.shape[:-3], shared, heads // shared, *x.shape[-2:]))

    def together(x):
        return array_module(x).reshape(x, (*x.shape[:-4], heads, *x.shape[-2:]))

    mask_apart = mask
    if mask is not None and mask.ndim > 2:
        mask_apart = apart(mask) if mask.shape[-3] == heads else xp.expand_dims(mask, -3)
    value, inner_vjp = scaled_dot_product_attention.op.body(
        apart(q), xp.expand_dims(k, -3), xp.expand_dims(v, -3), mask_apart,
        causal=causal, dropout=dropout, scale=scale, return_weights=return_weights, key=key,
    )  # fmt: skip

    def vjp(*dys):
        found = inner_vjp(*(None if dy is None else apart(dy) for dy in dys))
        return [None if g is None else array_module(g).reshape(g, x.shape) for g, x in zip(found, (q, k, v, mask), strict=True)]

    return (tuple(map(together, value)) if return_weights else together(value)), vjp


@op
def split_heads(x, /, parts, heads, *, batch_first=True):
    """Splits a projection to `parts` times `heads` heads: into queries, keys and values for 3 parts.

    x (N, T, parts·heads·D), or (T, N, ...) without batch_first -> a tuple of `parts` arrays
    (N, heads, T, D), views of x.  dx = the parts' cotangents concatenated.  Vaswani et al. 2017, section 3.2.2.
    """
    if not (type(parts) is type(heads) is int and parts > 0 and heads > 0):
        check_sizes(parts=parts, heads=heads)
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
    """Concatenates the heads' results: y (N, heads, T, D) -> (N, T, heads·D), or (T, N, ...) without
    batch_first.  dy = the heads of the cotangent."""
    xp = array_module(y)
    n, heads, t, d = y.shape
    lead, axes, back = ((n, t), (0, 2, 1, 3), (0, 2, 1, 3)) if batch_first else ((t, n), (2, 0, 1, 3), (1, 2, 0, 3))

    def vjp(dz):
        xp = array_module(dz)
        return (xp.transpose(xp.reshape(dz, (*lead, heads, d)), back),)

    return xp.reshape(xp.transpose(y, axes), (*lead, heads * d)), vjp
