"""Encoder and decoder layers written out, with their norms before or after the branches."""

from typing import Any

from tinylm import nn
from tinylm.engine.tensor import Tensor
from tinylm.explain.forward.attention import INSIDE, OF_HEADS, attend, attention_output, of_batches
from tinylm.explain.forward.taps import Tap
from tinylm.nn.activations import activation_function
from tinylm.nn.attention import Mask
from tinylm.nn.transformer import Memory

Layer = nn.TransformerEncoderLayer | nn.TransformerDecoderLayer


def layer_names(layer: Layer) -> list[str]:
    """Returns the names within a layer, in order. With norms after the branches (post-norm), resid_mid, resid_cross and resid_post
    are what comes after the norms, which have no names of their own."""
    names = ["resid_pre", "norm_1", *(f"attn.{name}" for name in (*INSIDE, *OF_HEADS)), "resid_mid"]
    if layer.attends_to_memory:
        names += ["norm_2", *(f"cross.{name}" for name in (*INSIDE, *OF_HEADS)), "resid_cross"]
    names += ["norm_3" if layer.attends_to_memory else "norm_2", "mlp.pre", "mlp.hidden", "mlp.out", "resid_post"]
    return [name for name in names if layer.norm_first or not name.startswith("norm_")]


class _Branches:
    """The branches of a layer around its residual stream: y = x + branch(norm(x)), or norm(x + branch(x)) if post-norm."""

    def __init__(self, layer: Layer, tap: Tap) -> None:
        self._layer, self._tap = layer, tap
        self._late = not layer.self_attn.batch_first  # values are (T, N, C)

    def _seen(self, name: str, x: Tensor) -> Tensor:
        return self._tap(name, x, sequence_first=self._late)

    def start(self, x: Tensor) -> Tensor:
        """Returns the residual stream that enters the layer."""
        return self._seen("resid_pre", x)

    def attention(
        self, x: Tensor, norm: tuple[str, nn.LayerNorm], part: str, after: str, dropout: nn.Dropout, memory: Memory | None, **masks: Any
    ) -> Tensor:
        """Returns the stream after attention to the memory, or to itself."""
        layer = self._layer.self_attn if memory is None else self._layer.multihead_attn
        h = self._before(x, norm)
        source = h if memory is None else memory
        key, value = source if isinstance(source, tuple) else (source, source)
        z = attend(layer, self._tap.within(part), h, key, value, **masks)
        out = attention_output(self._tap.within(part), z, layer.out_proj, batch_first=layer.batch_first)
        return self._after(x + dropout(out), norm, after)

    def feed_forward(self, x: Tensor, norm: tuple[str, nn.LayerNorm], dropout: nn.Dropout) -> Tensor:
        """Returns the stream after the feed-forward."""
        layer = self._layer
        h = self._seen("mlp.pre", layer.linear1(self._before(x, norm)))
        h = self._seen("mlp.hidden", activation_function(layer.activation)(h))
        out = self._seen("mlp.out", layer.linear2(layer.dropout(h)))
        return self._after(x + dropout(out), norm, "resid_post")

    def _before(self, x: Tensor, norm: tuple[str, nn.LayerNorm]) -> Tensor:
        return self._seen(norm[0], norm[1](x)) if self._layer.norm_first else x

    def _after(self, x: Tensor, norm: tuple[str, nn.LayerNorm], name: str) -> Tensor:
        return self._seen(name, x if self._layer.norm_first else norm[1](x))


@of_batches
def encoder_layer(
    layer: nn.TransformerEncoderLayer,
    tap: Tap,
    src: Tensor,
    src_mask: Mask | None = None,
    src_key_padding_mask: Mask | None = None,
    is_causal: bool = False,
    cache: nn.KeyValueCache | None = None,
) -> Tensor:
    """Returns what `TransformerEncoderLayer.forward` returns."""
    branches = _Branches(layer, tap)
    x = branches.attention(
        branches.start(src), ("norm_1", layer.norm1), "attn.", "resid_mid", layer.dropout1, None,
        attn_mask=src_mask, key_padding_mask=src_key_padding_mask, is_causal=is_causal, cache=cache,
    )  # fmt: skip
    return branches.feed_forward(x, ("norm_2", layer.norm2), layer.dropout2)


@of_batches
def decoder_layer(
    layer: nn.TransformerDecoderLayer,
    tap: Tap,
    tgt: Tensor,
    memory: Memory,
    tgt_mask: Mask | None = None,
    memory_mask: Mask | None = None,
    tgt_key_padding_mask: Mask | None = None,
    memory_key_padding_mask: Mask | None = None,
    tgt_is_causal: bool = False,
    memory_is_causal: bool = False,
    cache: nn.KeyValueCache | None = None,
) -> Tensor:
    """Returns what `TransformerDecoderLayer.forward` returns."""
    branches = _Branches(layer, tap)
    x = branches.attention(
        branches.start(tgt), ("norm_1", layer.norm1), "attn.", "resid_mid", layer.dropout1, None,
        attn_mask=tgt_mask, key_padding_mask=tgt_key_padding_mask, is_causal=tgt_is_causal, cache=cache,
    )  # fmt: skip
    x = branches.attention(
        x, ("norm_2", layer.norm2), "cross.", "resid_cross", layer.dropout2, memory,
        attn_mask=memory_mask, key_padding_mask=memory_key_padding_mask, is_causal=memory_is_causal,
    )  # fmt: skip
    return branches.feed_forward(x, ("norm_3", layer.norm3), layer.dropout3)
