"""Sequence-to-sequence models: a Transformer and a recurrent one without attention.

Both give p(target | source) = Π_t p(target[t] | target[..t-1], source) and have one interface:
`forward` for training, `encode` and then `step` for decoding one token at a time.
"""

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from tinylm import nn, ops
from tinylm.checks import check_sizes
from tinylm.engine.arrays import array_module
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.nn.recurrent import Lengths


@dataclass(frozen=True)
class AttentionState:
    """What a decoding Translator keeps: for each decoder layer the keys and values of the source, each
    (N, heads, S, d / heads), and a cache of the target so far; and the source's padding mask (N, S). A single
    source has N = 1, however many targets there are."""

    memory: list[tuple[Tensor, Tensor]]
    padding: Tensor
    cache: list[nn.KeyValueCache]

    def select(self, rows: np.ndarray) -> "AttentionState":
        """Returns the state whose row i is this one's row rows[i]; a row may occur several times or never."""
        cache = [c.select(rows) for c in self.cache]
        if self.padding.shape[0] == 1:  # all rows translate the same source, which need not be copied
            return AttentionState(self.memory, self.padding, cache)
        return AttentionState([(k[rows], v[rows]) for k, v in self.memory], self.padding[rows], cache)


@dataclass(frozen=True)
class RecurrentState:
    """What a decoding RecurrentTranslator keeps: h and c, each (layers, N, d)."""

    h: Tensor
    c: Tensor

    def select(self, rows: np.ndarray) -> "RecurrentState":
        """As AttentionState.select."""
        return RecurrentState(self.h[:, rows], self.c[:, rows])


State = TypeVar("State", AttentionState, RecurrentState)


class TranslationModel(nn.Module, Generic[State]):
    """The interface of translation models for training and decoding. One embedding (vocab_size, d) is used for the
    source, the target and, transposed, the logits (Press & Wolf 2016, arXiv:1608.05859)."""

    embedding: nn.Embedding
    vocab_size: int

    def forward(self, source: Tensor, source_lengths: Lengths, target_in: Tensor) -> Tensor:
        """Returns logits (N, T, vocab_size) of the token after each of target_in (N, T).

        source (N, S) ids, padded at the end; source_lengths: N integers from 1 to S; target_in begins
        with the id that begins a sentence. The ids in the padding change nothing.
        Raises ShapeError for lengths that do not fit, RangeError for ids outside the vocabulary.
        """
        y, _ = self.decode(target_in, self.encode(source, source_lengths))
        return self.logits(y.transpose(1, 0, 2))  # (T, N, d) -> (N, T, vocab_size)

    def encode(self, source: Tensor, source_lengths: Lengths) -> State:
        """Returns the state before the first target token."""
        raise NotImplementedError(f"{type(self).__name__} has no encode")

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Returns logits (N, vocab_size) of the token after ids (N,), and the state with them; the old state
        is not changed."""
        y, state = self.decode(ids.reshape(-1, 1), state)  # (N,) -> (N, 1), y (1, N, d)
        return self.logits(y[0]), state

    def decode(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Returns the decoder's output (T, N, d) for ids (N, T) that follow what the state has seen, and the new state."""
        raise NotImplementedError(f"{type(self).__name__} has no decode")

    def logits(self, y: Tensor) -> Tensor:
        """Returns y (..., d) times the embedding's transpose, (..., vocab_size)."""
        return ops.linear(y, self.embedding.weight)


