"""A text whose tokens are coloured by one number each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import rcParams

from tinylm.explain.drawing import Panel, sheet, value_range
from tinylm.explain.figures import Picture, color_map, ink_on
from tinylm.explain.token_axes import visible

_WIDTH = 64  # characters of a line
_CELL = 0.115, 0.2  # inches
_MOST = 4000  # characters of a picture
_POINTS = 8
_LINES_OF_A_BAR = 4  # fewer lines have no space for a colour bar beside them


@dataclass
class _Lines(Panel):
    """A heat map whose cells are the characters of a text.  characters: of each line."""

    characters: list[str] = field(default_factory=list)

    def draw(self, axes: Any) -> None:
        """As Panel.draw."""
        super().draw(axes)
        (image,) = axes.images
        image.set_cmap(color_map(self.diverging).with_extremes(bad=rcParams["axes.facecolor"]))  # beyond the end of a line
        for side in axes.spines.values():
            side.set_visible(False)
        for i, line in enumerate(self.characters):
            for j, character in enumerate(line):
                ink = ink_on(image.to_rgba(self.values[i, j])[:3])
                axes.text(
                    j, i, character, ha="center", va="center_baseline", fontsize=_POINTS, color=ink, family="monospace", parse_math=False
                )


def draw_text(tokens: Sequence[str], *values: tuple[str, np.ndarray, str, bool]) -> Picture:
    """Draws a text as often as there are `values`, each time with its tokens coloured by other numbers, and returns the figure.

    values: (title, one number per token, label of the colour bar, diverging): from white to blue, or blue below 0 and orange
    above; those with the same label and colours have the same scale. NaN is not coloured. At the left of a line stands the position of
    its first token. Blanks and line breaks are made visible; a picture has at most 4,000 characters, and its title says so
    where the text has more.
    """
    panels = [_panel(tokens, *each) for each in values]
    for kind in {(panel.bar, panel.diverging) for panel in panels}:
        alike = [panel for panel in panels if (panel.bar, panel.diverging) == kind]
        norm = value_range(np.concatenate([panel.values.ravel() for panel in alike]), kind[1])
        for panel in alike:
            panel.norm = norm
    return sheet([[panel] for panel in panels])


def draw_texts(texts: Sequence[tuple[Sequence[str], tuple[str, np.ndarray, str, bool]]]) -> Picture:
    """Draws several texts one above the other, each coloured by numbers of its own: see `draw_text`."""
    return sheet([[_panel(tokens, *values)] for tokens, values in texts])


def _panel(tokens: Sequence[str], title: str, values: np.ndarray, bar: str, diverging: bool) -> Panel:
    lines = _wrapped([(character, t) for t, token in enumerate(tokens) for character in visible(token)])
    shown: list[list[tuple[str, int]]] = []
    count = 0
    for line in lines:
        count += len(line)
        if count > _MOST and shown:
            title += f" (the first {count - len(line):,} characters)"
            break
        shown.append(line)
    width = max(24, *(len(line) for line in shown))
    grid = np.full((len(shown), width), np.nan)
    for i, line in enumerate(shown):
        grid[i, : len(line)] = values[[t for _, t in line]]
    if len(shown) < _LINES_OF_A_BAR:
        title, bar = f"{title}: {bar} from {np.nanmin(grid):.2f} to {np.nanmax(grid):.2f}", ""
    return _Lines(
        title, grid, [line[0][1] for line in shown], [""] * width, _CELL, diverging, bar=bar,
        characters=["".join(character for character, _ in line) for line in shown],
    )  # fmt: skip


def _wrapped(cells: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """Returns (character, token) cells as lines: broken after a line break, or where the next word does not fit."""
    lines, line = [], []
    for cell in cells:
        line.append(cell)
        if cell[0] == "⏎":
            lines.append(line)
            line = []
        elif len(line) == _WIDTH:
            cut = next((i + 1 for i in reversed(range(_WIDTH // 2, _WIDTH)) if line[i][0] == "·"), _WIDTH)
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line] if line else lines
