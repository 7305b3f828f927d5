"""Sentences with one of two labels: the shipped ones or the user's, their words, and five fixed splits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinylm.data.batching import padded
from tinylm.data.corpora import LABELLED, find_data
from tinylm.data.tables import Column, read_table
from tinylm.data.tokenizers import Tokenizer, WordTokenizer
from tinylm.data.words import WORD_PATTERNS, words_of
from tinylm.engine.random_keys import philox
from tinylm.errors import ConfigError, DataError

SPLITS = 5
MAX_WORDS = 500  # that are read of a text
COLUMNS = (  # as headers name them
    Column("label", ("label", "labels", "class", "category", "sentiment", "target", "polarity", "stars", "rating", "intent", "y")),
    Column("text", ("text", "sentence", "review", "comment", "message", "content", "body", "document", "tweet", "title")),
)


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their classes; names[c] is the label of class c."""

    texts: list[str]
    labels: np.ndarray  # (N,) int64, 0 or 1
    names: tuple[str, str]
    skipped: int  # lines that could not be used
    first_skipped: str  # where the first one stood, and why; "" for none
    unread: str = ""  # a sentence about lines of which only the beginning is read
    notes: tuple[str, ...] = ()  # sentences about how the file was read


def load_labelled(source: str | Path, encoding: str = "utf-8") -> LabelledTexts:
    """Returns the labelled sentences of a shipped corpus (by name) or a file of lines `label TAB text` or CSV; what follows
    a second tab is not read, and counted.

    Labels are 0 and 1, or two words, the one that sorts first being class 0. If a file has more than two, the two most
    common count. Lines without a tab, a label or a text, or with another label, are skipped and counted. Raises DataError if
    they are more than 1 % of all lines, if no line is left, or if all have one label.
    """
    path = find_data(source, LABELLED)
    table = read_table(path, encoding, COLUMNS, shipped=str(source) in LABELLED)
    names = _two_labels(Counter(row[0] for row in table.rows if len(row) > 1 and row[0] and row[1]))
    kept, problems = table.usable(lambda row: _problem(row, names, table.separator), "label TAB text")
    labels = np.array([names.index(f[0]) for f in kept], np.int64)
    if len(set(labels.tolist())) < 2:
        raise DataError(f"{path} has one class only: every line is labelled {kept[0][0]!r:.80}")
    unread = "" if str(source) in LABELLED else table.unread(2)  # the shipped ones have where they are from
    return LabelledTexts([f[1] for f in kept], labels, names, len(problems), problems[0] if problems else "", unread, table.notes)


def _two_labels(counts: Counter[str]) -> tuple[str, str]:
    """Returns (class 0, class 1): 0 and 1 if they are used, else the two most common labels, ties by spelling."""
    most_common = sorted(counts, key=lambda label: (-counts[label], label))[:2]
    if {"0", "1"} & set(most_common):
        return "0", "1"
    first, second = [*sorted(most_common), "", ""][:2]
    return first, second


def _problem(fields: Sequence[str], names: tuple[str, str], separator: str) -> str:
    """Returns why a line cannot be used; "" if it can."""
    if missing := separator if len(fields) < 2 else "label" if not fields[0] else "text" if not fields[1] else "":
        return f"has no {missing}"
    if fields[0] not in names:
        return f"has the label {fields[0]!r:.40}, expected {names[0]!r:.40} or {names[1]!r:.40}"
    return ""


def split_labelled(count: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the (training, test) positions of split 0 to 4: the first 80 % and the last 20 % of a shuffle seeded by the
    split's number, the same on every machine.

    Raises ConfigError for another number; DataError for fewer than 10 texts.
    """
    if not 0 <= split < SPLITS:
        raise ConfigError(f"split {split}: expected 0 to {SPLITS - 1}")
    if count < 10:
        raise DataError(f"{count} labelled texts: expected at least 10, to train on 80 % and test on the rest")
    order = np.random.Generator(philox((split, 0))).permutation(count)
    return order[: count * 4 // 5], order[count * 4 // 5 :]


# ---------------------------------------------------------------- words


def lowered_words(text: str, pattern: str = WORD_PATTERNS[0]) -> str:
    """Returns the text in lower case with one space before each word, number and run of punctuation, so that a word is the
    same token of WordTokenizer wherever it stands. pattern: the tokenizer's."""
    return "".join([f" {word}" for word in words_of(text.lower(), pattern)])


def train_words(texts: Sequence[str], min_count: int) -> WordTokenizer:
    """Returns a tokenizer of the words that the training texts have min_count times; rarer words are <unk>, id 0."""
    return WordTokenizer.train("".join(map(lowered_words, texts)), min_count, spelling=False)


def encode_words(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """Returns the ids of the first 500 words of a text. Raises DataError for a text without any."""
    pattern = tokenizer.pattern if isinstance(tokenizer, WordTokenizer) else WORD_PATTERNS[0]
    ids = tokenizer.encode(lowered_words(text, pattern))[:MAX_WORDS]
    if not len(ids):
        raise DataError("the text is empty")
    return ids


def pad_texts(texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (ids (N, T), lengths (N,)) of texts of different lengths, filled up with zeros at the end."""
    return padded(texts, 0)
