"""Classifiers of short texts.

Four models with one interface, forward(ids, lengths) -> logits: ids (N, T) integers, one text per row,
padded at the end with any valid id; lengths (N,) from 1 to T, how many ids are real. Of two classes there is
one logit per text, (N,), and p(class 1 | text) = σ(logit); of K > 2 classes there are K, (N, K), and
p(class c | text) = softmax(logits)_c. The padding changes nothing.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinylm import nn, ops
from tinylm.checks import check_integer, check_sizes
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import to_device
from tinylm.engine.ids import check_ids
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.nn.recurrent import Lengths

UNKNOWN = 0  # the id of <unk>
PAIRS = 0.25  # how much of what naive Bayes says of a pair is taken at first
_PRIME = 116049371  # fastText's multiplier; the product with an id below 2³¹ fits 64 bits


def outputs_of(classes: int) -> int:
    """Returns how many logits there are per text: 1 for two classes, K for K > 2. Raises ConfigError for fewer than two."""
    check_integer("classes", classes, 2)
    return 1 if classes == 2 else classes


class TextClassifier(nn.Module):
    """The interface of the models. classes: how many they tell apart."""

    classes: int = 2
    decoder: nn.Linear

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        """ids (N, T), lengths (N,) -> logits (N,) or (N, classes). Raises ShapeError; RangeError for ids outside the vocabulary."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def divide_logits(self, temperature: float) -> None:
        """Divides all logits by a temperature (Guo et al. 2017, arXiv:1706.04599, eq. 9), in the weights of the last layer."""
        for parameter in self.last_layer():
            parameter.data[...] = parameter.data / temperature
            parameter.bump_version()

    def last_layer(self) -> list[Tensor]:
        """Returns the parameters in which the logits are linear."""
        return list(self.decoder.parameters())


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


