"""Multi-head attention."""

import math
from typing import Any

from tinylm import ops
from tinylm.errors import ConfigError, ShapeError
from tinylm.nn import init
from tinylm.nn.linear_layers import Linear
from tinylm.nn.modules import Module
from tinylm.tensor import Tensor


class MultiheadAttention(Module):
    """MultiHead(Q, K, V) = Concat(head_1 ... head_h) W_O, head_i = Attention(Q W_i, K W_i, V W_i).

    Vaswani et al. 2017, section 3.2.2. Parameters as in PyTorch: in_proj_weight (3E, E) holding
    W_Q, W_K, W_V (or q_proj_weight (E, E), k_proj_weight (E, kdim), v_proj_weight (E, vdim) when
    kdim or vdim differ from E), in_proj_bias (3E,), out_proj.weight (E, E), out_proj.bias (E,).
    Inputs are (T, N, E), or (N, T, E) if batch_first.
    Errors: ConfigError when embed_dim is not a multiple of num_heads.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        if num_heads <= 0 or embed_dim % num_heads:
            raise ConfigError(f"embed_dim {embed_dim} is not a multiple of num_heads {num_heads}")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
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

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """The three projections; one matrix product when the inputs are one tensor."""
        e, bias = self.embed_dim, self.in_proj_bias
        if self.same_dim and query is key and key is value:
            both = ops.linear(query, self.in_proj_weight, bias)
            return [both[..., i * e : (i + 1) * e] for i in range(3)]
        if self.same_dim:
            weights = [self.in_proj_weight[i * e : (i + 1) * e] for i in range(3)]
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases = [None if bias is None else bias[i * e : (i + 1) * e] for i in range(3)]
        return [ops.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(output, weights): output like query; weights (N, T, S), or (N, heads, T, S) if not averaged,
        None if not need_weights.

        As in PyTorch, boolean masks are True where attention is NOT allowed and floating ones are
        added: key_padding_mask (N, S), attn_mask (T, S) or (N heads, T, S). is_causal alone, without
        attn_mask, lets each query see the keys up to its own position.
        """
        if query.ndim != 3:
            raise ShapeError(f"MultiheadAttention: query has shape {query.shape}, expected three axes")
        to_heads = (0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3)  # -> (N, heads, T, E / heads)
        heads = [
            x.reshape(*x.shape[:2], self.num_heads, self.embed_dim // self.num_heads).transpose(to_heads)
            for x in self._project(query, key, value)
        ]
        batch, _, steps, width = heads[0].shape
        mask = merged_mask(attn_mask, key_padding_mask, batch, self.num_heads)
        result = ops.scaled_dot_product_attention(
            *heads,
            mask,
            causal=is_causal and attn_mask is None,
            dropout=self.dropout if self.training else 0.0,
            scale=1 / math.sqrt(width),
            return_weights=need_weights,
        )
        y, weights = result if need_weights else (result, None)
        y = y.transpose((0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3))
        y = self.out_proj(y.reshape(*y.shape[:2], self.embed_dim))
        if weights is not None and average_attn_weights:
            weights = weights.mean(axis=1)
        return y, weights

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"


def merged_mask(attn_mask: Any, key_padding_mask: Any, batch: int, heads: int) -> Any:
    """PyTorch's two masks as one that broadcasts to (N, heads, T, S): boolean with True where
    attention is allowed, or floating to add; None without masks."""
    masks = []
    if attn_mask is not None:
        m = Tensor.as_tensor(attn_mask)
        masks.append(m.reshape(batch, heads, *m.shape[1:]) if m.ndim == 3 else m)
    if key_padding_mask is not None:
        m = Tensor.as_tensor(key_padding_mask)
        masks.append(m.reshape(batch, 1, 1, m.shape[1]))
    if not masks:
        return None
    if all(m.dtype.kind == "b" for m in masks):
        forbidden = masks[0].data if len(masks) == 1 else masks[0].data | masks[1].data
        return ~forbidden
    added = [ops.where(m, -math.inf, 0.0).astype("float32") if m.dtype.kind == "b" else m for m in masks]
    return added[0] if len(added) == 1 else added[0] + added[1]
