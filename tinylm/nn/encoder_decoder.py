"""nn.Transformer: an encoder and a decoder that attends to what it makes."""

import math
from typing import Any

import numpy as np

from tinylm.engine.devices import to_device
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.nn import init
from tinylm.nn.activations import Activation
from tinylm.nn.attention import Mask
from tinylm.nn.layers import LayerNorm
from tinylm.nn.modules import Module
from tinylm.nn.transformer import TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer


class Transformer(Module):
    """decoder(tgt, encoder(src)): stacks of layers, each with a final norm, without embeddings and without an output layer.

    Vaswani et al. 2017, arXiv:1706.03762, section 3. Arguments, their order and defaults, and the names and shapes of the
    parameters are PyTorch's. Matrices start as U(-b, b), b = √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).
    custom_encoder and custom_decoder take the place of the stacks.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        settings: tuple[Any, ...] = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
        )  # fmt: skip
        self.encoder: Module
        self.decoder: Module
        if custom_encoder is not None:
            self.encoder = custom_encoder
        else:
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias)
            self.encoder = TransformerEncoder(TransformerEncoderLayer(*settings), num_encoder_layers, norm)
        if custom_decoder is not None:
            self.decoder = custom_decoder
        else:
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias)
            self.decoder = TransformerDecoder(TransformerDecoderLayer(*settings), num_decoder_layers, norm)
        for p in self.parameters():
            if p.ndim == 2:
                init.fill_uniform(p, math.sqrt(6 / sum(p.shape)))
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Mask | None = None,
        tgt_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        src_key_padding_mask: Mask | None = None,
        tgt_key_padding_mask: Mask | None = None,
        memory_key_padding_mask: Mask | None = None,
        src_is_causal: bool = False,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """src (S, N, d_model), tgt (T, N, d_model), batch first if batch_first, or without N for one pair -> the shape of tgt.

        Masks as in MultiheadAttention.attend: of the encoder (src_), of the decoder for itself (tgt_) and for what the encoder made
        (memory_). The padding of src is hidden from the decoder by memory_key_padding_mask alone.
        Raises ShapeError for a src or tgt of another shape.
        """
        for name, x in (("src", src), ("tgt", tgt)):
            if x.ndim != src.ndim or x.ndim not in (2, 3) or x.shape[-1] != self.d_model:
                axes = f"(N, T, {self.d_model})" if self.batch_first else f"(T, N, {self.d_model})"
                raise ShapeError(f"Transformer: {name} has shape {x.shape}, expected {axes}, or (T, {self.d_model}) for both")
        batch = 0 if self.batch_first else 1
        if src.ndim == 3 and src.shape[batch] != tgt.shape[batch]:
            raise ShapeError(f"Transformer: src {src.shape} and tgt {tgt.shape} differ in their batch, axis {batch}")
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask, memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal, memory_is_causal=memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: str = "cpu") -> Tensor:
        """Returns (sz, sz), float32, to be added to scores: -inf above the diagonal, where a position would attend to a later one;
        0 elsewhere."""
        return Tensor(to_device(np.where(np.tri(sz, dtype=bool), np.float32(0), np.float32(-math.inf)), device))