class _WordsAndPairs(TextClassifier):
    """A classifier with a table that has a row for each word and for word pairs, as in fastText (Joulin et al. 2016, arXiv:1607.01759,
    section 2): words have the rows 0 to vocab_size - 1, the pair (a, b) has the row vocab_size + (116049371 a + b) mod buckets,
    which several may have."""

    def __init__(self, vocab_size: int, buckets: int, classes: int) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size, buckets=buckets)
        self.vocab_size, self.buckets, self.classes = vocab_size, buckets, classes

    def rows(self, ids: Array) -> Array:
        """Returns the table's rows of words and pairs: raw ids (N, T) -> (N, 2T - 1)."""
        check_ids(ids, self.vocab_size, "word id")
        ids = ids.astype("int64")
        pairs = self.vocab_size + (ids[:, :-1] * _PRIME + ids[:, 1:]) % self.buckets
        return array_module(ids).concatenate([ids, pairs], axis=1)

    def row_counts(self, rows: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Returns how often the rows occur in the texts of each class: (classes, vocab_size + buckets). rows: of each text."""
        counts = np.zeros((self.classes, self.vocab_size + self.buckets))
        for c in range(self.classes):
            of_class = [each for each, label in zip(rows, labels, strict=True) if label == c]
            counts[c] = np.bincount(np.concatenate([np.empty(0, np.int64), *of_class]), minlength=counts.shape[1])
        return counts


class LinearClassifier(_WordsAndPairs):
    """z = b + Σ_i s_i V_i over the different words and word pairs i of a text: s_i V_i is what i says.

    s_i, a buffer, is how much naive Bayes tells by i, 1 before `weigh`; the table V has a column per logit, and starts at zero, or
    after `weigh` so that the model is naive Bayes. From there V is trained: what tells little can then learn little (Wang & Manning
    2012, "Baselines and bigrams"). <unk>, the word 0, and the pairs with it say nothing, nor do rows that no training text has, so
    that of a text of unknown words b alone is left. word_dropout: the probability that a word or pair does not count in training.
    """

    def __init__(self, vocab_size: int, buckets: int, word_dropout: float = 0.0, classes: int = 2) -> None:
        super().__init__(vocab_size, buckets, classes)
        self.bias = nn.Parameter(np.zeros(outputs_of(classes), np.float32))
        self.word_drop = nn.Dropout(word_dropout)
        self.register_buffer("scale", Tensor(np.ones(vocab_size + buckets, np.float32)))
        self.scale: Tensor
        self.encoder = nn.Embedding(vocab_size + buckets, outputs_of(classes))
        nn.init.fill(self.encoder.weight, 0.0)

    def weigh(self, texts: Sequence[np.ndarray], labels: np.ndarray, prior: np.ndarray) -> None:
        """Makes it naive Bayes of the words and pairs that a text has: p(i | c) = (n_ci + 1) / Σ_j (n_cj + 1), n_ci: the texts of class c
        with i, j: all words, or all pairs, that occur. Then s_i V_i = log p(i | 1) - log p(i | 0) for two classes, log p(i | c) minus its
        mean over the classes for more; for a pair times PAIRS, since it repeats what its words say. s_i: the standard deviation of
        log p(i | c) over the classes. prior (classes,): the probabilities that b stands for.

        McCallum & Nigam 1998, "A comparison of event models for naive Bayes text classification", eq. 6.
        """
        counts = self.row_counts([np.unique(self.rows(ids[None])[0]) for ids in texts], labels)
        found = counts.sum(axis=0) > 0
        found[UNKNOWN] = False
        logs, table = np.zeros_like(counts), np.zeros((counts.shape[1], outputs_of(self.classes)))
        for part, share in ((slice(self.vocab_size), 1.0), (slice(self.vocab_size, None), PAIRS)):
            logs[:, part] = np.log(counts[:, part] + 1) - np.log((counts[:, part] + 1) @ found[part])[:, None]
            table[part] = share * as_logits(logs[:, part].T)
        scale = np.where(found, logs.std(axis=0), 0.0)
        table = np.divide(table, scale[:, None], out=np.zeros_like(table), where=scale[:, None] > 0)
        self.load_state_dict({"scale": scale, "encoder.weight": table, "bias": as_logits(np.log(prior)[None])[0]})

    def present(self, ids: Array, real: Array) -> Array:
        """Returns which rows of texts count, (N, 2T - 1): each at its first place, if its words are real and known."""
        rows, known = self.rows(ids), real & (ids != UNKNOWN)
        xp = array_module(rows)
        order = xp.argsort(rows, axis=1, kind="stable")
        ordered = xp.take_along_axis(rows, order, axis=1)
        first = xp.concatenate([xp.ones_like(real[:, :1]), ordered[:, 1:] != ordered[:, :-1]], axis=1)
        first = xp.take_along_axis(first, xp.argsort(order, axis=1), axis=1)
        return first & xp.concatenate([known, known[:, 1:] & known[:, :-1]], axis=1)

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        rows, present = Tensor(self.rows(ids.data)), self.present(ids.data, _Batch.of(ids, lengths).real.data)
        weights = ops.expand_dims(self.scale[rows] * Tensor(present).astype(self.scale.dtype), 2)  # (N, 2T - 1, 1)
        return per_text((self.encoder(rows) * self.word_drop(weights)).sum(axis=1) + self.bias)

    def last_layer(self) -> list[Tensor]:
        return [self.encoder.weight, self.bias]


class BagClassifier(_WordsAndPairs):
    """logit = w · m + b, m = n^-1/2 Σ_i r_i E_i over the words and word bigrams of a text, n in all.

    E is a table of embeddings. r_i, a buffer, says how much a row tells of the class: 1, or after `weigh` the log-count ratio of
    Wang & Manning 2012, "Baselines and bigrams", eq. 1.
    word_dropout: the probability that a word or bigram does not count in training; dropout: of
    elements of m. Embeddings start as U(-1/width, 1/width), the rest as in nn.Linear.
    """

    def __init__(
        self, vocab_size: int, width: int, buckets: int, dropout: float = 0.0, word_dropout: float = 0.0, classes: int = 2
    ) -> None:
        super().__init__(vocab_size, buckets, classes)
        check_sizes(width=width)
        self.word_drop, self.drop = nn.Dropout(word_dropout), nn.Dropout(dropout)
        self.register_buffer("ratios", Tensor(np.ones(vocab_size + buckets, np.float32)))
        self.ratios: Tensor
        self.encoder = nn.Embedding(vocab_size + buckets, width)
        nn.init.fill_uniform(self.encoder.weight, 1 / width)
        self.decoder = nn.Linear(width, outputs_of(classes))

    def weigh(self, texts: Sequence[np.ndarray], labels: np.ndarray) -> None:
        """Sets r_i = log (p_i / q_i): p the relative frequencies of the rows in the training texts of class 1, q in
        those of class 0, both with 1 added to every count. For more than two classes r_i is the standard deviation of the logarithms
        of their frequencies."""
        counts = self.row_counts([self.rows(ids[None])[0] for ids in texts], labels) + 1
        frequencies = counts / counts.sum(axis=1, keepdims=True)
        ratios = np.log(frequencies[1] / frequencies[0]) if self.classes == 2 else np.log(frequencies).std(axis=0)
        self.load_state_dict({"ratios": ratios}, strict=False)

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        batch = _Batch.of(ids, lengths)
        rows = Tensor(self.rows(ids.data))
        words = batch.weights(self.encoder.weight.dtype)  # (N, T, 1)
        real = ops.concatenate([words, words[:, 1:]], axis=1)  # (N, 2T - 1, 1): a bigram is real if its second word is
        weights = self.word_drop(real * ops.expand_dims(self.ratios[rows], 2))
        m = (self.encoder(rows) * weights).sum(axis=1) / ops.sqrt(real.sum(axis=1))  # (N, width)
        return per_text(self.decoder(self.drop(m)))


class LSTMClassifier(TextClassifier):
    """logit = w · max_t h_t + b: a bidirectional LSTM, the maximum of each of its outputs over the text.

    Conneau et al. 2017, arXiv:1705.02364, section 3.2.2.  vocab_size words, embeddings of `width`,
    `hidden` units per direction, num_layers layers; dropout on the embeddings, between the layers and
    on the maximum. Embeddings start as N(0, 0.01), the rest as in nn.
    """

    def __init__(self, vocab_size: int, width: int, hidden: int, num_layers: int = 1, dropout: float = 0.0, classes: int = 2) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size, width=width)
        self.classes = classes
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, width)
        nn.init.fill_normal(self.encoder.weight, 0.1)
        self.rnn = nn.LSTM(width, hidden, num_layers, dropout=dropout, bidirectional=True)
        self.decoder = nn.Linear(2 * hidden, outputs_of(classes))

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        batch = _Batch.of(ids, lengths)
        x = self.drop(self.encoder(ids.transpose(1, 0)))  # (T, N, width)
        y, _ = self.rnn(x, lengths=batch.lengths)
        y = ops.where(batch.real.transpose(1, 0).reshape(*x.shape[:2], 1), y, -math.inf)  # (T, N, 1), (T, N, 2 hidden)
        return per_text(self.decoder(self.drop(y.max(axis=0))))


class TransformerClassifier(TextClassifier):
    """logit = w · mean_t y_t + b, with y the output of a Transformer encoder over the real positions.

    Vaswani et al. 2017, arXiv:1706.03762, section 3, with pre-norm layers and a last norm (Xiong et
    al. 2020, arXiv:2002.04745): y = encoder(√width embedding + position). hidden: width inside the
    feed-forward; dropout: after the positions, in the layers and on the mean. Embeddings start as
    N(0, 1/width). Raises ShapeError for texts longer than 5,000 words too.
    """

    def __init__(
        self, vocab_size: int, width: int, heads: int, hidden: int, num_layers: int = 1, dropout: float = 0.0, classes: int = 2
    ) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size, width=width, heads=heads, hidden=hidden, num_layers=num_layers)
        self.classes = classes
        self.scale = math.sqrt(width)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, width)
        nn.init.fill_normal(self.encoder.weight, 1 / self.scale)
        self.pos_encoder = nn.PositionalEncoding(width, dropout)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, norm_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(width))
        self.decoder = nn.Linear(width, outputs_of(classes))

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        batch = _Batch.of(ids, lengths)
        x = self.pos_encoder(self.encoder(ids.transpose(1, 0)) * self.scale)  # (T, N, width)
        y = self.transformer_encoder(x, src_key_padding_mask=Tensor(~batch.real.data)).transpose(1, 0, 2)  # (N, T, width)
        weights = batch.weights(y.dtype)
        return per_text(self.decoder(self.drop((y * weights).sum(axis=1) / weights.sum(axis=1))))


class Ensemble(TextClassifier):
    """The mean of its members' logits: models of one kind that differ in their seed.

    calibrated: it has a buffer `prior`, the logits that a text gets of which it knows no word: nothing is known of it but how
    often the classes are. Earlier runs have none, and answer by <unk>.
    """

    def __init__(self, members: Iterable[TextClassifier], calibrated: bool = False) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.classes = next(iter(self.members)).classes
        self.calibrated = calibrated
        if calibrated:
            self.register_buffer("prior", Tensor(np.zeros(outputs_of(self.classes), np.float32)))
            self.prior: Tensor

    def set_prior(self, prior: np.ndarray) -> None:
        """Takes the probabilities of the classes (classes,)."""
        self.load_state_dict({"prior": as_logits(np.log(prior)[None])[0]}, strict=False)

    def divide_logits(self, temperature: float) -> None:
        for member in self.members:
            member.divide_logits(temperature)

    def forward(self, ids: Tensor, lengths: Lengths) -> Tensor:
        logits = ops.stack([member(ids, lengths) for member in self.members]).mean(axis=0)
        if not self.calibrated:
            return logits
        unknown = ~(_Batch.of(ids, lengths).real.data & (ids.data != UNKNOWN)).any(axis=1)
        return per_text(ops.where(Tensor(unknown[:, None]), self.prior, logits.reshape(len(ids), -1))) if unknown.any() else logits


def as_logits(scores: np.ndarray) -> np.ndarray:
    """Returns the logits that scores of the classes (N, K) stand for, such as logarithms of probabilities: of two classes their
    difference (N, 1), of more each minus the mean (N, K)."""
    return scores[:, 1:] - scores[:, :1] if scores.shape[1] == 2 else scores - scores.mean(axis=1, keepdims=True)


def per_text(logits: Tensor) -> Tensor:
    """Returns logits (N, 1) of two classes as (N,), those of more as they are."""
    return logits.reshape(len(logits)) if logits.shape[1] == 1 else logits
