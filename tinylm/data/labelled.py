"""Texts with labels: the shipped sentences or the user's, their classes, their words, and five fixed splits."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinylm.data.batching import padded
from tinylm.data.corpora import LABELLED, find_data
from tinylm.data.tables import Column, Table, read_table
from tinylm.data.tokenizers import Tokenizer, WordTokenizer
from tinylm.data.words import WORD_PATTERNS, words_of
from tinylm.engine.random_keys import philox
from tinylm.errors import ConfigError, DataError, listed, printable

SPLITS = 5
MAX_WORDS = 500  # that are read of a text
COLUMNS = (  # as headers name them
    Column("label", ("label", "labels", "class", "category", "sentiment", "target", "polarity", "stars", "rating", "intent", "y")),
    Column("text", ("text", "sentence", "review", "comment", "message", "content", "body", "document", "tweet", "title")),
)
FEWEST = 3  # texts of a third or further label: one each to train on, to validate on and to test on


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their classes; names[c] is the label of class c."""

    texts: list[str]
    labels: np.ndarray  # (N,) int64, the classes
    names: tuple[str, ...]
    skipped: int  # lines that could not be used
    first_skipped: str  # where the first one stood, and why; "" for none
    unread: str = ""  # a sentence about lines of which only the beginning is read
    notes: tuple[str, ...] = ()  # sentences about how the file was read
    validation: "LabelledTexts | None" = None  # a validation part of its own; None: it is taken from the texts
    test: "LabelledTexts | None" = None  # a test part of its own; None: it is taken from the texts


def load_labelled(source: str | Path, encoding: str = "utf-8", names: tuple[str, ...] | None = None) -> LabelledTexts:
    """Returns the labelled sentences of a shipped corpus (by name) or a file of lines `label TAB text` or CSV; what follows
    a second tab is not read, and counted.

    Any words or numbers are labels. The classes are in the order of the numbers if all labels are integers, otherwise in that of
    their spelling. The two most common labels are classes, and each other one with at least 3 texts. Lines without a tab, a
    label or a text, or with another label, are skipped and counted. names: the classes of the texts that a model was trained on;
    then another label is an error.
    Raises DataError if more than 1 % of all lines are skipped, if no line is left, or if all have one label and no names are given.
    """
    path = find_data(source, LABELLED)
    table = read_table(path, encoding, COLUMNS, shipped=str(source) in LABELLED)
    if names is None:
        classes = classes_of(Counter(row[0] for row in table.rows if len(row) > 1 and row[0] and row[1]))
    else:
        classes = names
        _refuse_others(table, names)
    kept, problems = table.usable(lambda row: _problem(row, classes, table.separator), "label TAB text")
    place = {name: c for c, name in enumerate(classes)}
    labels = np.array([place[f[0]] for f in kept], np.int64)
    if names is None and len(set(labels.tolist())) < 2:
        raise DataError(f"{path} has one class only: every line is labelled {kept[0][0]!r:.80}")
    unread = "" if str(source) in LABELLED else table.unread(2)  # the shipped ones have where they are from
    return LabelledTexts([f[1] for f in kept], labels, classes, len(problems), problems[0] if problems else "", unread, notes=table.notes)


def load_parts(source: str | Path, validation: str | Path = "", test: str | Path = "", encoding: str = "utf-8") -> LabelledTexts:
    """Returns `load_labelled(source)` with parts of their own from the files that are given, whose labels must be among its.

    Raises DataError as `load_labelled` does.
    """
    data = load_labelled(source, encoding)
    parts = [load_labelled(part, encoding, data.names) if str(part) else None for part in (validation, test)]
    return dataclasses.replace(data, validation=parts[0], test=parts[1])


def classes_of(counts: Counter[str]) -> tuple[str, ...]:
    """Returns the labels that are classes, in their order; of the most common ones, ties by spelling."""
    by_count = sorted(counts, key=lambda label: (-counts[label], label))
    chosen = sorted(label for i, label in enumerate(by_count) if i < 2 or counts[label] >= FEWEST)
    try:
        numbers = {label: int(label) for label in chosen}
    except ValueError:
        return tuple(chosen)
    return tuple(sorted(chosen, key=numbers.__getitem__))


def expected_labels(names: Sequence[str]) -> str:
    """Returns the labels in words, for messages: "'neg' or 'pos'"."""
    shown = [f"{name!r:.40}" for name in names]
    return " or ".join(shown) if len(shown) == 2 else f"one of {listed(shown, 160)}"


def _refuse_others(table: Table, names: tuple[str, ...]) -> None:
    """Raises DataError for the first label that is none of the names."""
    for line, row in zip(table.lines, table.rows, strict=True):
        if len(row) > 1 and row[0] and row[1] and row[0] not in names:
            where = printable(f"{table.path}, line {line}", 120)
            raise DataError(f"{where} has the label {row[0]!r:.40}, which no training text has: expected {expected_labels(names)}")


def _problem(fields: Sequence[str], names: tuple[str, ...], separator: str) -> str:
    """Returns why a line cannot be used; "" if it can."""
    if missing := separator if len(fields) < 2 else "label" if not fields[0] else "text" if not fields[1] else "":
        return f"has no {missing}"
    if fields[0] not in names:
        return f"has the label {fields[0]!r:.40}, expected {expected_labels(names)} (a further class needs {FEWEST} texts)"
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
