"""How much data, what size and how many hours a loss takes, each as an interval: the trend of some runs read the other way round."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from tinylm.errors import DataError
from tinylm.studies.scaling_misses import Calibration
from tinylm.studies.scaling_predictions import curves, doubt
from tinylm.studies.scaling_trend import Trend

_SIZES, _AMOUNTS = 40, 160  # points of the grids that are searched


@dataclass(frozen=True)
class Span:
    """From what the better end of the intervals needs, over what is to be expected, to what the worse end needs; infinite where that is
    more than any backtest reached."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Way:
    """One way to a loss."""

    name: str
    parameters: Span
    tokens: Span
    hours: Span


@dataclass(frozen=True)
class Target:
    """The ways to a loss. reason: why there is none, or why one is missing, and what would tell; "" if all are there."""

    loss: float
    ways: tuple[Way, ...]
    reason: str = ""


@dataclass(frozen=True)
class Speed:
    """Seconds per token of a model: start + slope × parameters. error: the root mean square of what runs differed by, as a part of it."""

    start: float
    slope: float
    error: float

    def hours(self, parameters: Any, tokens: Any) -> Any:
        """Returns how long a run takes, for numbers or arrays."""
        return tokens * (self.start + self.slope * parameters) / 3600


def fit_speed(runs: Sequence[tuple[int, int, float]]) -> Speed:
    """Returns the speed of runs, each (parameters, tokens, seconds of training). Raises DataError for one that took no time."""
    if bad := [run for run in runs if not min(run) > 0]:
        raise DataError(f"the speed of a run of {bad[0]} (parameters, tokens, seconds): expected numbers above 0")
    size, tokens, seconds = np.array(runs, np.float64).T
    each = seconds / tokens
    (start, slope), _ = nnls(np.column_stack([1 / each, size / each]), np.ones(len(each)))
    found = start + slope * size
    return Speed(float(start), float(slope), float(np.sqrt(np.mean((each / found - 1) ** 2))))


def ways_to(loss: float, trend: Trend, calibration: Calibration, speed: Speed, parameters: float, tokens: float) -> Target:
    """Returns the ways to a loss: of the configured size with more data, of the configured data with another size, and of both in the
    least time. They are searched from the smallest of the runs as far as backtests went; for the least time from the largest size, since
    none gave more data to smaller models.

    Each end of the intervals, and what is to be expected, is a curve L(N, D); a span has the smallest D, N or time at which each of the
    three comes down to the loss.
    """
    if problem := doubt(trend):
        return Target(loss, (), problem)
    worst = max(trend.points, key=lambda p: p.loss)
    if loss >= worst.loss:
        return Target(loss, (), f"the worst of the runs here, {worst.named()}, ended at {worst.loss:.3f} already")
    far_size, far_data, _ = calibration.farthest
    most_parameters, most_tokens = trend.most
    n = np.geomspace(min(p.parameters for p in trend.points), most_parameters * math.exp(far_size), _SIZES)
    d = np.geomspace(min(p.tokens for p in trend.points), most_tokens * math.exp(far_data), _AMOUNTS)

    def reached(n: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Returns whether each of the three curves is at most the loss, within what was backtested: (3, ...)."""
        size, data = trend.beyond(n, d)
        return (curves(trend, calibration, n, d) <= loss) & ~np.vectorize(calibration.too_far)(size, data)

    def span(ok: np.ndarray, values: np.ndarray) -> Span:
        return Span(*(float(values[row.argmax()]) if row.any() else math.inf for row in ok))

    ways, missing = [], []
    same_size, same_data = Span(*[parameters] * 3), Span(*[tokens] * 3)
    amount, size = span(reached(np.array(parameters), d), d), span(reached(n, np.array(tokens)), n)
    large = n[n >= most_parameters][:, None]
    grid, hours = reached(large, d), speed.hours(large, d)
    best = [np.unravel_index(np.where(ok, hours, math.inf).argmin(), ok.shape) if ok.any() else None for ok in grid]
    both = [Span(*(math.inf if at is None else float(values[at]) for at in best)) for values in np.broadcast_arrays(large, d)]
    for name, wanted, amounts_of in (("this size, more data", same_size, amount), ("this data, another size", size, same_data),
                                     ("least time", both[0], both[1])):  # fmt: skip
        if math.isinf(max(wanted.low, amounts_of.low)):
            missing.append(name)
        else:
            ways.append(Way(name, wanted, amounts_of, _hours(speed, wanted, amounts_of)))
    return Target(loss, tuple(ways), _reason(missing, trend, calibration) if missing else "")


def _hours(speed: Speed, sizes: Span, amounts: Span) -> Span:
    low, middle, high = (speed.hours(getattr(sizes, end), getattr(amounts, end)) for end in ("low", "middle", "high"))
    return Span(low * (1 - speed.error), middle, high * (1 + speed.error))


def _reason(missing: list[str], trend: Trend, calibration: Calibration) -> str:
    size, data, _ = (math.exp(x) for x in calibration.farthest)
    return (
        f"{' and '.join(missing)}: not reached within what was backtested, {size:.1f} times the size and {data:.1f} times the data of the "
        f"largest runs here, {trend.most[0]:,} parameters on {trend.most[1]:,} tokens: larger runs would tell"
    )
