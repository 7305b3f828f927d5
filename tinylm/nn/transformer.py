"""Transformer encoders and decoders."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from tinylm.engine.recompute import recompute
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError
from tinylm.nn.attention import MultiheadAttention
from tinylm.nn.dropout import Dropout
from tinylm.nn.key_value_cache import KeyValueCache
from tinylm.nn.linear import Linear
from tinylm.nn.modules import Module, ModuleList
from tinylm.nn.normalization import LayerNorm

Memory = Tensor | tuple[Tensor, Tensor]  # what a decoder looks at, or the keys and values that an attention made of it


class _Layer(Module):
    """What encoder and decoder layers share: residual branches around attention and feed-forward."""

    linear1: Linear
    linear2: Linear
    dropout: Dropout

    def __init__(self, activation: str, norm_first: bool) -> None:
        super().__init__()
        if activation not in ("relu", "gelu"):
            raise ConfigError(f"activation {activation!r}: expected 'relu' or 'gelu'")
        self.activation, self.norm_first = activation, norm_first

    def _around(self, x: Tensor, norm: LayerNorm, branch: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """norm(x + f(x)) (post-norm) or x + f(norm(x)) (pre-norm), where branch(h, x) = x + f(h)."""
        return branch(norm(x), x) if self.norm_first else norm(branch(x, x))

    def _attention(self, attention: MultiheadAttention, dropout: Dropout, memory: Memory | None = None, **masks: Any) -> Any:
        """The branch x + dropout(attention(h, memory, memory)), self-attention without memory."""

        def branch(h: Tensor, x: Tensor) -> Tensor:
            source = h if memory is None else memory
            key, value = source if isinstance(source, tuple) else (source, source)
            heads, _ = attention.attend(h, key, value, **masks)
            return _add(x, heads, attention.out_proj, dropout)

        return branch

    def _feed_forward(self, dropout: Dropout) -> Any:
        """The branch x + dropout(W_2 dropout(act(W_1 h)))."""

        def branch(h: Tensor, x: Tensor) -> Tensor:
            return _add(x, self.dropout(self.linear1(h, activation=self.activation)), self.linear2, dropout)

        return branch


def _add(x: Tensor, h: Tensor, projection: Linear, dropout: Dropout) -> Tensor:
    """x + dropout(projection(h)): one op when nothing is dropped."""
    if dropout.training and dropout.p > 0:
        return x + dropout(projection(h))
    return projection(h, x)


class TransformerEncoderLayer(_Layer):
    """x = norm1(x + dropout1(self_attn(x))),  y = norm2(x + dropout2(linear2(dropout(act(linear1(x)))))).

    Vaswani et al. 2017, arXiv:1706.03762, section 3.1; with norm_first the norms stand at the head
    of each branch (Xiong et al. 2020, arXiv:2002.04745).  src (T, N, d_model), or (N, T, d_model)
    if batch_first, -> the same shape. Parameter names and defaults are PyTorch's.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(activation, norm_first)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)

    def forward(
        self,
        src: Tensor,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Masks and cache as in MultiheadAttention.attend."""
        attention = self._attention(
            self.self_attn, self.dropout1, attn_mask=src_mask, key_padding_mask=src_key_padding_mask, is_causal=is_causal, cache=cache
        )
        x = self._around(src, self.norm1, attention)
        return self._around(x, self.norm2, self._feed_forward(self.dropout2))


class TransformerDecoderLayer(_Layer):
    """An encoder layer with a second attention in the middle, from the target to the memory.

    x = norm1(x + dropout1(self_attn(x))),  x = norm2(x + dropout2(multihead_attn(x, memory))),
    y = norm3(x + dropout3(linear2(dropout(act(linear1(x)))))); norm_first as in the encoder layer.
    Vaswani et al. 2017, section 3.1.  tgt (T, N, d_model), memory (S, N, d_model), batch first if
    batch_first, -> the shape of tgt. Parameter names and defaults are PyTorch's.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(activation, norm_first)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)

    def forward(
        self,
        tgt: Tensor,
        memory: Memory,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Masks as in MultiheadAttention.attend, and so is the cache, which serves self_attn. memory may
        also be what multihead_attn.keys_and_values made of it."""
        to_self = self._attention(
            self.self_attn, self.dropout1, attn_mask=tgt_mask, key_padding_mask=tgt_key_padding_mask, is_causal=tgt_is_causal, cache=cache
        )
        to_memory = self._attention(
            self.multihead_attn,
            self.dropout2,
            memory,
            attn_mask=memory_mask,
            key_padding_mask=memory_key_padding_mask,
            is_causal=memory_is_causal,
        )
        x = self._around(tgt, self.norm1, to_self)
        x = self._around(x, self.norm2, to_memory)
        return self._around(x, self.norm3, self._feed_forward(self.dropout3))


class _Stack(Module):
    """Independent copies of one layer, each fed the one before, and an optional final norm."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        self.layers = ModuleList(copy.deepcopy(layer) for _ in range(num_layers))
        self.norm = norm
        self.checkpoint_activations = False  # True: in training a layer keeps only its input, and runs again in the backward pass

    def _through(self, x: Tensor, cache: Sequence[KeyValueCache] | None, layer_args: Sequence[tuple[Any, ...]]) -> Tensor:
        """layer_args: those of each layer, between x and cache."""
        caches = [None] * len(self.layers) if cache is None else cache
        if len(caches) != len(self.layers):
            raise ShapeError(f"the cache has {len(caches)} members, expected one for each of the {len(self.layers)} layers")
        for layer, args, layer_cache in zip(self.layers, layer_args, caches, strict=True):
            if self.checkpoint_activations and self.training and cache is None:
                x = recompute(lambda h, layer=layer, args=args: layer(h, *args), x)
            else:
                x = layer(x, *args, cache=layer_cache)
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """num_layers copies of encoder_layer (all start from its weights, as in PyTorch), then norm."""

    def __init__(self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: Tensor,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
        cache: Sequence[KeyValueCache] | None = None,
    ) -> Tensor:
        """Every layer gets the same masks, and its own member of `cache`: see MultiheadAttention.attend."""
        return self._through(src, cache, [(mask, src_key_padding_mask, is_causal)] * len(self.layers))


class TransformerDecoder(_Stack):
    """num_layers copies of decoder_layer (all start from its weights, as in PyTorch), then norm."""

    def __init__(self, decoder_layer: TransformerDecoderLayer, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor | Sequence[Memory],
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        cache: Sequence[KeyValueCache] | None = None,
    ) -> Tensor:
        """Every layer gets the same masks, and its own member of `cache`: see MultiheadAttention.attend.
        memory: the same for every layer, or what `keys_and_values` made of it."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal, memory_is_causal)
        memories = [memory] * len(self.layers) if isinstance(memory, Tensor) else memory
        if len(memories) != len(self.layers):
            raise ShapeError(f"the memory has {len(memories)} members, expected one for each of the {len(self.layers)} layers")
        return self._through(tgt, cache, [(one, *masks) for one in memories])

    def keys_and_values(self, memory: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What each layer's attention makes of the memory, (N, heads, S, d_model / heads) each: to be
        given to `forward` in its place when the target comes piece by piece."""
        layers: list[Any] = list(self.layers)
        return [layer.multihead_attn.keys_and_values(memory, memory) for layer in layers]
