"""TransformerModel: a language model of a Transformer encoder with a causal mask.

The model of PyTorch's word-level language modelling tutorial, with its names, on Vaswani et al.
2017, arXiv:1706.03762, section 3: sinusoidal positions and post-norm layers with ReLU.
"""

import math
from collections.abc import Sequence

from tinylm import nn
from tinylm.checks import check_sizes
from tinylm.engine.arrays import array_module
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError
from tinylm.models.language_model import LAST, LanguageModel


class TransformerModel(LanguageModel[nn.KeyValueCache]):
    """Logits of the next token at every position: ids (T, N) -> (T, N, ntoken), sequence first.

    logits = decoder(transformer_encoder(pos_encoder(√ninp encoder(ids)))).
    ntoken: how many tokens there are; ninp: the width; nhead: heads of attention; nhid: the width
    inside the feed-forward; nlayers: encoder layers; dropout: after the positions and in the layers.
    """

    def __init__(self, ntoken: int, ninp: int, nhead: int, nhid: int, nlayers: int, dropout: float = 0.5) -> None:
        super().__init__()
        check_sizes(ntoken=ntoken, ninp=ninp, nhead=nhead, nhid=nhid, nlayers=nlayers)
        self.ninp = ninp
        self.pos_encoder = nn.PositionalEncoding(ninp, dropout)
        self.transformer_encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(ninp, nhead, nhid, dropout), nlayers)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.decoder = nn.Linear(ninp, ntoken)
        self.vocab_size, self.block_size = ntoken, self.pos_encoder.pe.shape[0]
        self.register_buffer("src_mask", None, persistent=False)
        self.src_mask: Tensor | None
        self.init_weights()

    def init_weights(self) -> None:
        """Draws the embedding's and the decoder's weights from U(-0.1, 0.1), and sets the decoder's bias to zero."""
        nn.init.fill_uniform(self.encoder.weight, 0.1)
        nn.init.fill_uniform(self.decoder.weight, 0.1)
        assert self.decoder.bias is not None
        nn.init.fill(self.decoder.bias, 0.0)

    def square_subsequent_mask(self, steps: int) -> Tensor:
        """Returns (T, T) booleans, True above the diagonal, where a position would attend to a later one. The mask is
        kept for the next call of the same length."""
        if self.src_mask is None or self.src_mask.shape[0] != steps:
            weight = self.encoder.weight.data
            self.src_mask = Tensor(~array_module(weight).tri(steps, dtype=bool))
        return self.src_mask

    def forward(
        self, src: Tensor, has_mask: bool = True, cache: Sequence[nn.KeyValueCache] | None = None, last: int | None = None
    ) -> Tensor:
        """src (T, N) integers -> logits (T, N, ntoken): log-softmax is left to the loss.

        has_mask=False lets every position attend to all others.
        cache: for step-by-step decoding, one per layer. This call's keys and values are appended
        (see MultiheadAttention.attend), and src is then the continuation of what they have seen.
        last: only the logits of so many last positions, (last, N, ntoken); of all if they are fewer.
        Raises ShapeError if positions pass pos_encoder's max_len, RangeError for ids outside
        the vocabulary, ConfigError for a cache without a mask.
        """
        if src.ndim != 2:
            raise ShapeError(f"TransformerModel: src has shape {src.shape}, expected (T, N)")
        if cache is not None and not has_mask:
            raise ConfigError("TransformerModel: a cache needs has_mask=True, since earlier positions cannot see later ones any more")
        past = cache[0].length if cache else 0
        x = self.pos_encoder(self.encoder(src) * math.sqrt(self.ninp), past)  # (T, N, ninp)
        # is_causal says the same as the mask for any length of cache, and attention then skips reading it.
        mask = self.square_subsequent_mask(src.shape[0]) if has_mask and not past else None
        x = self.transformer_encoder(x, mask, is_causal=has_mask, cache=cache)
        return self.decoder(x if last is None else x[-last:])

    def logits(self, ids: Tensor) -> Tensor:
        """As LanguageModel.logits, without caches."""
        return self.forward(ids.transpose(1, 0)).transpose(1, 0, 2)  # (T, N, ntoken) -> (N, T, ntoken)

    def advance(self, ids: Tensor, state: list[nn.KeyValueCache] | None = None) -> tuple[Tensor, list[nn.KeyValueCache]]:
        """As LanguageModel.advance; the state is one KeyValueCache per layer."""
        cache = self._continued(state)
        logits = self.forward(ids.transpose(1, 0), cache=cache)
        return logits.transpose(1, 0, 2), cache

    def advance_to_last(self, ids: Tensor, state: list[nn.KeyValueCache] | None = None) -> tuple[Tensor, list[nn.KeyValueCache]]:
        """As LanguageModel.advance_to_last."""
        cache = self._continued(state)
        return self.forward(ids.transpose(1, 0), cache=cache, last=LAST)[-1], cache

    def _continued(self, state: list[nn.KeyValueCache] | None) -> list[nn.KeyValueCache]:
        """Returns caches that can be extended without changing the state, which may be None."""
        return [c.copy() for c in state] if state else [nn.KeyValueCache() for _ in self.transformer_encoder.layers]
