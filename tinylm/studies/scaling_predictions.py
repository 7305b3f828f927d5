"""Predictions from the trend of some runs, with intervals that held in backtests, and when there is none."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.studies.scaling_laws import Point
from tinylm.studies.scaling_misses import Calibration, Miss
from tinylm.studies.scaling_trend import Trend

WORSE = 0.01  # of its loss, by which a run with more data or a larger model may be worse than its neighbour
MOST_WORSE = 2  # runs that may be worse by more
SCATTER = 0.03  # of the loss, the most with which a law is trusted
WIDEST = 0.3  # of the loss, an interval that is still an answer


@dataclass(frozen=True)
class Prediction:
    """The loss to expect of a model with this many parameters that reads this many tokens, and its interval."""

    parameters: float
    tokens: float
    loss: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Returns how wide the interval is, as a part of the loss."""
        return (self.high - self.low) / self.loss


@dataclass(frozen=True)
class CannotTell:
    """Why there is no prediction, and which runs would tell, in one sentence."""

    parameters: float
    tokens: float
    reason: str


Answer = Prediction | CannotTell


def miss_of(trend: Trend, run: Point) -> Miss:
    """Returns what the prediction of a held-out run has missed by."""
    size, data = trend.beyond(run.parameters, run.tokens)
    predicted, own = trend(run.parameters, run.tokens), trend.error(run.parameters, run.tokens)
    return Miss(float(size), float(data), math.log(run.loss / predicted), float(own))


def doubt(trend: Trend) -> str:
    """Returns why these runs allow no prediction at all, and which runs would, in one sentence; "" if they do.

    It looks at the fitted runs alone: they scatter about their trend, or more data or a larger model gave worse losses.
    """
    worse = [(a, b) for a, b in _neighbours(trend.points) if b.loss > a.loss * (1 + WORSE)]
    if len(worse) > MOST_WORSE:
        a, b = max(worse, key=lambda pair: pair[1].loss / pair[0].loss)
        return (
            f"{len(worse)} of the runs are worse than one with less data or a smaller model (the most: {b.named()} has {b.loss:.3f}, "
            f"{a.named()} {a.loss:.3f}): the same runs at a lower learning rate, or with more steps each, would tell"
        )
    if trend.scatter() > SCATTER:
        off = max(trend.points, key=lambda p: abs(math.log(p.loss / trend(p.parameters, p.tokens))))
        return (
            f"the runs scatter by {100 * trend.scatter():.1f} % about their trend, more than {100 * SCATTER:.0f} % (farthest off: "
            f"{off.named()}): the same runs with more steps each, or at a lower learning rate, would tell"
        )
    return ""


def predict(trend: Trend, calibration: Calibration, parameters: float, tokens: float) -> Answer:
    """Returns what to expect, or why nothing can be said: the runs are in `doubt`, no backtest went so far, or the interval would be
    more than WIDEST of the loss."""
    if problem := doubt(trend) or _too_far(trend, calibration, parameters, tokens):
        return CannotTell(parameters, tokens, problem)
    low, loss, high = map(float, curves(trend, calibration, parameters, tokens))
    found = Prediction(parameters, tokens, loss, low, high)
    if found.width <= WIDEST:
        return found
    return CannotTell(parameters, tokens, f"the interval would be {low:.2f} to {high:.2f}: runs that are larger and read more would tell")


def curves(trend: Trend, calibration: Calibration, parameters: Any, tokens: Any) -> np.ndarray:
    """Returns (low end, loss to expect, high end) for numbers or arrays, wherever they lie."""
    return calibration.interval(trend(parameters, tokens), *trend.beyond(parameters, tokens), trend.error(parameters, tokens))


def _too_far(trend: Trend, calibration: Calibration, parameters: float, tokens: float) -> str:
    size, data = map(float, trend.beyond(parameters, tokens))
    if not calibration.too_far(size, data):
        return ""
    most_size, most_data, most_both = calibration.farthest
    near = min(size, most_size)
    runs = parameters / math.exp(near), tokens / math.exp(max(0.0, min(data, most_data, most_both - near)))
    return (
        f"that is {math.exp(size):.1f} times the size and {math.exp(data):.1f} times the data of the largest runs here, and no backtest "
        f"went beyond {math.exp(most_size):.1f} and {math.exp(most_data):.1f} times, or {math.exp(most_both):.0f} times in both together: "
        f"runs of {runs[0]:,.0f} parameters on {runs[1]:,.0f} tokens would tell"
    )


def _neighbours(points: tuple[Point, ...]) -> list[tuple[Point, Point]]:
    """Returns pairs of runs, of which the second one has the next more data and the same size, or the next larger size."""
    pairs = []
    for same, other in (("parameters", "tokens"), ("tokens", "parameters")):
        groups: dict[int, list[Point]] = {}
        for p in points:
            groups.setdefault(getattr(p, same), []).append(p)
        for group in groups.values():
            line = sorted(group, key=lambda p: getattr(p, other))
            pairs += list(itertools.pairwise(line))
    return pairs
