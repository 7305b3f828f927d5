"""Multi-head attention."""

import math
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.checks import check_integer, check_probability, check_sizes, shown
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError
from tinylm.nn import init
from tinylm.nn.key_value_cache import KeyValueCache
from tinylm.nn.layers import Linear
from tinylm.nn.modules import Module

Mask = Tensor | np.ndarray  # boolean, True where attention is NOT allowed, or floating, added to the scores


class MultiheadAttention(Module):
    """MultiHead(Q, K, V) = Concat(head_1 ... head_h) W_O, head_i = Attention(Q W_i, K W_i, V W_i).

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2. Parameters as in PyTorch: in_proj_weight
    (3E, E) holding W_Q, W_K, W_V (or q_proj_weight (E, E), k_proj_weight (E, kdim), v_proj_weight
    (E, vdim) when kdim or vdim differ from E), in_proj_bias (3E,), out_proj.weight (E, E),
    out_proj.bias (E,). Inputs are (T, N, E), or (N, T, E) if batch_first; or one sequence, (T, E).
    Raises ConfigError if embed_dim is not a multiple of num_heads.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        if check_integer("num_heads", num_heads) <= 0 or check_integer("embed_dim", embed_dim) % num_heads:
            raise ConfigError(f"embed_dim {shown(embed_dim)} is not a multiple of num_heads {shown(num_heads)}")
        check_sizes(embed_dim=embed_dim, **{name: n for name, n in (("kdim", kdim), ("vdim", vdim)) if n is not None})
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, check_probability(dropout), batch_first
        self.same_dim = kdim in (None, embed_dim) and vdim in (None, embed_dim)
        if self.same_dim:
            self.in_proj_weight = init.xavier_uniform((3 * embed_dim, embed_dim))
        else:
            self.q_proj_weight = init.xavier_uniform((embed_dim, embed_dim))
            self.k_proj_weight = init.xavier_uniform((embed_dim, kdim or embed_dim))
            self.v_proj_weight = init.xavier_uniform((embed_dim, vdim or embed_dim))
        self.in_proj_bias = init.zeros((3 * embed_dim,)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        if self.out_proj.bias is not None:
            init.fill(self.out_proj.bias, 0.0)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Mask | None = None,
        need_weights: bool = True,
        attn_mask: Mask | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns (output, weights): output like query; weights (N, T, S), or (N, heads, T, S) if not averaged,
        None if not need_weights; without N for one sequence. The masks are those of `attend`."""
        y, weights = self.attend(
            query, key, value, attn_mask=attn_mask, key_padding_mask=key_padding_mask, is_causal=is_causal, need_weights=need_weights
        )
        if weights is not None and average_attn_weights:
            weights = weights.mean(axis=-3)
        return self.out_proj(y), weights

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        attn_mask: Mask | None = None,
        key_padding_mask: Mask | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns (Concat(head_1 ... head_h), weights (N, heads, T, S) or None): all but the product with W_O.

        As in PyTorch, boolean masks are True where attention is NOT allowed and floating ones are
        added: attn_mask (T, S), (N heads, T, S) or, the same for all heads, (N, T, S); key_padding_mask
        (N, S), or (S,) for one sequence. is_causal lets each
        query see the keys up to its own position, counted from the last; an attn_mask given with
        it is assumed to say the same and is not read. A query that may attend to no key gives zeros.
        cache: the keys and values of earlier steps; this call's are appended, and all are attended to.
        key and value may also be the results of `keys_and_values`.
        For one sequence, query (T, E), key and value (S, E), the results have no N either.
        Raises ShapeError naming the input or mask that does not fit.
        """
        if query.ndim == 2 and key.ndim in (2, 4) and value.ndim == key.ndim:
            batch = {id(x): x if x.ndim == 4 else self._as_batch(x) for x in (query, key, value)}  # one tensor given twice stays one
            y, weights = self.attend(
                *(batch[id(x)] for x in (query, key, value)), attn_mask=attn_mask, key_padding_mask=padding_of_one(key_padding_mask),
                is_causal=is_causal, need_weights=need_weights, cache=cache,
            )  # fmt: skip
            return ops.squeeze(y, axis=0 if self.batch_first else 1), None if weights is None else ops.squeeze(weights, axis=0)
        self._check(query, key, value)
        if key.ndim == 3 and self.same_dim and query is key and key is value:  # one matrix product makes all three
            x = ops.linear(query, self.in_proj_weight, self.in_proj_bias)
            q, k, v = self._heads(x, 3)
        else:
            (q,) = self._heads(self._project(query, 0, 1))
            k, v = (key, value) if key.ndim == 4 else self.keys_and_values(key, value)
        if cache is not None:
            k, v = cache.extend(k, v)
        scores = q.shape[0], self.num_heads, q.shape[2], k.shape[2]
        mask = merged_mask(None if is_causal else attn_mask, key_padding_mask, scores, q.dtype)
        dropout = self.dropout if self.training else 0.0
        result = ops.scaled_dot_product_attention(q, k, v, mask, causal=is_causal, dropout=dropout, return_weights=need_weights)
        y, weights = result if need_weights else (result, None)
        return ops.merge_heads(y, batch_first=self.batch_first), weights  # (N, heads, T, E / heads) -> (T, N, E)

    def keys_and_values(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Returns K W_K and V W_V, each (N, heads, S, E / heads). `attend` accepts them as key and value, so that
        several calls with the same key and value compute the projections once. N is 1 for one sequence."""
        if key.ndim == value.ndim == 2:
            one = self._as_batch(key)
            return self.keys_and_values(one, one if key is value else self._as_batch(value))
        if self.same_dim and key is value:
            k, v = self._heads(self._project(key, 1, 3), 2)
        else:
            (k,), (v,) = self._heads(self._project(key, 1, 2)), self._heads(self._project(value, 2, 3))
        return k, v

    def _project(self, x: Tensor, first: int, stop: int) -> Tensor:
        """Returns x times W_Q, W_K, W_V number `first` to `stop` - 1, side by side: (..., E) -> (..., (stop - first) E)."""
        rows = slice(first * self.embed_dim, stop * self.embed_dim)
        weight = self.in_proj_weight[rows] if self.same_dim else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[first]
        return ops.linear(x, weight, None if self.in_proj_bias is None else self.in_proj_bias[rows])

    def _heads(self, x: Tensor, parts: int = 1) -> tuple[Tensor, ...]:
        """Splits (T, N, parts E), or (N, T, parts E) if batch_first, into `parts` tensors (N, heads, T, E / heads)."""
        return ops.split_heads(x, parts, self.num_heads, batch_first=self.batch_first)

    def _as_batch(self, x: Tensor) -> Tensor:
        """Returns one sequence (T, E) as a batch of one."""
        return ops.expand_dims(x, 0 if self.batch_first else 1)

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        batch = 0 if self.batch_first else 1
        axes = "(N, T, E)" if self.batch_first else "(T, N, E)"
        if key.ndim == 4 and query.ndim == 3:
            made = query.shape[batch], self.num_heads, key.shape[2], self.embed_dim // self.num_heads
            for name, x in (("keys", key), ("values", value)):
                if x.shape != made:
                    raise ShapeError(f"MultiheadAttention: the {name} have shape {x.shape}, expected {made} for a query {query.shape}")
            return
        for name, x in (("query", query), ("key", key), ("value", value)):
            if x.ndim != 3:
                raise ShapeError(f"MultiheadAttention: {name} has shape {x.shape}, expected {axes}, or (T, E) for all three")
            if x.shape[batch] != query.shape[batch]:
                raise ShapeError(f"MultiheadAttention: {name} has shape {x.shape}, its batch should be {query.shape[batch]} in {axes}")
        if key.shape[:2] != value.shape[:2]:
            raise ShapeError(f"MultiheadAttention: key {key.shape} and value {value.shape} differ in length")

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"


