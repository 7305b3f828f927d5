"""Classifiers of short texts into two classes.

Three models with one interface, forward(ids, lengths) -> logits: ids (N, T) integers, one text per row,
padded at the end with any valid id; lengths (N,) from 1 to T, how many ids are real;
logits (N,), p(class 1 | text) = σ(logit). The padding changes nothing.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinylm import nn, ops
from tinylm.checks import check_sizes
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import to_device
from tinylm.engine.ids import check_ids
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.nn.recurrent import Lengths

_PRIME = 116049371  # fastText's multiplier; the product with an id below 2³¹ fits 64 bits


class TextClassifier(nn.Module):
    """The interface of the three models."""

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        """ids (N, T), lengths (N,) -> logits (N,). Raises ShapeError; RangeError for ids outside the vocabulary."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")


class _Batch(NamedTuple):
    """The real positions of a batch."""

    real: Tensor  # (N, T) booleans
    lengths: Any  # (N,) raw integers

    @classmethod
    def of(cls, ids: Tensor, lengths: Lengths) -> "_Batch":
        """Returns the positions of a batch. Raises ShapeError for shapes or lengths that do not fit."""
        raw = Tensor.as_tensor(lengths).data
        if ids.ndim != 2 or raw.shape != ids.shape[:1] or raw.dtype.kind not in "iu":
            raise ShapeError(f"ids have shape {ids.shape} and lengths {raw.shape} {raw.dtype}: expected (N, T) and (N,) integers")
        if raw.size and (int(raw.min()) < 1 or int(raw.max()) > ids.shape[1]):
            raise ShapeError(f"lengths from {int(raw.min())} to {int(raw.max())}: expected 1 to {ids.shape[1]}")
        real = array_module(raw).arange(ids.shape[1]) < raw[:, None]
        return cls(Tensor(to_device(real, ids.device)), raw)

    def weights(self, dtype: Any) -> Tensor:
        """Returns (N, T, 1): 1 at real positions, 0 in the padding."""
        return self.real.astype(dtype).reshape(*self.real.shape, 1)


class BagClassifier(TextClassifier):
    """logit = w · m + b, m = n^-1/2 Σ_i r_i E_i over the words and word bigrams of a text, n in all.

    E is a table of embeddings, as in fastText (Joulin et al. 2016, arXiv:1607.01759, section 2):
    words have the rows 0 to vocab_size - 1, the bigram (a, b) has the row vocab_size +
    (116049371 a + b) mod buckets, which several may have. r_i, a buffer, says how much a row tells of the class:
    1, or after `weigh` the log-count ratio of Wang & Manning 2012, "Baselines and bigrams", eq. 1.
    word_dropout: the probability that a word or bigram does not count in training; dropout: of
    elements of m. Embeddings start as U(-1/width, 1/width), the rest as in nn.Linear.
    """

    def __init__(self, vocab_size: int, width: int, buckets: int, dropout: float = 0.0, word_dropout: float = 0.0) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size, width=width, buckets=buckets)
        self.vocab_size, self.buckets = vocab_size, buckets
        self.word_drop, self.drop = nn.Dropout(word_dropout), nn.Dropout(dropout)
        self.register_buffer("ratios", Tensor(np.ones(vocab_size + buckets, np.float32)))
        self.ratios: Tensor
        self.encoder = nn.Embedding(vocab_size + buckets, width)
        nn.init.fill_uniform(self.encoder.weight, 1 / width)
        self.decoder = nn.Linear(width, 1)

    def rows(self, ids: Array) -> Array:
        """Returns the table's rows of words and bigrams: raw ids (N, T) -> (N, 2T - 1)."""
        check_ids(ids, self.vocab_size, "word id")
        ids = ids.astype("int64")
        bigrams = self.vocab_size + (ids[:, :-1] * _PRIME + ids[:, 1:]) % self.buckets
        return array_module(ids).concatenate([ids, bigrams], axis=1)

    def weigh(self, texts: Sequence[np.ndarray], labels: np.ndarray) -> None:
        """Sets r_i = log (p_i / q_i): p the relative frequencies of the rows in the training texts of class 1, q in
        those of class 0, both with 1 added to every count."""
        counts = np.ones((2, self.vocab_size + self.buckets))
        for ids, label in zip(texts, labels, strict=True):
            np.add.at(counts[label], self.rows(ids[None])[0], 1)
        frequencies = counts / counts.sum(axis=1, keepdims=True)
        self.load_state_dict({"ratios": np.log(frequencies[1] / frequencies[0])}, strict=False)

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        batch = _Batch.of(ids, lengths)
        rows = Tensor(self.rows(ids.data))
        words = batch.weights(self.encoder.weight.dtype)  # (N, T, 1)
        real = ops.concatenate([words, words[:, 1:]], axis=1)  # (N, 2T - 1, 1): a bigram is real if its second word is
        weights = self.word_drop(real * ops.expand_dims(self.ratios[rows], 2))
        m = (self.encoder(rows) * weights).sum(axis=1) / ops.sqrt(real.sum(axis=1))  # (N, width)
        return _logits(self.decoder, self.drop(m))


