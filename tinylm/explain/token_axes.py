"""Tokens as the labels of an axis."""

from collections.abc import Iterable, Sequence
from typing import Any

_MOST = 80  # more labels than these could not be read


def label_tokens(axis: Any, tokens: Sequence[str]) -> None:
    """Labels `axis` with the tokens; line breaks and blanks are made visible. No labels if there are too many."""
    if len(tokens) > _MOST:
        axis.set_ticks([])
        return
    shown = [token.replace("\n", "⏎").replace(" ", "·") for token in tokens]
    upright = {"rotation": 90} if axis.axis_name == "x" else {}
    axis.set_ticks(range(len(shown)), shown, fontsize=7, parse_math=False, **upright)


def title_width(titles: Iterable[str]) -> float:
    """Returns the width in inches of the longest title in 8 points."""
    return 0.075 * max(map(len, titles))
