"""Sentences and their translations: the shipped verses or a reader's own, their split, ids and batches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinylm.data.corpora import PAIRS, read_text
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


def load_pairs(source: str | Path) -> Pairs:
    """The pairs of a shipped corpus (by name) or a UTF-8 file of lines `source TAB target`; what
    follows a second tab is not read.

    The parts are 90, 5 and 5 % in a shuffled order that is the same on every machine. The shipped
    verses have a key before the source, as in Gen.1.3, and are split by chapter, since neighbouring
    verses repeat each other. Lines without a tab or with an empty side are skipped and counted.
    Errors: DataError when they are more than 1 % of all lines, or the rest is too few for three parts.
    """
    shipped = str(source) in PAIRS
    path = PAIRS.get(str(source), Path(source))
    if not path.exists():
        raise DataError(f"no such data: {str(source)!r} is neither a file nor one of {', '.join(PAIRS)}")
    lines = read_text(path).removesuffix("\n").split("\n")
    groups: dict[str, list[Pair]] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        key, text = line.split("\t", 1) if shipped else (str(number), line)
        fields = [field.strip() for field in text.split("\t")]
        if len(fields) < 2 or not fields[0] or not fields[1]:
            problems.append(f"line {number} has {'no tab' if len(fields) < 2 else 'an empty side'}")
        else:
            groups.setdefault(key.rpartition(".")[0] if shipped else key, []).append((fields[0], fields[1]))
    if not groups:
        raise DataError(f"{path} has no line that can be used, expected 'source TAB target': {problems[0]}")
    if len(problems) > 0.01 * len(lines):
        raise DataError(f"{len(problems)} of the {len(lines)} lines of {path} cannot be used, more than 1 %: {problems[0]}")
    if len(groups) < 3:
        raise DataError(f"{path} has {len(groups)} pairs: expected at least 3, to train, validate and test")
    names = list(groups)
    order = np.random.Generator(philox((_SPLIT_SEED, 0))).permutation(len(names)).tolist()
    share = max(len(names) // 20, 1)
    parts = order[2 * share :], order[:share], order[share : 2 * share]
    train, validation, test = ([pair for i in sorted(part) for pair in groups[names[i]]] for part in parts)
    return Pairs(train, validation, test, len(problems), problems[0] if problems else "")


class Vocabulary:
    """Byte-pair pieces shared by both languages, and three ids after them: pad fills up, bos begins
    a target, eos ends a source or a target."""

    def __init__(self, tokenizer: BpeTokenizer) -> None:
        self.tokenizer = tokenizer
        self.pad, self.bos, self.eos = range(tokenizer.vocab_size, tokenizer.vocab_size + 3)
        self.size = tokenizer.vocab_size + 3

    @classmethod
    def train(cls, pairs: Sequence[Pair], pieces: int) -> "Vocabulary":
        """Learns at most `pieces` pieces from both sides of the pairs."""
        return cls(BpeTokenizer.train("\n".join(side for pair in pairs for side in pair), pieces))

    def encode(self, text: str) -> np.ndarray:
        """The ids of a sentence and eos."""
        return np.append(self.tokenizer.encode(text), self.eos)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids without the three special ones."""
        return self.tokenizer.decode(i for i in ids if i < self.pad)


@dataclass(frozen=True)
class Batch:
    """Padded pairs: source (N, S), source_lengths (N,), target_in (N, T), which begins with bos,
    and target_out (N, T), the token after each of target_in, ending with eos."""

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
        """pairs: of ids as `Vocabulary.encode` gives them. Errors: DataError for none; ConfigError
        when a target is longer than batch_tokens."""
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
        """Which pairs make batch k."""
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
        """Target tokens of the batches first to stop - 1, without padding."""
        return sum(int(self._lengths[self.rows(k)].sum()) for k in range(first, stop))


def make_batch(pairs: Sequence[tuple[np.ndarray, np.ndarray]], vocabulary: Vocabulary) -> Batch:
    """The pairs of ids side by side, filled up with `vocabulary.pad`."""
    source, lengths = padded([s for s, _ in pairs], vocabulary.pad)
    target, target_lengths = padded([np.append(vocabulary.bos, t) for _, t in pairs], vocabulary.pad)
    return Batch(source, lengths, target[:, :-1], target[:, 1:], int(target_lengths.sum()) - len(pairs))


def padded(rows: Sequence[np.ndarray], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids (N, longest), lengths (N,)) with `pad` after the end of each row."""
    lengths = np.array([len(row) for row in rows])
    ids = np.full((len(rows), lengths.max()), pad, np.int64)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = row
    return ids, lengths
