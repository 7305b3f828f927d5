"""The classifiers of tinylm.models.classifier written with PyTorch, one text at a time where that is simplest.

Takes ids (N, T) and lengths (N,), gives logits (N,), of more than two classes (N, classes). State-dict names equal those of the tinylm
models.
Importing this file imports PyTorch.
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from tinylm.verify.torch.models import TorchPositionalEncoding


def per_text(logits: torch.Tensor) -> torch.Tensor:
    """Returns logits (N, 1) as (N,)."""
    return logits[:, 0] if logits.shape[1] == 1 else logits


def outputs_of(classes: int) -> int:
    return 1 if classes == 2 else classes


def rows_of(ids: list[int], vocab_size: int, buckets: int) -> list[int]:
    """Returns the rows of a text's words, and then of its pairs."""
    return ids + [vocab_size + (116049371 * a + b) % buckets for a, b in itertools.pairwise(ids)]


class TorchLinearClassifier(nn.Module):
    """tinylm.models.classifier.LinearClassifier: the words and word pairs of each text on their own."""

    scale: torch.Tensor

    def __init__(self, vocab_size: int, buckets: int, word_dropout: float = 0.0, classes: int = 2) -> None:
        super().__init__()
        self.vocab_size, self.buckets = vocab_size, buckets
        self.word_drop = nn.Dropout(word_dropout)
        self.register_buffer("scale", torch.ones(vocab_size + buckets))
        self.encoder = nn.Embedding(vocab_size + buckets, outputs_of(classes))
        self.bias = nn.Parameter(torch.zeros(outputs_of(classes)))

    def forward(self, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        rows, counted = [], []
        for text, length in zip(ids.tolist(), lengths.tolist(), strict=True):
            known = [i < length and word != 0 for i, word in enumerate(text)]
            found = rows_of(text, self.vocab_size, self.buckets)
            known += [a and b for a, b in itertools.pairwise(known)]
            rows.append(found)
            counted.append([each and row not in found[:i] for i, (each, row) in enumerate(zip(known, found, strict=True))])
        weights = self.word_drop((torch.tensor(counted) * self.scale[torch.tensor(rows)])[:, :, None])
        return per_text((self.encoder(torch.tensor(rows)) * weights).sum(1) + self.bias)


class TorchBagClassifier(nn.Module):
    """tinylm.models.classifier.BagClassifier: the words and word pairs of each text on their own."""

    ratios: torch.Tensor

    def __init__(
        self, vocab_size: int, width: int, buckets: int, dropout: float = 0.0, word_dropout: float = 0.0, classes: int = 2
    ) -> None:
        super().__init__()
        self.vocab_size, self.buckets = vocab_size, buckets
        self.word_drop, self.drop = nn.Dropout(word_dropout), nn.Dropout(dropout)
        self.register_buffer("ratios", torch.ones(vocab_size + buckets))
        self.encoder = nn.Embedding(vocab_size + buckets, width)
        self.decoder = nn.Linear(width, outputs_of(classes))

    def forward(self, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        rows, real = [], []
        for text, length in zip(ids.tolist(), lengths.tolist(), strict=True):
            rows.append(rows_of(text, self.vocab_size, self.buckets))
            real.append([i < length for i in range(len(text))] + [i + 1 < length for i in range(len(text) - 1)])
        table, counted = torch.tensor(rows), torch.tensor(real)
        weights = self.word_drop((counted * self.ratios[table])[:, :, None])
        vectors = self.encoder(table)
        means = [(vectors[n, kept] * weights[n, kept]).sum(0) / math.sqrt(int(kept.sum())) for n, kept in enumerate(counted)]
        return per_text(self.decoder(self.drop(torch.stack(means))))


class TorchLSTMClassifier(nn.Module):
    """tinylm.models.classifier.LSTMClassifier: packed sequences, and the maximum of each text on its own."""

    def __init__(self, vocab_size: int, width: int, hidden: int, num_layers: int = 1, dropout: float = 0.0, classes: int = 2) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, width)
        between = dropout if num_layers > 1 else 0.0  # or PyTorch warns
        self.rnn = nn.LSTM(width, hidden, num_layers, dropout=between, bidirectional=True)
        self.decoder = nn.Linear(2 * hidden, outputs_of(classes))

    def forward(self, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        x = self.drop(self.encoder(ids.T))
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.as_tensor(lengths), enforce_sorted=False)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])
        most = torch.stack([y[:length, n].amax(dim=0) for n, length in enumerate(lengths.tolist())])
        return per_text(self.decoder(self.drop(most)))


class TorchTransformerClassifier(nn.Module):
    """tinylm.models.classifier.TransformerClassifier: PyTorch's encoder, and the mean of each text on its own."""

    def __init__(
        self, vocab_size: int, width: int, heads: int, hidden: int, num_layers: int = 1, dropout: float = 0.0, classes: int = 2
    ) -> None:
        super().__init__()
        self.scale = math.sqrt(width)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, width)
        self.pos_encoder = TorchPositionalEncoding(width, dropout)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, norm_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.decoder = nn.Linear(width, outputs_of(classes))

    def forward(self, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        x = self.pos_encoder(self.encoder(ids.T) * self.scale)
        y = self.transformer_encoder(x, src_key_padding_mask=torch.arange(ids.shape[1]) >= torch.as_tensor(lengths)[:, None])
        means = torch.stack([y[:length, n].mean(dim=0) for n, length in enumerate(lengths.tolist())])
        return per_text(self.decoder(self.drop(means)))


class TorchEnsemble(nn.Module):
    """tinylm.models.classifier.Ensemble: the mean of the members' logits."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        return torch.stack([member(ids, lengths) for member in self.members]).mean(dim=0)