class Translator(TranslationModel[AttentionState]):
    """An encoder-decoder Transformer (Vaswani et al. 2017, arXiv:1706.03762) with pre-norm layers
    (Xiong et al. 2020, arXiv:2002.04745).

    memory = encoder(√d E[source] + PE),  logits = decoder(√d E[target] + PE, memory) Eᵀ.
    vocab_size: how many tokens there are; d_model: the width d; nhead: heads of attention;
    dim_feedforward: width inside the feed-forward; num_layers: of the encoder and of the decoder;
    max_len: the longest source or target. Matrices of the layers start Glorot-uniform, the embedding
    as N(0, 1/d).
    """

    def __init__(
        self, vocab_size: int, d_model: int, nhead: int, dim_feedforward: int, num_layers: int, dropout: float = 0.1, max_len: int = 128
    ) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward, num_layers=num_layers)
        self.vocab_size, self.d_model = vocab_size, d_model
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.positions = nn.PositionalEncoding(d_model, dropout, max_len)
        sizes = d_model, nhead, dim_feedforward, dropout
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(*sizes, norm_first=True), num_layers, nn.LayerNorm(d_model))
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(*sizes, norm_first=True), num_layers, nn.LayerNorm(d_model))
        for stack in (self.encoder, self.decoder):
            for p in stack.parameters():
                if p.ndim > 1:  # drawn anew, so that the copied layers start with different weights
                    nn.init.fill_uniform(p, math.sqrt(6 / sum(p.shape)))
        nn.init.fill_normal(self.embedding.weight, d_model**-0.5)

    def encode(self, source: Tensor, source_lengths: Lengths) -> AttentionState:
        padding = Tensor(to_device(padding_mask(source, source_lengths), source.device))
        memory = self.encoder(self._embed(source, 0), src_key_padding_mask=padding)
        return AttentionState(self.decoder.keys_and_values(memory), padding, [nn.KeyValueCache() for _ in self.decoder.layers])

    def decode(self, ids: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """As TranslationModel.decode."""
        cache = [c.copy() for c in state.cache]
        seen = cache[0].length if cache else 0
        memory, padding = state.memory, state.padding
        if padding.shape[0] < len(ids):
            memory, padding = [(_rows(k, len(ids)), _rows(v, len(ids))) for k, v in memory], _rows(padding, len(ids))
        y = self.decoder(self._embed(ids, seen), memory, memory_key_padding_mask=padding, tgt_is_causal=True, cache=cache)
        return y, AttentionState(state.memory, state.padding, cache)

    def _embed(self, ids: Tensor, start: int) -> Tensor:
        """Returns √d E[ids] + PE, (T, N, d) for ids (N, T)."""
        return self.positions(self.embedding(ids.transpose(1, 0)) * math.sqrt(self.d_model), start)


class RecurrentTranslator(TranslationModel[RecurrentState]):
    """An LSTM that reads the source and an LSTM that writes the target, starting from the final state of the first,
    without attention (Sutskever et al. 2014, arXiv:1409.3215).

    The source is read backwards (their section 3.3), so that its beginning is near the target's.
    vocab_size: how many tokens there are; width: of the embedding and of the hidden states, which are
    equal since the embedding also makes the logits; num_layers: of each LSTM; dropout: on embeddings,
    between layers and on the output. The embedding starts as U(-0.1, 0.1).
    """

    def __init__(self, vocab_size: int, width: int, num_layers: int, dropout: float = 0.1) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size, width=width, num_layers=num_layers)
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, width)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.LSTM(width, width, num_layers, dropout=dropout)
        self.decoder = nn.LSTM(width, width, num_layers, dropout=dropout)
        nn.init.fill_uniform(self.embedding.weight, 0.1)

    def encode(self, source: Tensor, source_lengths: Lengths) -> RecurrentState:
        lengths = to_numpy(Tensor.as_tensor(source_lengths).data)
        padding = padding_mask(source, lengths)
        places = np.arange(source.shape[1])
        backwards = to_device(np.where(padding, places, lengths[:, None] - 1 - places), source.device)
        rows = array_module(source.data).arange(source.shape[0])[:, None]
        x = self.drop(self.embedding(source[rows, backwards].transpose(1, 0)))
        _, (h, c) = self.encoder(x, lengths=lengths)
        return RecurrentState(h, c)

    def decode(self, ids: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """As TranslationModel.decode."""
        y, (h, c) = self.decoder(self.drop(self.embedding(ids.transpose(1, 0))), (state.h, state.c))
        return self.drop(y), RecurrentState(h, c)


def padding_mask(source: Tensor, lengths: Lengths) -> np.ndarray:
    """Returns (N, S) booleans, True where a sequence has ended. Raises ShapeError for lengths that do not fit."""
    lengths = to_numpy(Tensor.as_tensor(lengths).data)
    if source.ndim != 2 or lengths.shape != source.shape[:1]:
        raise ShapeError(f"source has shape {source.shape} and its lengths {lengths.shape}, expected (N, S) and (N,)")
    if lengths.min() < 1 or lengths.max() > source.shape[1]:
        raise ShapeError(f"source lengths are {lengths.min()} to {lengths.max()}, expected 1 to {source.shape[1]}")
    return np.arange(source.shape[1]) >= lengths[:, None]


def _rows(x: Tensor, n: int) -> Tensor:
    """Returns x (1, ...) as n equal rows, without a copy."""
    return ops.broadcast_to(x, (n, *x.shape[1:]))
