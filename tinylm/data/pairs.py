"""Sentences and their translations: the shipped verses or the user's, their split, ids and batches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinylm.data.batching import padded
from tinylm.data.corpora import PAIRS, find_data, read_table, unread_fields, usable_rows
from tinylm.data.tokenizers import BpeTokenizer
from tinylm.engine.random_keys import philox
from tinylm.errors import ConfigError, DataError

Pair = tuple[str, str]  # source, target
_SPLIT_SEED = 0  # the same for every run, so that all are tested on the same sentences


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences in three parts."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]
    skipped: int  # lines that could not be used
    first_skipped: str  # where the first one stood, and why; "" for none
    unread: str = ""  # a sentence about lines of which only the beginning is read


def load_pairs(source: str | Path, encoding: str = "utf-8") -> Pairs:
    """Returns the pairs of a shipped corpus (by name) or a file of lines `source TAB target`; what follows a second
    tab is not read, and counted.

    The parts are 90, 5 and 5 % in a shuffled order that is the same on every machine. The shipped verses have a key before
    the source, such as Gen.1.3, and are split by chapter, since neighbouring verses repeat each other. Lines without a tab
    or with an empty side are skipped and counted. Raises DataError if they are more than 1 % of all lines, or if the rest is
    too few for three parts.
    """
    path = find_data(source, PAIRS)
    keyed = str(source) in PAIRS
    rows = [row if keyed else [str(number), *row] for number, row in enumerate(read_table(path, encoding), 1)]
    kept, problems = usable_rows(
        path, rows, lambda row: "has no tab" if len(row) < 3 else "" if row[1] and row[2] else "has an empty side", "source TAB target"
    )
    groups: dict[str, list[Pair]] = {}
    for key, first, second, *_ in kept:
        groups.setdefault(key.rpartition(".")[0] if keyed else key, []).append((first, second))
    train, validation, test = split_pairs(groups, str(path))
    return Pairs(train, validation, test, len(problems), problems[0] if problems else "", unread_fields(rows, 3))


def split_pairs(groups: Mapping[str, Sequence[Pair]], source: str) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Returns the training, validation and test parts: 90, 5 and 5 % of the groups, in an order that is the same on every machine.

    Raises DataError, naming the source, for fewer than three groups.
    """
    if len(groups) < 3:
        raise DataError(f"{source} has {len(groups)} pairs: expected at least 3, to train, validate and test")
    names = list(groups)
    order = np.random.Generator(philox((_SPLIT_SEED, 0))).permutation(len(names)).tolist()
    size = max(len(names) // 20, 1)
    parts = order[2 * size :], order[:size], order[size : 2 * size]
    train, validation, test = ([pair for i in sorted(part) for pair in groups[names[i]]] for part in parts)
    return train, validation, test


class Vocabulary:
    """Byte-pair pieces shared by both languages, and three ids after them: pad fills up, bos begins a target, eos ends a
    source or a target."""

    def __init__(self, tokenizer: BpeTokenizer) -> None:
        self.tokenizer = tokenizer
        self.pad, self.bos, self.eos = range(tokenizer.vocab_size, tokenizer.vocab_size + 3)
        self.size = tokenizer.vocab_size + 3

    @classmethod
    def train(cls, pairs: Sequence[Pair], pieces: int) -> "Vocabulary":
        """Learns at most `pieces` pieces from both sides of the pairs."""
        return cls(BpeTokenizer.train("\n".join(side for pair in pairs for side in pair), pieces))

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a sentence, then eos."""
        return np.append(self.tokenizer.encode(text), self.eos)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids without the three special ones."""
        return self.tokenizer.decode(i for i in ids if i < self.pad)


@dataclass(frozen=True)
class Batch:
    """Padded pairs: source (N, S), source_lengths (N,), target_in (N, T), which begins with bos, and target_out (N, T), the
    token after each of target_in, which ends with eos."""

    source: np.ndarray
    source_lengths: np.ndarray
    target_in: np.ndarray
    target_out: np.ndarray
    target_tokens: int  # of target_out, without padding


class BucketedBatches:
    """Batches of pairs with targets of similar lengths, epoch after epoch.

    Pairs are sorted by the length of their target, equal ones in random order, and cut so that a
    batch has at most batch_tokens target positions, padding included; the batches of an epoch come
    in random order. Batch k is a function of the seed and k alone.
    """

    def __init__(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]], batch_tokens: int, seed: int, vocabulary: Vocabulary) -> None:
        """pairs: of ids as `Vocabulary.encode` returns them. Raises DataError for none; ConfigError if a target is longer than
        batch_tokens."""
        if not pairs:
            raise DataError("there are no pairs to make batches of")
        self.pairs, self.seed, self.vocabulary = pairs, seed, vocabulary
        self._lengths = np.array([len(target) for _, target in pairs])
        if self._lengths.max() > batch_tokens:
            raise ConfigError(f"batch_tokens is {batch_tokens}: expected at least {self._lengths.max()}, the longest target")
        self._cuts = [0]  # the sorted lengths are those of every epoch, and so are the cuts
        for i, length in enumerate(np.sort(self._lengths).tolist()):
            if (i + 1 - self._cuts[-1]) * length > batch_tokens:
                self._cuts.append(i)
        self._cuts.append(len(pairs))
        self.batches_per_epoch = len(self._cuts) - 1
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None

    def rows(self, k: int) -> np.ndarray:
        """Returns which pairs make batch k."""
        epoch, column = divmod(k, self.batches_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            draw = np.random.Generator(philox((self.seed, epoch)))
            shuffled = draw.permutation(len(self.pairs))
            ordered = shuffled[np.argsort(self._lengths[shuffled], kind="stable")]
            self._epoch = epoch, ordered, draw.permutation(self.batches_per_epoch)
        _, ordered, batches = self._epoch
        b = batches[column]
        return ordered[self._cuts[b] : self._cuts[b + 1]]

    def __getitem__(self, k: int) -> Batch:
        return make_batch([self.pairs[i] for i in self.rows(k)], self.vocabulary)

    def target_tokens(self, first: int, stop: int) -> int:
        """Returns how many target tokens the batches first to stop - 1 have, without padding."""
        return sum(int(self._lengths[self.rows(k)].sum()) for k in range(first, stop))


def make_batch(pairs: Sequence[tuple[np.ndarray, np.ndarray]], vocabulary: Vocabulary) -> Batch:
    """Returns the pairs of ids as one batch, filled up with `vocabulary.pad`."""
    source, lengths = padded([s for s, _ in pairs], vocabulary.pad)
    target, target_lengths = padded([np.append(vocabulary.bos, t) for _, t in pairs], vocabulary.pad)
    return Batch(source, lengths, target[:, :-1], target[:, 1:], int(target_lengths.sum()) - len(pairs))
