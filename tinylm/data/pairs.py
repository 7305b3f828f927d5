"""Sentences and their translations: the shipped verses or the user's, their split, ids and batches."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.checks import as_number
from tinylm.data.batching import padded
from tinylm.data.copying import SLOTS, KnownText, Slot
from tinylm.data.corpora import PAIRS, Source, find_data, listed_sources, shown_sources
from tinylm.data.tables import Column, read_table
from tinylm.data.tokenizers import BpeTokenizer
from tinylm.data.vocabulary_checks import checked_utf8
from tinylm.engine.random_keys import philox
from tinylm.errors import ConfigError, DataError

Pair = tuple[str, str]  # source, target
_SPLIT_SEED = 0  # the same for every run, so that all are tested on the same sentences
_LANGUAGES = (  # as headers name them: codes of ISO 639-1 that are no likely name of another column, and English names
    "ar bg bn ca cs da de el en es et fa fi fr ga gl he hi hr hu is it ja ko la lt lv ms nb nl nn pl pt ro ru sk sl sq sr sv sw ta th tr "
    "uk ur vi zh arabic bengali bulgarian catalan chinese croatian czech danish dutch english estonian finnish french german greek hebrew "
    "hindi hungarian icelandic indonesian irish italian japanese korean latin latvian lithuanian norwegian persian polish portuguese "
    "romanian russian serbian slovak slovenian spanish swahili swedish tamil thai turkish ukrainian urdu vietnamese welsh"
)
COLUMNS = (
    Column("source", ("source", "src", "source_text", "source text", "input"), frozenset(_LANGUAGES.split())),
    Column("target", ("target", "tgt", "trg", "target_text", "target text", "translation", "output"), frozenset(_LANGUAGES.split())),
)


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences in three parts."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]
    skipped: int  # lines that could not be used
    first_skipped: str  # where the first one stood, and why; "" for none
    unread: str = ""  # a sentence about lines of which only the beginning is read
    notes: tuple[str, ...] = ()  # sentences about how the files were read


@dataclass(frozen=True)
class PairFile:
    """The pairs of one or several files, all of them."""

    pairs: list[Pair]
    groups: list[str]  # by pair: those of one group are never in two parts
    skipped: int
    first_skipped: str
    unread: str
    notes: tuple[str, ...]


def read_pairs(sources: Source, encoding: str = "utf-8", named: bool = False) -> PairFile:
    """Returns the pairs of a shipped corpus (by name), or of a file of lines `source TAB target` or CSV, or of several; what follows a
    second tab is not read, and counted.

    Lines without a tab or with an empty side are skipped and counted. named: what is said of a line names its file, as it does if there
    are several. Raises DataError as `Table.usable` does.
    """
    listed = listed_sources(sources)
    pairs: list[Pair] = []
    groups: list[str] = []
    problems: list[str] = []
    unread: list[str] = []
    notes: list[str] = []
    for number, source in enumerate(listed):
        path, keyed = find_data(source, PAIRS), int(str(source) in PAIRS)
        table = read_table(path, encoding, COLUMNS, shipped=bool(keyed))
        prefix = f"{path}, " if named or len(listed) > 1 else ""
        kept, found = table.usable(functools.partial(_problem, first=keyed, separator=table.separator), "source TAB target")
        pairs += [(row[keyed], row[keyed + 1]) for row in kept]
        groups += [f"{number}:{row[0].rpartition('.')[0] if keyed else i}" for i, row in enumerate(kept)]
        problems += [prefix + problem for problem in found]
        unread += [prefix + said for said in [table.unread(keyed + 2)] if said]
        notes += table.notes
    return PairFile(pairs, groups, len(problems), problems[0] if problems else "", "; ".join(unread), tuple(notes))


def _problem(row: Sequence[str], first: int, separator: str) -> str:
    """Returns why a row is no pair; "" if it is one. first: where its source stands."""
    return f"has no {separator}" if len(row) < first + 2 else "" if row[first] and row[first + 1] else "has an empty side"


def load_pairs(sources: Source, encoding: str = "utf-8", valid: str | Path = "", test: str | Path = "") -> Pairs:
    """Returns the pairs of `read_pairs` in three parts: 90, 5 and 5 % in a shuffled order that is the same on every machine.

    valid, test: files whose pairs, all of them, validate or are the test; the rest is then all for training and for the other part.
    The shipped verses have a key before the source, such as Gen.1.3, and are split by chapter, since neighbouring verses repeat each
    other. Raises DataError as `read_pairs` does, and for too few pairs for the parts.
    """
    whole = read_pairs(sources, encoding)
    own = {what: read_pairs(source, encoding, named=True) for what, source in (("valid", valid), ("test", test)) if str(source)}
    groups: dict[str, list[Pair]] = {}
    for group, pair in zip(whole.groups, whole.pairs, strict=True):
        groups.setdefault(group, []).append(pair)
    drawn = [what for what in ("valid", "test") if what not in own]
    parts = split_pairs(groups, shown_sources(sources), drawn) | {what: file.pairs for what, file in own.items()}
    files = [whole, *own.values()]
    notes = [note for file in files for note in file.notes]
    known = set(parts["train"])
    for what, source in (("valid", valid), ("test", test)):
        if what in own and (shared := sum(pair in known for pair in parts[what])):
            notes.append(f"{shared:,} of the {len(parts[what]):,} pairs of {source} are in the training part too: its figures will flatter")
    first = next((file.first_skipped for file in files if file.skipped), "")
    unread = "; ".join(file.unread for file in files if file.unread)
    return Pairs(parts["train"], parts["valid"], parts["test"], sum(file.skipped for file in files), first, unread, tuple(notes))


def split_pairs(groups: Mapping[str, Sequence[Pair]], source: str, drawn: Sequence[str] = ("valid", "test")) -> dict[str, list[Pair]]:
    """Returns the drawn parts, 5 % of the groups each, and "train", the rest, in an order that is the same on every machine.

    Raises DataError, naming the source, for too few groups for the parts.
    """
    if len(groups) <= len(drawn):
        uses = "to train" + {0: "", 1: " and to test or validate", 2: ", validate and test"}[len(drawn)]
        raise DataError(f"{source} has {len(groups)} pairs: expected at least {1 + len(drawn)}, {uses}")
    names = list(groups)
    order = np.random.Generator(philox((_SPLIT_SEED, 0))).permutation(len(names)).tolist()
    size = max(len(names) // 20, 1)
    cuts = {what: order[i * size : (i + 1) * size] for i, what in enumerate(drawn)} | {"train": order[len(drawn) * size :]}
    return {what: [pair for i in sorted(cut) for pair in groups[names[i]]] for what, cut in cuts.items()}


class Vocabulary:
    """Byte-pair pieces shared by both languages, and ids after them: pad fills up, bos begins a target, eos ends a source or a
    target, and the placeholders of spans that are copied, if the model knows what it need not copy."""

    def __init__(
        self, tokenizer: BpeTokenizer, known: KnownText | None = None, lower: bool = False, length_ratio: float | None = None
    ) -> None:
        """lower: every text is read in lower case.  length_ratio: the median number of target tokens per source token in training."""
        self.tokenizer, self.known, self.lower, self.length_ratio = tokenizer, known, lower, length_ratio
        self.pad, self.bos, self.eos = range(tokenizer.vocab_size, tokenizer.vocab_size + 3)
        self.size = tokenizer.vocab_size + 3 + (SLOTS if known else 0)
        self.placeholders = range(self.eos + 1, self.size)

    @classmethod
    def train(cls, pairs: Sequence[Pair], pieces: int, copying: bool = False, lower: bool = False) -> "Vocabulary":
        """Learns at most `pieces` pieces from both sides of the pairs, and with copying what is known of the sources."""
        text = "\n".join(side for pair in pairs for side in pair)
        tokenizer = BpeTokenizer.train(text.lower() if lower else text, pieces)
        return cls(tokenizer, KnownText.of(pairs, lower) if copying else None, lower)

    def encode(self, text: str, slots: Sequence[Slot] = ()) -> np.ndarray:
        """Returns the ids of a sentence, then eos. slots: which spans of it are placeholders, and which ones, from left to right."""
        ids: list[np.ndarray] = []
        done = 0
        for start, stop, number in slots:
            ids += [self._pieces(text[done:start]), np.array([self.placeholders[number]])]
            done = stop
        return np.concatenate([*ids, self._pieces(text[done:]), np.array([self.eos])])

    def read(self, text: str) -> tuple[np.ndarray, list[str]]:
        """Returns (the ids of a source to translate, its spans that are copied, for each of which there is a placeholder).

        Raises DataError for a text that is not valid Unicode."""
        checked_utf8(text)
        if self.known is None:
            return self.encode(text), []
        readable = self.known.readable(text)
        spans = self.known.spans(readable)
        slots = [(start, stop, k % SLOTS) for k, (start, stop) in enumerate(spans)]
        return self.encode(readable, slots), [text[start:stop] for start, stop in spans]

    def write(self, text: str, copied: Sequence[str]) -> np.ndarray:
        """Returns the ids of a target, in which a placeholder stands for each span that `read` found in its source."""
        slots: list[Slot] = []
        for k, span in enumerate(copied):
            at = text.find(span)
            while at >= 0 and any(start < at + len(span) and at < stop for start, stop, _ in slots):
                at = text.find(span, at + 1)
            if at >= 0:
                slots.append((at, at + len(span), k % SLOTS))
        return self.encode(text, sorted(slots))

    def decode(self, ids: Iterable[int], copied: Sequence[str] = ()) -> str:
        """Returns the text of ids without the special ones. copied: the spans that placeholders stand for; the n-th placeholder
        of number k is span k + n SLOTS, and one without a span is nothing. A space keeps a span apart from a word or a sign before it."""
        text = ""
        pieces: list[int] = []
        left = {number: iter(copied[number::SLOTS]) for number in range(SLOTS)}
        for i in [*map(int, ids), None]:
            if i is None or i in self.placeholders:
                text = _joined(text, self.tokenizer.decode(pieces))
                pieces = []
            if i is not None and i in self.placeholders:
                text = _joined(text, next(left[i - self.placeholders[0]], ""))
            elif i is not None and i < self.pad:
                pieces.append(i)
        return text

    def required(self, copied: Sequence[str]) -> dict[int, int]:
        """Returns how often a target has each placeholder when its source has these spans."""
        return {i: len(copied[number::SLOTS]) for number, i in enumerate(self.placeholders)}

    def most_tokens(self, source_tokens: int) -> int | None:
        """Returns a bound for the tokens of a translation: twice as many as is usual for such a source, and 10. None for runs that
        did not note what is usual."""
        return None if self.length_ratio is None else max(source_tokens, 10 + math.ceil(2 * self.length_ratio * source_tokens))

    def to_json(self) -> dict[str, Any]:
        """Returns the record from which `from_json` makes the same, without the tokenizer."""
        return {"length_ratio": self.length_ratio, "known": None if self.known is None else self.known.to_json()}

    @classmethod
    def from_json(cls, tokenizer: BpeTokenizer, record: Any, lower: bool = False) -> "Vocabulary":
        """Returns the vocabulary that `to_json` described, for None that of the first runs. Raises DataError if the record does not
        describe one."""
        if record is None:
            return cls(tokenizer, lower=lower)
        ratio = record.get("length_ratio") if isinstance(record, dict) else None
        if not isinstance(record, dict) or record.keys() != {"length_ratio", "known"} or not 0 < as_number(ratio) < math.inf:
            raise DataError(f"not the record of a vocabulary: {record!r:.80}")
        return cls(tokenizer, None if record["known"] is None else KnownText.from_json(record["known"], lower), lower, as_number(ratio))

    def _pieces(self, text: str) -> np.ndarray:
        return self.tokenizer.encode(text.lower() if self.lower else text)


def _joined(text: str, more: str) -> str:
    """Returns both, with a space between two words, or between a closing sign and a word."""
    after_word = text[-1:].isalnum() or text.endswith((*".,;:!?)»”",))
    return f"{text} {more}" if after_word and more[:1].isalnum() else text + more


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
