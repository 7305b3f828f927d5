"""What predictions from the trend of some runs have missed by, on runs that were held out; and the intervals that follow from it.

A fit knows how its own runs scatter. It does not know whether the trend goes on beyond them. That is learned from other families of runs:
each was fitted on its smaller runs, and predicted larger ones, which were then made. How far the predictions of a new family may be off is
a split conformal interval whose unit of exchange is a family, not a run (Vovk, Gammerman & Shafer 2005, chapter 4; Lei et al. 2018,
arXiv:1604.04173, section 2.2; for a spread that varies, section 5.2): of n families that calibrate, k is the smallest factor
with which the intervals of ⌈(n + 1) SHARE⌉ of them hold all of their held-out runs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy.optimize import nnls

from tinylm.errors import DataError

SHARE = 11 / 12  # of the families whose held-out runs are all to be in their intervals
FEWEST = 11  # families that calibrate: with fewer, no factor is large enough for SHARE
_LEAST = 1e-3  # of ln L: no spread is smaller
_LOPSIDED = 2.0  # the two sides of an interval differ by at most this factor
T = TypeVar("T")


@dataclass(frozen=True)
class Miss:
    """A held-out run beside its prediction, in logarithms.

    size, data: the distance from the fitted runs, ln of its parameters over the most of these, and of its tokens; 0 within.
    miss: ln of its loss over the predicted one. below, above: what the bootstrap of the fit allowed on either side.
    """

    size: float
    data: float
    miss: float
    below: float = 0.0
    above: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """How far off predictions are at a distance, for loss = predicted × exp(bias · distance ± k × side × spread · (1, distance)).

    bias: per unit of ln size and ln data. spread: the same with a constant before. sides: of the intervals below and above, in units of the
    spread. farthest: the largest distance that was backtested in size, in data, and in the sum of both.
    """

    bias: tuple[float, float]
    spread: tuple[float, float, float]
    sides: tuple[float, float]
    k: float
    farthest: tuple[float, float, float]
    families: int

    def interval(self, loss: Any, size: Any, data: Any, below: Any, above: Any) -> np.ndarray:
        """Returns (low end, loss to expect, high end) for what a trend predicts at a distance, for numbers or arrays.

        The misses of other families and what the bootstrap of this fit allows, below and above, are independent of each other: their
        squares add up.
        """
        expected = np.log(loss) + self.bias[0] * size + self.bias[1] * data
        typical = self.spread[0] + self.spread[1] * size + self.spread[2] * data
        low, high = (np.hypot(self.k * side * typical, own) for side, own in zip(self.sides, (below, above), strict=True))
        return np.exp(np.stack([expected - low, expected, expected + high]))

    def too_far(self, size: float, data: float) -> bool:
        """Returns whether no backtest went so far."""
        return any(x > most * (1 + 1e-9) for x, most in zip((size, data, size + data), self.farthest, strict=True))


def calibrate(families: Sequence[Sequence[Miss]]) -> Calibration:
    """Returns the calibration from the held-out runs of some families, each of which has the same weight.

    Bias, spread and sides are fitted to all of them. The score of a family, the k with which it would just hold, is taken with those
    that are fitted without it. Raises DataError for fewer than FEWEST, or one without a held-out run.
    """
    if len(families) < FEWEST or not all(families):
        raise DataError(f"a calibration from {sum(map(bool, families))} families with held-out runs: expected at least {FEWEST}")
    scores = [_score(*_shape(others), mine) for others, mine in without_each(families)]
    rank = math.ceil((len(families) + 1) * SHARE - 1e-9)
    bias, spread, sides = _shape(families)
    every = [miss for family in families for miss in family]
    farthest = tuple(max(value(miss) for miss in every) for value in _DISTANCES)
    return Calibration(bias, spread, sides, sorted(scores)[rank - 1], (farthest[0], farthest[1], farthest[2]), len(families))


_DISTANCES: tuple[Callable[[Miss], float], ...] = (lambda m: m.size, lambda m: m.data, lambda m: m.size + m.data)
Shape = tuple[tuple[float, float], tuple[float, float, float], tuple[float, float]]


def without_each(items: Sequence[T]) -> list[tuple[list[T], T]]:
    """Returns (the others, the item) for each item."""
    return [([*items[:i], *items[i + 1 :]], item) for i, item in enumerate(items)]


def _shape(families: Sequence[Sequence[Miss]]) -> Shape:
    """Returns the bias (least squares), the spread (of the absolute rest, nonnegative least squares) and the sides (the root mean
    square of the rest over the spread, below and above)."""
    every = [(miss, 1 / math.sqrt(len(family))) for family in families for miss in family]
    weight = np.array([w for _, w in every])
    distance = np.array([(m.size, m.data) for m, _ in every])
    misses = np.array([m.miss for m, _ in every])
    bias = np.linalg.lstsq(distance * weight[:, None], misses * weight, rcond=None)[0]
    rest = misses - distance @ bias
    columns = np.column_stack([np.ones(len(rest)), distance])
    spread, _ = nnls(columns * weight[:, None], np.abs(rest) * weight)
    spread[0] = max(spread[0], _LEAST)
    z = rest / (columns @ spread)
    below, above = (math.sqrt((weight**2 * np.square(part)).sum() / (weight**2).sum()) for part in (np.minimum(z, 0), np.maximum(z, 0)))
    most = max(below, above, 1e-9)
    sides = max(below, most / _LOPSIDED), max(above, most / _LOPSIDED)
    return (float(bias[0]), float(bias[1])), (float(spread[0]), float(spread[1]), float(spread[2])), sides


def _score(bias: tuple[float, float], spread: tuple[float, float, float], sides: tuple[float, float], family: Sequence[Miss]) -> float:
    """Returns the smallest k with which all of the family's held-out runs are in their intervals."""
    needed = [0.0]
    for m in family:
        rest = m.miss - bias[0] * m.size - bias[1] * m.data
        side, own = (sides[0], m.below) if rest < 0 else (sides[1], m.above)
        typical = spread[0] + spread[1] * m.size + spread[2] * m.data
        needed.append(math.sqrt(max(0.0, rest**2 - own**2)) / (side * typical))
    return max(needed)
