"""Attention written out: scores, pattern and each head's part of the result, which the fused op never keeps."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from tinylm import nn, ops
from tinylm.engine.arrays import raw_module
from tinylm.engine.tensor import Tensor
from tinylm.explain.forward.taps import Collector, Tap
from tinylm.nn.attention import Mask, merged_mask, padding_of_one

INSIDE = ("q", "k", "v", "scores", "pattern", "z")  # the names within one attention, in order
OF_HEADS = ("head_out", "out")  # and what becomes of z


_SEQUENCES = {"src", "tgt", "memory", "query", "key", "value"}  # arguments that are (T, E) for one sequence


def of_batches(written: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a forward pass written out for batches that also takes one sequence (T, E), whose activations are those of a batch of one."""
    signature = inspect.signature(written)

    @functools.wraps(written)
    def run(layer: Any, tap: Tap, x: Tensor, *arguments: Any, **named: Any) -> Any:
        if x.ndim != 2:
            return written(layer, tap, x, *arguments, **named)
        attn = layer if isinstance(layer, nn.MultiheadAttention) else layer.self_attn
        axis = 0 if attn.batch_first else 1
        given = signature.bind(layer, tap, x, *arguments, **named).arguments
        batch: dict[int, Tensor] = {}  # one tensor given twice stays one
        for name, value in given.items():
            if name in _SEQUENCES and isinstance(value, Tensor) and value.ndim == 2:
                given[name] = batch.setdefault(id(value), ops.expand_dims(value, axis))
            elif name.endswith("key_padding_mask"):
                given[name] = padding_of_one(value)
        y = written(**given)
        if not isinstance(y, tuple):
            return ops.squeeze(y, axis=axis)
        return ops.squeeze(y[0], axis=axis), None if y[1] is None else ops.squeeze(y[1], axis=0)

    return run


def attention(tap: Tap, q: Tensor, k: Tensor, v: Tensor, mask: Any = None, *, causal: bool, dropout: float = 0.0) -> Tensor:
    """Returns z = softmax(q kᵀ / √D + mask) v, (N, H, T, D), for q (N, H, T, D), k and v (N, K, S, D) with H a multiple of K.

    Names: q, k, v, scores (before the mask), pattern (before dropout), z. The fused op computes z if nobody asks for scores or
    pattern. Vaswani et al. 2017, arXiv:1706.03762, eq. 1; mask and causal as in ops.scaled_dot_product_attention.
    """
    q, k, v = tap("q", q), tap("k", k), tap("v", v)
    if not tap.wants("scores", "pattern"):
        return tap("z", ops.scaled_dot_product_attention(q, k, v, mask, causal=causal, dropout=dropout))
    k, v = (_for_each_head(x, q.shape[1]) for x in (k, v))
    scores = tap("scores", ops.matmul(q, ops.swapaxes(k, -1, -2)) * (1 / math.sqrt(q.shape[-1])))
    if mask is not None:
        allowed = Tensor.as_tensor(mask)
        scores = scores + allowed if allowed.dtype.kind == "f" else ops.where(allowed, scores, -math.inf)
    if causal:
        steps, keys = scores.shape[-2:]
        scores = ops.where(raw_module(scores.data).tri(steps, keys, keys - steps, dtype=bool), scores, -math.inf)
    pattern = tap("pattern", ops.softmax(scores))
    return tap("z", ops.matmul(ops.dropout(pattern, dropout) if dropout else pattern, v))


def _for_each_head(x: Tensor, heads: int) -> Tensor:
    """Returns keys or values (N, K, S, D), each of which serves H / K neighbouring heads, as (N, H, S, D)."""
    n, shared, steps, width = x.shape
    if shared == heads:
        return x
    return ops.broadcast_to(ops.expand_dims(x, 2), (n, shared, heads // shared, steps, width)).reshape(n, heads, steps, width)


def attention_output(tap: Tap, z: Tensor, project: nn.Linear, *, batch_first: bool = True) -> Tensor:
    """Returns W_O Concat(z_1 ... z_H) + b = Σ_h W_O[h] z_h + b, (N, T, C), or (T, N, C) without batch_first, for z (N, H, T, D).

    Names: head_out, the terms W_O[h] z_h (N, H, T, C), computed only if somebody asks for them; out, their sum with b.
    """
    if tap.wants("head_out"):
        bias = project(ops.zeros_like(ops.merge_heads(z[:1, :, :1])))  # (1, 1, C); an adapter is zero at zero, too
        parts = tap("head_out", _of_each_head(z, project) - ops.expand_dims(bias, 1))
        out = parts.sum(axis=1) + bias
        out = out if batch_first else ops.swapaxes(out, 0, 1)
    else:
        out = project(ops.merge_heads(z, batch_first=batch_first))
    return tap("out", out, sequence_first=not batch_first)


def _of_each_head(z: Tensor, project: nn.Linear) -> Tensor:
    """Returns project(z with all heads but one set to zero) for each head: z (N, H, T, D) -> (N, H, T, C)."""
    n, heads, steps, width = z.shape
    own = raw_module(z.data).eye(heads, dtype=z.dtype).reshape(1, heads, heads, 1, 1)
    alone = (ops.expand_dims(z, 1) * own).reshape(n * heads, heads, steps, width)
    y = project(ops.merge_heads(alone))  # (N H, T, C)
    return y.reshape(n, heads, steps, y.shape[-1])


def attend(
    layer: nn.MultiheadAttention,
    tap: Tap,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_mask: Mask | None = None,
    key_padding_mask: Mask | None = None,
    is_causal: bool = False,
    cache: nn.KeyValueCache | None = None,
) -> Tensor:
    """Returns z (N, H, T, D) of an `nn.MultiheadAttention`; arguments as in its `attend`."""
    width, bias = layer.embed_dim, layer.in_proj_bias
    if query is key and key is value and layer.same_dim:
        x = ops.linear(query, layer.in_proj_weight, bias)
        q, k, v = ops.split_heads(x, 3, layer.num_heads, batch_first=layer.batch_first)
    else:
        weight = layer.in_proj_weight[:width] if layer.same_dim else layer.q_proj_weight
        x = ops.linear(query, weight, None if bias is None else bias[:width])
        (q,) = ops.split_heads(x, 1, layer.num_heads, batch_first=layer.batch_first)
        k, v = (key, value) if key.ndim == 4 else layer.keys_and_values(key, value)
    if cache is not None:
        k, v = cache.extend(k, v)
    scores = q.shape[0], layer.num_heads, q.shape[2], k.shape[2]
    mask = merged_mask(None if is_causal else attn_mask, key_padding_mask, scores, q.dtype)
    return attention(tap, q, k, v, mask, causal=is_causal, dropout=layer.dropout if layer.training else 0.0)


@of_batches
def multihead(
    layer: nn.MultiheadAttention,
    tap: Tap,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Mask | None = None,
    need_weights: bool = True,
    attn_mask: Mask | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Returns what `MultiheadAttention.forward` returns, with the weights before dropout."""
    kept: dict[str, Tensor] = {}
    inside = Tap(tap.prefix, [*tap.watchers, Collector({f"{tap.prefix}pattern"} if need_weights else set(), kept)])
    z = attend(layer, inside, query, key, value, attn_mask=attn_mask, key_padding_mask=key_padding_mask, is_causal=is_causal)
    weights = next(iter(kept.values()), None)
    if weights is not None and average_attn_weights:
        weights = weights.mean(axis=1)
    return attention_output(inside, z, layer.out_proj, batch_first=layer.batch_first), weights
