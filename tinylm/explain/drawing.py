"""Heat maps and bars, all in one look: upright labels, a colour bar that says the scale, values where there is space."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm

from tinylm.errors import ShapeError
from tinylm.explain.figures import Picture, accent, cold_and_hot, color_map, ink_on
from tinylm.explain.token_axes import LINE, POINTS, Labels, number_labels, text_width, token_labels, visible_ends

_BAR = 0.12  # inches: how wide a colour bar is
_SMALL = 6.5  # points: the values in the cells
_WITH_VALUES = 14  # columns with space for values
_TITLE = 32  # characters of a title's line, at least
_WIDEST = 12.5  # inches of cells side by side


@dataclass
class Panel:
    """One heat map of a picture.

    values (rows, columns); NaN is grey. cell: the width and the height of a cell in inches. norm: how values become
    colours; by default evenly, from 0 or the lowest value, and for `diverging` ones evenly to both sides of 0.
    rows, columns: the labels; sequences of int are numbers of which every k-th is shown. bar: the label of the colour bar; without
    it there is none. write: write the values into the cells, except those that are exactly 0.
    """

    title: str
    values: np.ndarray
    rows: Sequence[str] | Sequence[int]
    columns: Sequence[str]
    cell: tuple[float, float]
    diverging: bool = False
    norm: Normalize | None = None
    bar: str = ""
    write: bool = False
    row_label: str = ""
    column_label: str = ""
    left: Labels = field(init=False)
    below: Labels = field(init=False)

    def __post_init__(self) -> None:
        numbered = len(self.rows) > 0 and isinstance(self.rows[0], int)
        self.left = number_labels(self.rows, self.cell[1]) if numbered else token_labels(self.rows, self.cell[1], across=False)  # type: ignore[arg-type]
        self.below = token_labels(self.columns, self.cell[0], across=True)
        if self.norm is None:
            self.norm = value_range(self.values, self.diverging)

    @property
    def inside(self) -> tuple[float, float]:
        """The width and the height of the cells together, in inches."""
        return self.values.shape[1] * self.cell[0], self.values.shape[0] * self.cell[1]

    @property
    def margins(self) -> tuple[float, float, float, float]:
        """What lies left, right, above and below the cells, in inches."""
        row_label, column_label, bar = self._side_labels
        left = self.left.depth + (LINE * len(row_label) + 0.04 if row_label else 0)
        right = 0.1
        if self.bar:
            right += _BAR + 0.12 + text_width("−0.00") + LINE * len(bar) + 0.08
        lines = textwrap.wrap(self.title, self._title_columns) or [""]
        return left, right, 0.08 + 0.15 * len(lines), self.below.depth + (LINE * len(column_label) + 0.06 if column_label else 0.02)

    @property
    def _side_labels(self) -> tuple[list[str], list[str], list[str]]:
        """The labels of the rows, the columns and the colour bar, in lines that are not much longer than their side."""
        sides = ((self.row_label, self.inside[1]), (self.column_label, self.inside[0]), (self.bar, self.inside[1]))
        row_label, column_label, bar = (textwrap.wrap(label, max(9, int((side + 0.15) / 0.06))) for label, side in sides)
        return row_label, column_label, bar

    @property
    def norm_ends(self) -> tuple[float, float]:
        assert self.norm is not None
        return float(self.norm.vmin or 0), float(self.norm.vmax or 0)

    @property
    def _title_columns(self) -> int:
        return max(_TITLE, int(self.inside[0] / 0.075))

    def draw(self, axes: Any) -> None:
        """Draws it into axes that are as large as `inside` says."""
        colors = color_map(self.diverging)
        axes.imshow(self.values, cmap=colors, norm=self.norm, aspect="auto", interpolation="none")
        axes.set_title("\n".join(textwrap.wrap(self.title, self._title_columns)), fontsize=9, loc="left", pad=4, parse_math=False)
        self.below.put_on(axes, self.inside[1])
        self.left.put_on(axes, self.inside[0])
        row_label, column_label = ("\n".join(lines) for lines in self._side_labels[:2])
        axes.set_xlabel(column_label, fontsize=POINTS, labelpad=72 * self.below.depth, parse_math=False)
        axes.set_ylabel(row_label, fontsize=POINTS, labelpad=72 * self.left.depth, parse_math=False)
        if self.write:
            shades, write = colors(self.norm(self.values)), value_format(self.values)  # type: ignore[misc]
            for (i, j), value in np.ndenumerate(self.values):
                if value != 0 and np.isfinite(value):
                    axes.text(j, i, write(value), ha="center", va="center", fontsize=_SMALL, color=ink_on(shades[i, j, :3]), gid="value")

    def draw_bar(self, axes: Any) -> None:
        """Draws the colour bar into axes of its own."""
        bar = axes.figure.colorbar(ScalarMappable(self.norm, color_map(self.diverging)), cax=axes)
        if isinstance(self.norm, PowerNorm):
            bar.set_ticks([tick for tick in (0, 0.05, 0.2, 0.5, 1) if tick <= self.norm_ends[1]])
        bar.ax.tick_params(labelsize=POINTS)
        bar.set_label("\n".join(self._side_labels[2]), fontsize=POINTS, parse_math=False)


def sheet(grid: Sequence[Sequence[Panel]], heading: str = "") -> Picture:
    """Draws panels in rows, each with the space that its labels need. heading: a sentence above them."""
    wide = [max(sum(_across(panel)) for panel in (row[j] for row in grid if j < len(row))) for j in range(max(map(len, grid)))]
    high = [max(sum(_down(panel)) for panel in row) for row in grid]
    lines = textwrap.wrap(heading, max(40, int(sum(wide) / 0.072)))
    width, height = sum(wide) + 0.1, sum(high) + 0.16 * len(lines) + 0.1
    figure = Picture(figsize=(width, height))
    figure.text(0.05 / width, 1 - 0.05 / height, "\n".join(lines), fontsize=9, va="top", parse_math=False)
    top = height - 0.16 * len(lines) - 0.05
    for row, down in zip(grid, high, strict=True):
        above = max(panel.margins[2] for panel in row)
        left = 0.05
        for panel, across in zip(row, wide, strict=False):
            inner_width, inner_height = panel.inside
            x, y = left + panel.margins[0], top - above - inner_height
            panel.draw(figure.add_axes((x / width, y / height, inner_width / width, inner_height / height)))
            if panel.bar:
                panel.draw_bar(figure.add_axes(((x + inner_width + 0.1) / width, y / height, _BAR / width, inner_height / height)))
            left += across
        top -= down
    return figure


def side_by_side(panels: list[Panel]) -> list[list[Panel]]:
    """Returns panels in rows that are at most 12.5 inches wide, all about equally long."""
    most = max(1, int(_WIDEST / max(sum(_across(panel)) for panel in panels)))
    rows = -(-len(panels) // most)
    across = -(-len(panels) // rows)
    return [panels[start : start + across] for start in range(0, len(panels), across)]


def _across(panel: Panel) -> tuple[float, float, float]:
    return panel.margins[0], max(panel.inside[0], _longest_line(panel)), panel.margins[1]


def _longest_line(panel: Panel) -> float:
    return 1.05 * max((text_width(line, 9) for line in textwrap.wrap(panel.title, _TITLE)), default=0.0) - panel.margins[1]


def _down(panel: Panel) -> tuple[float, float, float]:
    return panel.margins[2], panel.inside[1], panel.margins[3]


def value_range(values: np.ndarray, diverging: bool) -> Normalize:
    """Returns the scale that shows all finite values: to both sides of 0 alike, or from 0 (from the lowest, if one is negative)."""
    finite = values[np.isfinite(values)]
    if diverging:
        most = float(np.abs(finite).max(initial=0)) or 1.0
        return Normalize(-most, most)
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    return Normalize(low, high if high > low else low + 1)


def cell_size(rows: int, columns: int, write: bool) -> tuple[float, float]:
    """Returns the width and height of a cell in inches: large enough for a value, or for a character, or, if there are very
    many, as large as 12.5 inches allow."""
    across = 0.34 if write else min(0.16, _WIDEST / max(1, columns))
    return across, min(0.22 if write else 0.16, _WIDEST / max(1, rows))


def heat_map(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *,
    title: str, bar_label: str, diverging: bool = False, write_values: bool | None = None,
) -> Picture:  # fmt: skip
    """Draws one number per row and column, and returns the figure, which shows itself in a notebook.

    values (len(rows), len(columns)); NaN is grey. bar_label: what the colours mean, with the unit, beside the colour
    bar. diverging: blue below 0, orange above, white at 0; otherwise from white to blue. write_values: write each
    value into its cell, except exact zeros; by default if there are at most 14 columns and 40 rows. Labels are upright where
    they fit; blanks at their ends and line breaks are made visible, and where cells are very small a label joins several.
    Raises ShapeError if there is not one value per row and column.
    """
    values = _fitting(values, rows, columns)
    write = values.shape[1] <= _WITH_VALUES and values.shape[0] <= 40 if write_values is None else write_values
    cell = cell_size(len(rows), len(columns), write)
    rows, columns = ([visible_ends(label) for label in labels] for labels in (rows, columns))
    return sheet([[Panel(title, values, rows, columns, cell, diverging, bar=bar_label, write=write)]])


def bars(values: Sequence[float], labels: Sequence[str], *, title: str, axis_label: str) -> Picture:
    """Draws one horizontal bar per value, the first on top, and returns the figure, which shows itself in a notebook.

    Each bar has its label at the left and its value at its end: blue below 0 and orange above, or all blue. axis_label: what
    the values are, with the unit. Raises ShapeError if there is not one value per label.
    """
    lengths = _fitting(values, labels)
    cell = min(0.2, max(0.02, 2 * _WIDEST / max(1, len(lengths))))
    left = token_labels([visible_ends(label) for label in labels], cell, across=False)
    below, above_zero = cold_and_hot() if (lengths < 0).any() else (accent(), accent())
    lines = textwrap.wrap(title, 70)
    width, above = left.depth + 4.6, 0.1 + 0.15 * len(lines)
    height = above + cell * len(lengths) + 0.5
    figure = Picture(figsize=(width, height))
    axes = figure.add_axes((left.depth / width, 0.48 / height, 4.4 / width, cell * len(lengths) / height))
    axes.barh(range(len(lengths)), lengths, height=0.75, color=[below if value < 0 else above_zero for value in lengths])
    axes.set_ylim(len(lengths) - 0.5, -0.5)
    left.put_on(axes, 4.4)
    axes.axvline(0, color=rcParams["axes.edgecolor"], linewidth=0.8)
    axes.margins(x=0.15)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=POINTS)
    axes.set_xlabel(axis_label, fontsize=POINTS, parse_math=False)
    axes.set_title("\n".join(lines), fontsize=9, loc="left", pad=4, parse_math=False)
    if cell >= LINE:
        write = value_format(lengths)
        for i, value in enumerate(lengths):
            shift, side = (-3, "right") if value < 0 else (3, "left")
            text = axes.annotate(write(value), (value, i), (shift, 0), textcoords="offset points", ha=side, va="center", gid="value")
            text.set_fontsize(_SMALL)
    return figure


def _fitting(values: Any, *labels: Sequence[str]) -> np.ndarray:
    array, expected = np.asarray(values, np.float64), tuple(map(len, labels))
    if array.shape != expected:
        raise ShapeError(f"values of shape {array.shape}: expected {expected}, one per label")
    return array


def value_format(values: np.ndarray) -> Callable[[float], str]:
    """Returns how to write values in at most five characters and a sign: all with the same number of decimals, two if the
    largest is from 0.1 to 10, none if all are whole numbers of which one is above 1."""
    finite = values[np.isfinite(values)]
    most = float(np.abs(finite).max(initial=0))
    if not 0.01 <= most < 1e5:
        return lambda value: "0" if not value else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
    decimals = 0 if most > 1 and (finite == np.round(finite)).all() else 3 if most < 0.1 else 2 if most < 10 else 1 if most < 100 else 0
    return lambda value: "0" if not value else f"{value:.{decimals}f}".replace("-", "−")
