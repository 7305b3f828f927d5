"""What predictions from the trend of some runs have missed by, on runs that were held out; and the intervals that follow from it.

A fit knows how its own runs scatter. It does not know whether the trend goes on beyond them. That is learned from other families of runs:
each was fitted on its smaller runs, and predicted larger ones, which were then made. How far the predictions of a new family may be off is
a split conformal interval whose unit of exchange is a family, not a run (Vovk, Gammerman & Shafer 2005, chapter 4; Lei et al. 2018,
arXiv:1604.04173, section 2.2; for a spread that varies, section 5.2): of n families that calibrate, k is the smallest factor
with which the intervals of ⌈(n + 1) SHARE⌉ of them hold all of their held-out runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.optimize import nnls

from tinylm.errors import DataError

SHARE = 11 / 12  # of the families whose held-out runs are all to be in their intervals
FEWEST = 11  # families that calibrate: with fewer, no factor is large enough for SHARE
_LEAST = 5e-3  # of ln L, about the scatter between seeds of such small models: no spread is smaller
_LOPSIDED = 2.0  # the two sides of an interval differ by at most this factor
_SLACK = 0.01  # by which a distance may be larger than any that was backtested
T = TypeVar("T")


@dataclass(frozen=True)
class Miss:
    """A held-out run beside its prediction, in logarithms.

    size, data: the distance from the fitted runs, ln of its parameters over the most of these, and of its tokens; 0 within.
    miss: ln of its loss over the predicted one.  own: the standard error that the fit itself gave.
    """

    size: float
    data: float
    miss: float
    own: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """How far off predictions are: ln of a loss over the predicted one is bias · distance ± k × side × √((spread · (1, distance))² + own²).

    bias: per unit of ln size and ln data. spread: the same with a constant before. sides: of the intervals below and above.
    farthest: the largest distance that was backtested in size, in data, and in the sum of both.
    """

    bias: tuple[float, float]
    spread: tuple[float, float, float]
    sides: tuple[float, float]
    k: float
    farthest: tuple[float, float, float]
    families: int

    def interval(self, loss: Any, size: Any, data: Any, own: Any) -> np.ndarray:
        """Returns (low end, loss to expect, high end) for what a trend predicts at a distance, for numbers or arrays.

        own: the standard error of the fit. It and what other families missed by are independent of each other: their squares add up.
        """
        expected = np.log(loss) + self.bias[0] * size + self.bias[1] * data
        typical = _typical(self.spread, size, data, own)
        below, above = (self.k * side * typical for side in self.sides)
        return np.exp(np.stack([expected - below, expected, expected + above]))

    def too_far(self, size: float, data: float) -> bool:
        """Returns whether no backtest went so far."""
        return any(x > most + _SLACK for x, most in zip((size, data, size + data), self.farthest, strict=True))


def calibrate(families: Sequence[Sequence[Miss]]) -> Calibration:
    """Returns the calibration from the held-out runs of some families, each of which has the same weight.

    Bias, spread and sides are fitted to all of them. The score of a family, the k with which it would just hold, is taken with those
    that are fitted without it. Raises DataError for fewer than FEWEST, or one without a held-out run.
    """
    if len(families) < FEWEST or not all(families):
        raise DataError(f"a calibration from {sum(map(bool, families))} families with held-out runs: expected at least {FEWEST}")
    scores = [_score(_shape(others), mine) for others, mine in without_each(families)]
    rank = math.ceil((len(families) + 1) * SHARE - 1e-9)
    every = [miss for family in families for miss in family]
    farthest = max(m.size for m in every), max(m.data for m in every), max(m.size + m.data for m in every)
    shape = _shape(families)
    return Calibration(shape.bias, shape.spread, shape.sides, sorted(scores)[rank - 1], farthest, len(families))


def without_each(items: Sequence[T]) -> list[tuple[list[T], T]]:
    """Returns (the others, the item) for each item."""
    return [([*items[:i], *items[i + 1 :]], item) for i, item in enumerate(items)]


class _Shape(NamedTuple):
    """A calibration without its factor k."""

    bias: tuple[float, float]
    spread: tuple[float, float, float]
    sides: tuple[float, float]


def _shape(families: Sequence[Sequence[Miss]]) -> _Shape:
    """Returns the bias (least squares), the spread (of what is left and not explained by the fits' own errors, nonnegative least squares)
    and the sides (the root mean square of what is left in units of both, below and above)."""
    weight = np.array([1 / math.sqrt(len(family)) for family in families for _ in family])
    size, data, misses, own = np.array([(m.size, m.data, m.miss, m.own) for family in families for m in family]).T
    distance = np.column_stack([size, data])
    bias = np.linalg.lstsq(distance * weight[:, None], misses * weight, rcond=None)[0]
    left = misses - distance @ bias
    columns = np.column_stack([np.ones(len(left)), distance])
    spread, _ = nnls(columns * weight[:, None], np.sqrt(np.maximum(0.0, left**2 - own**2)) * weight)
    spread[0] = max(spread[0], _LEAST)
    relative = left / _typical(spread, size, data, own)
    sides = [math.sqrt((weight**2 * part**2).sum() / (weight**2).sum()) for part in (np.minimum(relative, 0), np.maximum(relative, 0))]
    below, above = (max(side, max(*sides, 1e-9) / _LOPSIDED) for side in sides)
    return _Shape((float(bias[0]), float(bias[1])), (float(spread[0]), float(spread[1]), float(spread[2])), (below, above))


def _typical(spread: Any, size: Any, data: Any, own: Any) -> Any:
    """Returns √((spread · (1, size, data))² + own²), how far off a prediction at a distance usually is; for numbers or arrays."""
    return np.hypot(spread[0] + spread[1] * size + spread[2] * data, own)


def _score(shape: _Shape, family: Sequence[Miss]) -> float:
    """Returns the smallest k with which all of the family's held-out runs are in their intervals."""
    scores = []
    for m in family:
        left = m.miss - shape.bias[0] * m.size - shape.bias[1] * m.data
        scores.append(abs(left) / (shape.sides[left > 0] * float(_typical(shape.spread, m.size, m.data, m.own))))
    return max(scores)
