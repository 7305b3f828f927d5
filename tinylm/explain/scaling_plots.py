"""The picture of a trend: runs as points, the trend as lines, and the interval of the configured run."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FormatStrFormatter, LogLocator, NullFormatter

from tinylm.studies.scaling_laws import Point
from tinylm.studies.scaling_predictions import Answer, Prediction
from tinylm.studies.scaling_trend import Trend


def scaling_figure(trend: Trend, configured: Answer) -> Figure:
    """Draws loss against parameters, one line per amount of data, and loss against data, one line per size. The lines
    go on to the configured run, whose loss to expect is drawn with its interval if there is one."""
    figure = Figure(figsize=(9.2, 4.6), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    n, d = configured.parameters, configured.tokens
    _panel(left, trend, (n, d), lambda p: p.parameters, lambda p: p.tokens, trend, "tokens", configured)
    _panel(right, trend, (d, n), lambda p: p.tokens, lambda p: p.parameters, lambda x, other: trend(other, x), "parameters", configured)
    left.set(xlabel="parameters", ylabel="validation loss, nats per token")
    right.set(xlabel="tokens")
    return figure


def _panel(
    axes: Any, trend: Trend, target: tuple[float, float], along: Callable[[Point], int], across: Callable[[Point], int],
    loss: Callable[[np.ndarray, float], np.ndarray], unit: str, answer: Answer,
) -> None:  # fmt: skip
    """Draws one of the two. target: (its value on this axis, its value on the other)."""
    low, high = min(map(along, trend.points)), max(*map(along, trend.points), target[0])
    x = np.geomspace(low, high, 60)
    groups = [*sorted({across(p) for p in trend.points}), target[1]]
    for i, other in enumerate(groups):
        predicted = i == len(groups) - 1
        color = "black" if predicted else f"C{i}"
        mine = [p for p in trend.points if across(p) == other and not predicted]
        name = f"{'configured: ' if predicted else ''}{other:,.0f} {unit}"
        axes.plot(x, loss(x, other), "--" if predicted else "-", color=color, linewidth=1, label=name)
        axes.plot([along(p) for p in mine], [p.loss for p in mine], "o", color=color, markersize=4)
    if isinstance(answer, Prediction):
        ends = [[answer.loss - answer.low], [answer.high - answer.loss]]
        axes.errorbar([target[0]], [answer.loss], ends, fmt="x", color="black", capsize=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which(FormatStrFormatter("%.3g"))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
