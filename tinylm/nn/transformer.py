"""Transformer encoders and decoders."""

import copy
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from tinylm.checks import check_integer
from tinylm.engine.recompute import recompute
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.nn.activations import Activation, activation_function, check_activation, fused_name
from tinylm.nn.attention import Mask, MultiheadAttention
from tinylm.nn.key_value_cache import KeyValueCache
from tinylm.nn.layers import Dropout, LayerNorm, Linear
from tinylm.nn.modules import Module, ModuleList

Memory = Tensor | tuple[Tensor, Tensor]  # what a decoder attends to, or the keys and values that an attention made of it


class _Layer(Module):
    """What encoder and decoder layers have in common: residual branches around attention and feed-forward.

    activation: 'relu', 'gelu' or another name of nn.activations.ACTIVATIONS, an op, a module, or any function of one tensor.
    """

    attends_to_memory = False  # True in a decoder layer, which has a second attention and a third norm

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        if self.attends_to_memory:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        if self.attends_to_memory:
            self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        if self.attends_to_memory:
            self.dropout3 = Dropout(dropout)
        self.activation = check_activation(activation)  # last: a module's parameters come at the end of the state, as in PyTorch

    def _attend(
        self, x: Tensor, norm: LayerNorm, attention: MultiheadAttention, dropout: Dropout, memory: Memory | None = None, **masks: Any
    ) -> Tensor:
        """Returns norm(x + dropout(attention(x))), or x + dropout(attention(norm(x))) if norm_first: attention to the
        memory, or to its own input if there is none. x and the result (T, N, d_model), or batch first."""
        h = norm(x) if self.norm_first else x
        source = h if memory is None else memory
        key, value = source if isinstance(source, tuple) else (source, source)
        heads, _ = attention.attend(h, key, value, **masks)
        y = attention.out_proj.add_to(x, heads, dropout)
        return y if self.norm_first else norm(y)

    def _feed_forward(self, x: Tensor, norm: LayerNorm, dropout: Dropout) -> Tensor:
        """Returns norm(x + f(x)), or x + f(norm(x)) if norm_first, with f(h) = dropout(W_2 dropout(act(W_1 h)))."""
        h = norm(x) if self.norm_first else x
        if (name := fused_name(self.activation)) is not None:
            h = self.linear1(h, activation=name)
        else:
            h = activation_function(self.activation)(self.linear1(h))
        y = self.linear2.add_to(x, self.dropout(h), dropout)
        return y if self.norm_first else norm(y)


