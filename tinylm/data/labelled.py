"""Sentences with one of two labels: the shipped ones or a reader's own, their words, and five fixed splits."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinylm.data.corpora import LABELLED, read_text
from tinylm.data.tokenizers import Tokenizer, WordTokenizer
from tinylm.engine.random_keys import philox
from tinylm.errors import ConfigError, DataError

SPLITS = 5
MAX_WORDS = 500  # what is read of a text


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their classes; names[c] is the label of class c."""

    texts: list[str]
    labels: np.ndarray  # (N,) int64, 0 or 1
    names: tuple[str, str]
    skipped: int  # lines that could not be used
    first_skipped: str  # where the first one stood, and why; "" for none


def load_labelled(source: str | Path) -> LabelledTexts:
    """The labelled sentences of a shipped corpus (by name) or a UTF-8 file of lines `label TAB text`;
    what follows a second tab is not read.

    Labels are 0 and 1, or two words, the one that sorts first being class 0. Where a file has more
    than two, the two commonest count. Lines without a tab, a label or a text, or with another
    label, are skipped and counted. Errors: DataError when they are more than 1 % of all lines, when
    no line is left, or when all have one label.
    """
    path = LABELLED.get(str(source), Path(source))
    if not path.exists():
        raise DataError(f"no such data: {str(source)!r} is neither a file nor one of {', '.join(LABELLED)}")
    lines = read_text(path).removesuffix("\n").split("\n")
    fields = [[field.strip() for field in line.split("\t")] for line in lines]
    names = _two_labels(Counter(f[0] for f in fields if len(f) > 1 and f[0] and f[1]))
    problems, kept = [], []
    for number, f in enumerate(fields, 1):
        problem = _problem(f, names)
        if problem:
            problems.append(f"line {number} {problem}")
        else:
            kept.append(f)
    if not kept:
        raise DataError(f"{path} has no line that can be used, expected 'label TAB text': {problems[0]}")
    if len(problems) > 0.01 * len(lines):
        raise DataError(f"{len(problems)} of the {len(lines)} lines of {path} cannot be used, more than 1 %: {problems[0]}")
    labels = np.array([names.index(f[0]) for f in kept], np.int64)
    if len(set(labels.tolist())) < 2:
        raise DataError(f"{path} has one class only: every line is labelled {kept[0][0]!r}")
    return LabelledTexts([f[1] for f in kept], labels, names, len(problems), problems[0] if problems else "")


def _two_labels(counts: Counter[str]) -> tuple[str, str]:
    """(class 0, class 1): 0 and 1 where they are used, else the two commonest, ties by spelling."""
    commonest = sorted(counts, key=lambda label: (-counts[label], label))[:2]
    if len(commonest) == 2 and not {"0", "1"} & set(commonest):
        return min(commonest), max(commonest)
    return ("0", "1") if {"0", "1"} & set(commonest) else (commonest[0], "") if commonest else ("", "")


def _problem(fields: Sequence[str], names: tuple[str, str]) -> str:
    """Why a line cannot be used; "" when it can."""
    if len(fields) < 2:
        return "has no tab"
    if not fields[0]:
        return "has no label"
    if not fields[1]:
        return "has no text"
    if fields[0] not in names:
        return f"has the label {fields[0]!r}, expected {names[0]!r} or {names[1]!r}"
    return ""


def split_labelled(count: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """(training, test) positions of split 0 to 4: the first 80 % and the last 20 % of the shuffle that
    the split's number seeds, the same on every machine.

    Errors: ConfigError for another number; DataError for fewer than 10 texts.
    """
    if not 0 <= split < SPLITS:
        raise ConfigError(f"split {split}: expected 0 to {SPLITS - 1}")
    if count < 10:
        raise DataError(f"{count} labelled texts: expected at least 10, to train on 80 % and test on the rest")
    order = np.random.Generator(philox((split, 0))).permutation(count)
    return order[: count * 4 // 5], order[count * 4 // 5 :]


# ---------------------------------------------------------------- words

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]+")


def lowered_words(text: str) -> str:
    """The text in lower case, one space before each word, number and run of punctuation, so that a
    word is one token of WordTokenizer wherever it stood."""
    return "".join([f" {word}" for word in _WORD.findall(text.lower())])


def train_words(texts: Sequence[str], min_count: int) -> WordTokenizer:
    """The vocabulary of the training texts; rarer words are <unk>, id 0."""
    return WordTokenizer.train("".join(map(lowered_words, texts)), min_count)


def encode_words(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The ids of the first 500 words of a text. Errors: DataError for a text without any."""
    ids = tokenizer.encode(lowered_words(text))[:MAX_WORDS]
    if not len(ids):
        raise DataError("the text is empty")
    return ids


def pad_texts(texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(ids (N, T), lengths (N,)) of texts of different lengths, filled up with zeros at the end."""
    lengths = np.array([len(ids) for ids in texts])
    padded = np.zeros((len(texts), lengths.max()), np.int64)
    for row, ids in zip(padded, texts, strict=True):
        row[: len(ids)] = ids
    return padded, lengths