def padding_of_one(mask: Mask | None) -> Tensor | None:
    """Returns the key_padding_mask (S,) of one sequence as that of a batch of one. Raises ShapeError for another number of axes."""
    if mask is None:
        return None
    mask = Tensor.as_tensor(mask)
    if mask.ndim != 1:
        raise ShapeError(f"MultiheadAttention: key_padding_mask has shape {mask.shape}, expected (S,) for one sequence")
    return mask.reshape(1, -1)


def merged_mask(attn_mask: Mask | None, key_padding_mask: Mask | None, shape: tuple[int, int, int, int], dtype: Any) -> Any:
    """Returns PyTorch's two masks as the one mask of ops.scaled_dot_product_attention for scores of
    `shape` (N, heads, T, S): boolean, True where attention IS allowed; or of `dtype`, to be added; None
    without masks."""
    batch, heads, steps, keys = shape
    masks = []
    if attn_mask is not None:
        m = _checked("attn_mask", attn_mask, [(steps, keys), (batch * heads, steps, keys), (batch, steps, keys)])
        masks.append(m.reshape(batch, heads if len(m) == batch * heads else 1, steps, keys) if m.ndim == 3 else m)
    if key_padding_mask is not None:
        masks.append(_checked("key_padding_mask", key_padding_mask, [(batch, keys)]).reshape(batch, 1, 1, keys))
    if not masks:
        return None
    if all(m.dtype.kind == "b" for m in masks):
        return ~(masks[0].data | masks[-1].data)
    added = [(ops.where(m, -math.inf, 0.0) if m.dtype.kind == "b" else m).astype(dtype) for m in masks]
    return added[0] if len(added) == 1 else added[0] + added[1]


def _checked(name: str, mask: Mask, shapes: list[tuple[int, ...]]) -> Tensor:
    mask = Tensor.as_tensor(mask)
    if mask.shape not in shapes:
        raise ShapeError(f"MultiheadAttention: {name} has shape {mask.shape}, expected {' or '.join(map(str, dict.fromkeys(shapes)))}")
    if mask.dtype.kind not in "bf":
        raise ShapeError(f"MultiheadAttention: {name} has dtype {mask.dtype}, expected boolean or floating")
    return mask