class TransformerEncoderLayer(_Layer):
    """x = norm1(x + dropout1(self_attn(x))),  y = norm2(x + dropout2(linear2(dropout(act(linear1(x)))))).

    Vaswani et al. 2017, arXiv:1706.03762, section 3.1; with norm_first each branch begins with its
    norm (Xiong et al. 2020, arXiv:2002.04745).  src (T, N, d_model), or (N, T, d_model)
    if batch_first, or one sequence (T, d_model), -> the same shape. Parameter names and defaults are PyTorch's.
    """

    def forward(
        self,
        src: Tensor,
        src_mask: Mask | None = None,
        src_key_padding_mask: Mask | None = None,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Masks and cache as in MultiheadAttention.attend."""
        x = self._attend(
            src, self.norm1, self.self_attn, self.dropout1,
            attn_mask=src_mask, key_padding_mask=src_key_padding_mask, is_causal=is_causal, cache=cache,
        )  # fmt: skip
        return self._feed_forward(x, self.norm2, self.dropout2)


class TransformerDecoderLayer(_Layer):
    """An encoder layer with a second attention in the middle, from the target to the memory.

    x = norm1(x + dropout1(self_attn(x))),  x = norm2(x + dropout2(multihead_attn(x, memory))),
    y = norm3(x + dropout3(linear2(dropout(act(linear1(x)))))); norm_first as in the encoder layer.
    Vaswani et al. 2017, section 3.1.  tgt (T, N, d_model), memory (S, N, d_model), batch first if
    batch_first, or both without N for one sequence, -> the shape of tgt. Parameter names and defaults are PyTorch's.
    """

    attends_to_memory = True

    def forward(
        self,
        tgt: Tensor,
        memory: Memory,
        tgt_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        tgt_key_padding_mask: Mask | None = None,
        memory_key_padding_mask: Mask | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Masks and cache (of self_attn) as in MultiheadAttention.attend. memory may also be the result of
        multihead_attn.keys_and_values for it."""
        x = self._attend(
            tgt, self.norm1, self.self_attn, self.dropout1,
            attn_mask=tgt_mask, key_padding_mask=tgt_key_padding_mask, is_causal=tgt_is_causal, cache=cache,
        )  # fmt: skip
        x = self._attend(
            x, self.norm2, self.multihead_attn, self.dropout2, memory,
            attn_mask=memory_mask, key_padding_mask=memory_key_padding_mask, is_causal=memory_is_causal,
        )  # fmt: skip
        return self._feed_forward(x, self.norm3, self.dropout3)


LayerType = TypeVar("LayerType", bound=_Layer)


class _Stack(Module, Generic[LayerType]):
    """Independent copies of one layer, applied one after the other, and an optional final norm."""

    def __init__(self, layer: LayerType, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        self.layers = ModuleList(copy.deepcopy(layer) for _ in range(check_integer("num_layers", num_layers, 0)))
        self.norm = norm
        self.checkpoint_activations = False  # True: in training a layer stores only its input and runs again in the backward pass

    def _through(self, x: Tensor, cache: Sequence[KeyValueCache] | None, layer_args: Sequence[tuple[Any, ...]]) -> Tensor:
        """Returns x after all layers and the norm. layer_args: each layer's arguments between x and cache."""
        caches = [None] * len(self.layers) if cache is None else cache
        if len(caches) != len(self.layers):
            raise ShapeError(f"the cache has {len(caches)} members, expected one for each of the {len(self.layers)} layers")
        for layer, args, layer_cache in zip(self.layers, layer_args, caches, strict=True):
            if self.checkpoint_activations and self.training and cache is None:
                x = recompute(lambda h, layer=layer, args=args: layer(h, *args), x)
            else:
                x = layer(x, *args, cache=layer_cache)
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack[TransformerEncoderLayer]):
    """num_layers copies of encoder_layer (all start from its weights, as in PyTorch), then norm."""

    def __init__(self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: Tensor,
        mask: Mask | None = None,
        src_key_padding_mask: Mask | None = None,
        is_causal: bool = False,
        cache: Sequence[KeyValueCache] | None = None,
    ) -> Tensor:
        """Every layer gets the same masks and its own member of `cache`: see MultiheadAttention.attend."""
        return self._through(src, cache, [(mask, src_key_padding_mask, is_causal)] * len(self.layers))


class TransformerDecoder(_Stack[TransformerDecoderLayer]):
    """num_layers copies of decoder_layer (all start from its weights, as in PyTorch), then norm."""

    def __init__(self, decoder_layer: TransformerDecoderLayer, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor | Sequence[Memory],
        tgt_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        tgt_key_padding_mask: Mask | None = None,
        memory_key_padding_mask: Mask | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        cache: Sequence[KeyValueCache] | None = None,
    ) -> Tensor:
        """Every layer gets the same masks and its own member of `cache`: see MultiheadAttention.attend.
        memory: the same for every layer, or the result of `keys_and_values` for it."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal, memory_is_causal)
        memories = [memory] * len(self.layers) if isinstance(memory, Tensor) else memory
        if len(memories) != len(self.layers):
            raise ShapeError(f"the memory has {len(memories)} members, expected one for each of the {len(self.layers)} layers")
        return self._through(tgt, cache, [(one, *masks) for one in memories])

    def keys_and_values(self, memory: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns each layer's keys and values of the memory, (N, heads, S, d_model / heads) each: given to `forward`
        in its place, they are not computed again when the target comes piece by piece."""
        return [layer.multihead_attn.keys_and_values(memory, memory) for layer in self.layers]
