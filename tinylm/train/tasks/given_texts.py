"""Texts, labels and pairs that are given in Python: checked, and as the data of a run."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinylm.checks import shown
from tinylm.data.labelled import FEWEST, LabelledTexts, classes_of
from tinylm.data.pairs import Pair, Pairs, split_pairs
from tinylm.errors import DataError


def checked_texts(texts: Iterable[str]) -> list[str]:
    """Returns the texts as a list. Raises DataError for a single text, and for a member that is no text or has no word."""
    given = _listed("texts", texts)
    for i, text in enumerate(given):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"texts[{i}] is {shown(text)}: expected a text with at least one word")
    return given


def checked_labelled(texts: Iterable[str], labels: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Returns (texts, their labels as text). Raises DataError as `checked_texts` does, for a label that is neither text nor a whole
    number, if there are not as many labels as texts, and for none."""
    given, named = checked_texts(texts), [_label(i, label) for i, label in enumerate(_listed("labels", labels))]
    if len(given) != len(named) or not given:
        raise DataError(f"there are {len(given)} texts and {len(named)} labels: expected a label for each text, and at least one")
    return given, named


def labelled_data(texts: Iterable[str], labels: Iterable[Any]) -> LabelledTexts:
    """Returns the data of a classifier's run: its classes are those of `classes_of`.

    Raises DataError as `checked_labelled` does, for a label of too few texts, and if there are not at least two different labels."""
    given, named = checked_labelled(texts, labels)
    counts = Counter(named)
    names = classes_of(counts)
    if rare := next((label for label in counts if label not in names), None):
        raise DataError(f"the label {rare!r:.60} has {counts[rare]} texts: expected at least {FEWEST} for a third or further label")
    if len(names) < 2:
        raise DataError(f"the texts have one label only, {names[0]!r:.60}: expected at least 2")
    return LabelledTexts(given, np.array([names.index(label) for label in named], np.int64), names, 0, "")


def checked_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Returns the pairs as a list. Raises DataError for a member that is not two texts with at least one word each."""
    given = _listed("pairs", pairs)
    for i, pair in enumerate(given):
        sides = [] if isinstance(pair, str | bytes) or not isinstance(pair, Iterable) else list(pair)
        if len(sides) != 2 or not all(isinstance(side, str) and side.strip() for side in sides):
            raise DataError(f"pairs[{i}] is {shown(pair)}: expected two texts, a source and its translation")
    return [(source, target) for source, target in given]


def pairs_data(pairs: Iterable[Pair]) -> Pairs:
    """Returns the data of a translator's run. Raises DataError as `checked_pairs` does, and for fewer than three pairs."""
    groups = {str(number): [pair] for number, pair in enumerate(checked_pairs(pairs))}
    parts = split_pairs(groups, "the list")
    return Pairs(parts["train"], parts["valid"], parts["test"], 0, "")


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise DataError(f"the {name} are {shown(given)}: expected a list; for a single one a list of one")
    return list(given)


def _label(number: int, label: Any) -> str:
    value = label.item() if isinstance(label, np.generic) else label
    if not isinstance(value, str | int) or (isinstance(value, str) and not value.strip()):
        raise DataError(f"labels[{number}] is {shown(label)}: expected text or a whole number")
    return str(value)