class LSTMClassifier(TextClassifier):
    """logit = w · max_t h_t + b: a bidirectional LSTM, the maximum of each of its outputs over the text.

    Conneau et al. 2017, arXiv:1705.02364, section 3.2.2.  vocab_size words, embeddings of `width`,
    `hidden` units per direction, num_layers layers; dropout on the embeddings, between the layers and
    on the maximum. Embeddings start as N(0, 0.01), the rest as in nn.
    """

    def __init__(self, vocab_size: int, width: int, hidden: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size, width=width)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, width)
        nn.init.fill_normal(self.encoder.weight, 0.1)
        self.rnn = nn.LSTM(width, hidden, num_layers, dropout=dropout, bidirectional=True)
        self.decoder = nn.Linear(2 * hidden, 1)

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        batch = _Batch.of(ids, lengths)
        x = self.drop(self.encoder(ids.transpose(1, 0)))  # (T, N, width)
        y, _ = self.rnn(x, lengths=batch.lengths)
        y = ops.where(batch.real.transpose(1, 0).reshape(*x.shape[:2], 1), y, -math.inf)  # (T, N, 1), (T, N, 2 hidden)
        return _logits(self.decoder, self.drop(y.max(axis=0)))


class TransformerClassifier(TextClassifier):
    """logit = w · mean_t y_t + b, with y the output of a Transformer encoder over the real positions.

    Vaswani et al. 2017, arXiv:1706.03762, section 3, with pre-norm layers and a last norm (Xiong et
    al. 2020, arXiv:2002.04745): y = encoder(√width embedding + position). hidden: width inside the
    feed-forward; dropout: after the positions, in the layers and on the mean. Embeddings start as
    N(0, 1/width). Raises ShapeError for texts longer than 5,000 words too.
    """

    def __init__(self, vocab_size: int, width: int, heads: int, hidden: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size, width=width, heads=heads, hidden=hidden, num_layers=num_layers)
        self.scale = math.sqrt(width)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, width)
        nn.init.fill_normal(self.encoder.weight, 1 / self.scale)
        self.pos_encoder = nn.PositionalEncoding(width, dropout)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, norm_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(width))
        self.decoder = nn.Linear(width, 1)

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        batch = _Batch.of(ids, lengths)
        x = self.pos_encoder(self.encoder(ids.transpose(1, 0)) * self.scale)  # (T, N, width)
        y = self.transformer_encoder(x, src_key_padding_mask=Tensor(~batch.real.data)).transpose(1, 0, 2)  # (N, T, width)
        weights = batch.weights(y.dtype)
        return _logits(self.decoder, self.drop((y * weights).sum(axis=1) / weights.sum(axis=1)))


class Ensemble(TextClassifier):
    """The mean of its members' logits: models of one kind that differ in their seed."""

    def __init__(self, members: Iterable[TextClassifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        return ops.stack([member(ids, lengths) for member in self.members]).mean(axis=0)


def _logits(decoder: nn.Linear, features: Tensor) -> Tensor:
    """Returns the decoder's output for features (N, C), as (N,)."""
    return decoder(features).reshape(features.shape[0])
