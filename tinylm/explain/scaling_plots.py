"""The picture of a scaling law: runs as points, the fitted law as curves, and the interval of the configured run."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from tinylm.studies.scaling_laws import Law, Point, ScalingFit
from tinylm.studies.scaling_predictions import CannotTell, Prediction

Answer = Prediction | CannotTell


def scaling_figure(fit: ScalingFit, configured: Answer) -> Figure:
    """Draws loss against parameters, one curve per amount of data, and loss against data, one curve per size. The curves
    go on to the configured run, whose loss to expect is drawn with its interval if there is one."""
    figure = Figure(figsize=(9.2, 4.6), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    at = configured.parameters, configured.tokens
    _panel(left, fit, at, lambda p: p.parameters, lambda p: p.tokens, lambda law, x, other: law(x, other), "tokens", configured)
    _panel(right, fit, at[::-1], lambda p: p.tokens, lambda p: p.parameters, lambda law, x, other: law(other, x), "parameters", configured)
    left.set(xlabel="parameters", ylabel="validation loss, nats per token")
    right.set(xlabel="tokens")
    return figure


def _panel(
    axes: Any, fit: ScalingFit, target: tuple[float, float], along: Callable[[Point], int], across: Callable[[Point], int],
    loss: Callable[[Law, np.ndarray, float], np.ndarray], unit: str, answer: Answer,
) -> None:  # fmt: skip
    """Draws one of the two. target: (its value on this axis, its value on the other)."""
    low, high = min(map(along, fit.points)), max(*map(along, fit.points), target[0])
    x = np.geomspace(low, high, 60)
    groups = [*sorted({across(p) for p in fit.points}), target[1]]
    for i, other in enumerate(groups):
        predicted = i == len(groups) - 1
        color = "black" if predicted else f"C{i}"
        mine = [p for p in fit.points if across(p) == other and not predicted]
        name = f"{'configured: ' if predicted else ''}{other:,.0f} {unit}"
        axes.plot(x, loss(fit.law, x, other), "--" if predicted else "-", color=color, linewidth=1, label=name)
        axes.plot([along(p) for p in mine], [p.loss for p in mine], "o", color=color, markersize=4)
    if isinstance(answer, Prediction):
        ends = [[answer.loss - answer.low], [answer.high - answer.loss]]
        axes.errorbar([target[0]], [answer.loss], ends, fmt="x", color="black", capsize=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
