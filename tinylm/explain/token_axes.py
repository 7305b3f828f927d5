"""Tokens as the labels of an axis: upright where there is space, joined to groups where there are many."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

POINTS = 8  # the size of labels
LINE = 0.125  # inches that one line of a label needs
_LONGEST = 24  # characters of a label


def visible(token: str) -> str:
    """Returns a token with its blanks and line breaks as characters that can be seen."""
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·")


def visible_ends(label: str) -> str:
    """Returns a label whose line breaks, and the blanks at its ends, can be seen."""
    bare = label.strip(" ")
    before, after = label[: len(label) - len(label.lstrip(" "))], label[len(label.rstrip(" ")) :] if bare else ""
    return visible(before) + bare.replace("\n", "⏎").replace("\t", "⇥") + visible(after)


@cache
def text_width(text: str, points: float = POINTS) -> float:
    """Returns the width of a text in inches."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=points), False)[0]) / 72


@dataclass(frozen=True)
class Labels:
    """The labels of one axis.  positions: of the cell that each label belongs to.  turned: by 90 degrees.
    depth: inches that they take away from the axis."""

    positions: list[int]
    texts: list[str]
    turned: list[bool]
    depth: float

    def put_on(self, axis: Any) -> None:
        """Makes them the labels of a matplotlib axis."""
        each = len(self.positions) < 2 or self.positions[1] == 1
        axis.set_ticks(self.positions, self.texts, fontsize=POINTS, parse_math=False)
        axis.set_tick_params(length=0 if each else 3, pad=2)
        for label, turned in zip(axis.get_ticklabels(), self.turned, strict=True):
            label.set_rotation(90 if turned else 0)


def token_labels(tokens: Sequence[str], cell: float, across: bool) -> Labels:
    """Returns labels for cells that are `cell` inches wide (across) or high.

    Each cell has its label if it is large enough. Otherwise a label joins the tokens of several cells, and stands at
    the first of them. Below an axis a label is upright where it fits its cell, and turned where it does not.
    """
    fits = [text_width(text) <= cell * 0.95 for text in tokens]
    every = 1
    if cell < LINE and not (across and all(fits)):
        every = -int(-LINE // cell)
    starts = list(range(0, len(tokens), every))
    texts = ["".join(tokens[start : start + every]) for start in starts]
    turned = [across and not (every == 1 and fits[start]) for start in starts]
    return _labels(starts, [text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…" for text in texts], turned, across)


def number_labels(numbers: Sequence[int], cell: float) -> Labels:
    """Returns labels for rows that have numbers, `cell` inches high: of every row, or of every k-th."""
    every = max(1, -int(-LINE // cell))
    starts = list(range(0, len(numbers), every))
    return _labels(starts, [str(numbers[start]) for start in starts], [False] * len(starts), across=False)


def _labels(starts: list[int], texts: list[str], turned: list[bool], across: bool) -> Labels:
    if across:
        depth = max((text_width(text) if turn else LINE for text, turn in zip(texts, turned, strict=True)), default=0.0)
    else:
        depth = max(map(text_width, texts), default=0.0)
    return Labels(starts, texts, turned, depth + 0.06)
