"""What the subcommands have in common: curves of several models in one figure, and checks of numbers."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tinylm.errors import ConfigError

_STYLES = ("-", "--", "-.", ":")


class Curve(NamedTuple):
    """What is drawn for one model."""

    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | tuple[Sequence[float], Sequence[float]]  # of y, drawn as bars: below and above, if they differ


def new_figure(x: str, y: str, curves: dict[str, Curve]) -> tuple[Figure, Axes]:
    """Returns a figure with one line per model, its name beside the line's colour and pattern: two equal curves are both visible."""
    figure = Figure(figsize=(7, 4.5) if len(curves) < 6 else (8.5, 5), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    colors = matplotlib.colormaps["tab10" if len(curves) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    for (name, curve), color, style in zip(curves.items(), itertools.cycle(colors), itertools.cycle(_STYLES)):
        axes.errorbar(curve.x, curve.y, curve.error, color=color, linestyle=style, marker="o", markersize=4, capsize=2, label=name)
    axes.grid(alpha=0.3)
    return figure, axes


def check(name: str, least: int, *values: int) -> None:
    """Raises ConfigError if one of the values is below the least."""
    if min(values) < least:
        raise ConfigError(f"{name} is {min(values)}: expected at least {least}")
