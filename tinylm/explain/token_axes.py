"""Tokens as the labels of an axis: upright where there is space, joined to groups where there are many."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

POINTS = 8  # the size of labels
LINE = 0.115  # inches that one line of a label needs
_GAP = 0.04  # inches between a label and its cell
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
    """The labels of one side of a heat map.  middles: where each is along the side, in cells. turned: by 90 degrees.
    depth: inches that they take away from the side. across: whether they stand below, not at the left."""

    middles: list[float]
    texts: list[str]
    turned: list[bool]
    depth: float
    across: bool

    def put_on(self, axes: Any, size: float) -> None:
        """Writes them beside axes that are `size` inches high, or wide for labels at the left. They are texts, since the
        ticks of matplotlib are slow where there are thousands."""
        (axes.set_xticks if self.across else axes.set_yticks)([])
        away, name = -_GAP / size, "column label" if self.across else "row label"
        for middle, text, turned in zip(self.middles, self.texts, self.turned, strict=True):
            if self.across:
                at, transform, horizontal, vertical = (middle, away), axes.get_xaxis_transform(), "center", "top"
            else:
                at, transform, horizontal, vertical = (away, middle), axes.get_yaxis_transform(), "right", "center"
            axes.text(
                *at, text, transform=transform, ha=horizontal, va=vertical, rotation=90 if turned else 0, fontsize=POINTS,
                parse_math=False, gid=name,
            )  # fmt: skip


def token_labels(tokens: Sequence[str], cell: float, across: bool) -> Labels:
    """Returns labels for cells that are `cell` inches wide (across) or high.

    Each cell has its label if it is large enough. Otherwise a label joins those of several cells, and stands at
    their middle. Below an axis a label is upright where it fits its cell, and turned where it does not.
    """
    fits = [text_width(text) <= cell * 0.95 for text in tokens]
    every = 1
    if cell < LINE and not (across and all(fits)):
        every = -int(-LINE // cell)
    groups = [tokens[start : start + every] for start in range(0, len(tokens), every)]
    middles = [every * i + (len(group) - 1) / 2 for i, group in enumerate(groups)]
    texts = [text if len(text := "".join(group)) <= _LONGEST else text[: _LONGEST - 1] + "…" for group in groups]
    return _labels(middles, texts, [across and not (every == 1 and fit) for fit in fits[::every]], across)


def number_labels(numbers: Sequence[int], cell: float) -> Labels:
    """Returns labels for rows that have numbers, `cell` inches high: of every row, or of every k-th."""
    every = max(1, -int(-LINE // cell))
    rows = range(0, len(numbers), every)
    return _labels([float(row) for row in rows], [str(numbers[row]) for row in rows], [False] * len(rows), across=False)


def _labels(middles: list[float], texts: list[str], turned: list[bool], across: bool) -> Labels:
    if across:
        depth = max((text_width(text) if turn else LINE for text, turn in zip(texts, turned, strict=True)), default=0.0)
    else:
        depth = max(map(text_width, texts), default=0.0)
    return Labels(middles, texts, turned, depth + 2 * _GAP, across)
