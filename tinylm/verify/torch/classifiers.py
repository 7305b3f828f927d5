"""The classifiers of tinylm.models.classifier written with PyTorch, one text at a time where that is simplest.

Takes ids (N, T) and lengths (N,), gives logits (N,); state-dict names equal those of the tinylm models.
Importing this file imports PyTorch.
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from tinylm.verify.torch.models import TorchPositionalEncoding


class TorchBagClassifier(nn.Module):
    """tinylm.models.classifier.BagClassifier: the words and word pairs of each text on their own."""

    ratios: torch.Tensor

    def __init__(self, vocab_size: int, width: int, buckets: int, dropout: float = 0.0, word_dropout: float = 0.0) -> None:
        super().__init__()
        self.vocab_size, self.buckets = vocab_size, buckets
        self.word_drop, self.drop = nn.Dropout(word_dropout), nn.Dropout(dropout)
        self.register_buffer("ratios", torch.ones(vocab_size + buckets))
        self.encoder = nn.Embedding(vocab_size + buckets, width)
        self.decoder = nn.Linear(width, 1)

    def forward(self, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        rows, real = [], []
        for text, length in zip(ids.tolist(), lengths.tolist(), strict=True):
            pairs = [self.vocab_size + (116049371 * a + b) % self.buckets for a, b in itertools.pairwise(text)]
            rows.append(text + pairs)
            real.append([i < length for i in range(len(text))] + [i + 1 < length for i in range(len(pairs))])
        table, counted = torch.tensor(rows), torch.tensor(real)
        weights = self.word_drop((counted * self.ratios[table])[:, :, None])
        vectors = self.encoder(table)
        means = [(vectors[n, kept] * weights[n, kept]).sum(0) / math.sqrt(int(kept.sum())) for n, kept in enumerate(counted)]
        return self.decoder(self.drop(torch.stack(means)))[:, 0]


class TorchLSTMClassifier(nn.Module):
    """tinylm.models.classifier.LSTMClassifier: packed sequences, and the maximum of each text on its own."""

    def __init__(self, vocab_size: int, width: int, hidden: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, width)
        between = dropout if num_layers > 1 else 0.0  # or PyTorch warns
        self.rnn = nn.LSTM(width, hidden, num_layers, dropout=between, bidirectional=True)
        self.decoder = nn.Linear(2 * hidden, 1)

    def forward(self, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        x = self.drop(self.encoder(ids.T))
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.as_tensor(lengths), enforce_sorted=False)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])
        most = torch.stack([y[:length, n].amax(dim=0) for n, length in enumerate(lengths.tolist())])
        return self.decoder(self.drop(most))[:, 0]


class TorchTransformerClassifier(nn.Module):
    """tinylm.models.classifier.TransformerClassifier: PyTorch's encoder, and the mean of each text on its own."""

    def __init__(self, vocab_size: int, width: int, heads: int, hidden: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.scale = math.sqrt(width)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, width)
        self.pos_encoder = TorchPositionalEncoding(width, dropout)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, norm_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.decoder = nn.Linear(width, 1)

    def forward(self, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        x = self.pos_encoder(self.encoder(ids.T) * self.scale)
        y = self.transformer_encoder(x, src_key_padding_mask=torch.arange(ids.shape[1]) >= torch.as_tensor(lengths)[:, None])
        means = torch.stack([y[:length, n].mean(dim=0) for n, length in enumerate(lengths.tolist())])
        return self.decoder(self.drop(means))[:, 0]


class TorchEnsemble(nn.Module):
    """tinylm.models.classifier.Ensemble: the mean of the members' logits."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        return torch.stack([member(ids, lengths) for member in self.members]).mean(dim=0)
