"""Measures a derivative at many steps, and says how far the result can be trusted.

Along a line, f is evaluated at x ± h for h = 1/4, 1/16, ... of x itself, and at larger steps if these do not decide.
Each step gives a central difference D(h) = (f(x + h) - f(x - h)) / 2h. Richardson's extrapolation removes its errors of
order h² and h⁴ (Richardson 1911; Ridders 1982), and every extrapolated value gets an uncertainty, the sum of

- truncation: twice its distance from the values that start one step wider or narrower;
- rounding, δ / h: δ is 2ε|f|, and ε|x f'| for the rounding of x ± h, and what the differences scatter at the smallest steps;
- a kink: the gap between the two one-sided differences, unless it shrinks with the step.

The value with the smallest uncertainty is taken, unless one at a smaller step contradicts it: the derivative is the limit
of small steps. A function that stands still at small steps is constant there, or moves in stairs, as (x + 10⁸) - 10⁸
does: both sides move at a larger step, the function stands still again beside that point, and the stair is as low as
rounding makes it, at most 8ε times the largest intermediate value. Then δ is the height of the stair.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Rows = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # values at a point -> (their changes, their sizes)

EPSILON = float(np.finfo(np.float64).eps)
NEAR = tuple(4.0**-n for n in range(1, 14))  # steps, as parts of the direction
WIDE = tuple(4.0**n for n in range(20, -1, -1))
TINY = tuple(4.0**-n for n in range(14, 24))
_SMALLEST = 4 * float(np.finfo(np.float64).smallest_subnormal)


@dataclass(frozen=True)
class Estimate:
    """A derivative along a line, one per output: the value, its uncertainty (inf if there is none), the value at larger
    steps if it contradicts that of small ones (else NaN) and its uncertainty, whether the outputs have a kink there, and
    whether they stand still at all near steps."""

    value: np.ndarray
    uncertainty: np.ndarray
    farther: np.ndarray
    farther_uncertainty: np.ndarray
    kinked: np.ndarray
    still: np.ndarray


class Ladder:
    """The differences along one line, kept for when further steps are added. largest: of the intermediate values, by row."""

    def __init__(self, at: Callable[[float], np.ndarray], rows: Rows, largest: np.ndarray) -> None:
        self.at, self.rows, self.largest = at, rows, largest
        self.known: dict[float, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}  # step -> changes on both sides, size

    def climb(self, steps: tuple[float, ...]) -> Estimate:
        """Returns the derivative by these steps, the largest first, each a quarter of the one before."""
        with np.errstate(all="ignore"):
            for h in steps:
                if h not in self.known:
                    (plus, size), (minus, other) = (self.rows(self.at(s)) for s in (h, -h))
                    self.known[h] = plus, minus, np.maximum(size, other)
            plus, minus, size = (np.array([self.known[h][i] for h in steps]) for i in range(3))
            return self._estimate(np.array(steps), plus, minus, size)

    def hides(self, taped: np.ndarray, value: np.ndarray, rounding: np.ndarray) -> np.ndarray:
        """Returns for which outputs rounding of inner values may hide the tape's derivative.

        There the near differences settle on the value all at once (those of a smooth function come 16 times nearer with
        each step), and until then nothing contradicts the tape by more than their truncation and rounding / h.
        """
        with np.errstate(all="ignore"):
            steps = np.array(sorted((h for h in self.known if h < 1), reverse=True))[:, None]
            slope = np.array([(self.known[h][0] - self.known[h][1]) / (2 * h) for h in steps[:, 0].tolist()])
            away = np.abs(slope - value)
            apart = np.isfinite(away[:-2]) & (away[:-2] > 1e-3 * np.abs(value))
            nearer = np.where(apart, np.fmax(away[1:-1], away[2:]) / away[:-2], 1)
            settled = 1 + np.argmin(nearer, axis=0)
            once = slope[1:] + np.diff(slope, axis=0) / 15
            twice = once[1:] + np.diff(once, axis=0) / 255
            allowed = 2 * np.abs(np.diff(twice, axis=0)) + rounding / steps[2:-1]
            before = np.arange(2, len(steps) - 1)[:, None] < settled
            contradicted = before & (np.abs(twice[:-1] - taped) > allowed)
            hidden = np.abs(taped - value) * steps[settled, 0] <= rounding
            return (nearer.min(axis=0) <= 1e-3) & hidden & ~contradicted.any(axis=0)

    def _estimate(self, steps: np.ndarray, plus: np.ndarray, minus: np.ndarray, size: np.ndarray) -> Estimate:
        h = steps[:, None]
        slope = plus / (2 * h) - minus / (2 * h)
        gap = np.abs(plus / h + minus / h)
        moves = (plus != 0) | (minus != 0)
        near = steps < 1
        still = ~moves[near].any(axis=0)
        widest = np.max(np.where(np.isfinite(size) & (h <= 4), size, 0), axis=0)
        hidden = np.where(still, np.fmax(widest, self.largest), np.where(moves[-1], 0, self.largest))
        size = np.where(moves, size, np.fmax(size, hidden))  # what was rounded away cannot be seen in a value that does not move
        scatter = np.abs(np.diff(slope[-5:], axis=0)) * h[-4:]
        noise = np.sort(np.where(np.isfinite(scatter), scatter, 0), axis=0)[1]  # the others may be curvature
        noise = np.fmax(noise, self._stairs(steps, plus, minus, moves))
        rounding = (noise + EPSILON * (2 * size + np.abs(slope)) + _SMALLEST) / h + _SMALLEST  # the quotient may underflow
        kink = np.zeros_like(gap)
        kink[1:] = np.where((gap[1:] > 0.5 * gap[:-1]) & (gap[1:] > 4 * rounding[1:]), gap[1:], 0)
        value, uncertainty, farther, its_own, bends = _best(slope, rounding, kink)
        kinked = (bends > 100 * rounding.min(axis=0)) & (bends > 0.5 * uncertainty)
        change = np.fmax(np.abs(plus), np.abs(minus))[near]
        jump = (
            (change[-1] > 0.5 * change[-4])
            & (change[-1] > 1e6 * EPSILON * np.fmax(size[-1], self.largest))
            & ~(uncertainty < np.abs(value))
        )
        edge = ~np.isfinite(slope).any(axis=0)
        return Estimate(value, uncertainty, farther, its_own, kinked | jump | edge, still)

    def _stairs(self, steps: np.ndarray, plus: np.ndarray, minus: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Returns the height of a stair of each output that stands still at the smallest steps, where it moves in stairs; else 0."""
        height = np.zeros(plus.shape[1])
        resting = ~moves[-1] & moves.any(axis=0)
        first = len(steps) - 1 - np.argmax(moves[::-1], axis=0)  # the smallest step that moves it
        for k in np.unique(first[resting]).tolist():
            wider = max(k - 1, 0)
            both = (plus[wider] != 0) & (minus[wider] != 0) & np.isfinite(plus[wider]) & np.isfinite(minus[wider])
            rise = np.fmax(np.abs(plus[k]), np.abs(minus[k]))
            here = resting & (first == k) & both & (rise <= 8 * EPSILON * self.largest)
            if not here.any():
                continue
            beside = [self.rows(self.at(s * steps[k] * (1 + 2.0**-20)))[0] for s in (1, -1)]
            flat = (beside[0] == plus[k]) & (beside[1] == minus[k])
            height = np.where(here & flat, rise, height)
        return height


def _best(slope: np.ndarray, rounding: np.ndarray, kink: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns the value of the smallest uncertainty that none at a smaller step contradicts, and the uncertainty; the
    best value at a larger step that contradicts it (else NaN), and its uncertainty; and the kink's part of the first."""
    values, doubts, levels, bends = [], [], [], []
    table, bent = slope, kink
    for order in range(3):
        if order:
            table = table[1:] + np.diff(table, axis=0) / (16.0**order - 1)
            bent = np.fmax(bent[1:], bent[:-1])
        moved = np.abs(np.diff(table, axis=0))
        truncation = moved.copy()
        truncation[:-1] = np.fmax(moved[:-1], moved[1:] / 4)
        values.append(table[1:])
        doubts.append(2 * truncation + rounding[order + 1 :] + bent[1:])
        bends.append(bent[1:])
        levels.append(np.arange(order + 1, len(slope)))
    value, doubt, bend, level = (np.concatenate(x) for x in (values, doubts, bends, levels))
    column = np.arange(value.shape[1])
    doubt = np.where(np.isfinite(value) & np.isfinite(doubt), doubt, np.inf)
    allowed = np.isfinite(doubt)
    for _ in range(len(slope)):
        chosen = np.argmin(np.where(allowed, doubt, np.inf), axis=0)
        best, unsure = value[chosen, column], np.where(allowed.any(axis=0), doubt[chosen, column], np.inf)
        against = np.isfinite(unsure) & (np.abs(value - best) > 3 * (doubt + unsure))
        refuted = (against & (level[:, None] > level[chosen])).any(axis=0)
        if not refuted.any():
            break
        allowed &= ~(refuted & (level[:, None] <= level[chosen]))
    against &= (level[:, None] < level[chosen]) & (doubt < 0.1 * np.fmin(np.abs(value - best), np.abs(value)))
    other = np.argmin(np.where(against, doubt, np.inf), axis=0)
    farther = np.where(against.any(axis=0), value[other, column], np.nan)
    return best, unsure, farther, doubt[other, column], bend[chosen, column]


def may_move_in_stairs(at: Callable[[float], np.ndarray], rows: Rows, largest: np.ndarray) -> bool:
    """True if a function that stands still at small steps moves on both sides at a larger one, by little more than
    rounding, and stands still again there."""
    with np.errstate(all="ignore"):
        for h in (4.0**n for n in (-8, -6, -4, -2, 0, 2, 4, 7, 10, 14, 19)):
            plus, minus = (rows(at(s))[0] for s in (h, -h))
            both = (plus != 0) & (minus != 0) & (np.fmax(np.abs(plus), np.abs(minus)) < 1e6 * EPSILON * largest)
            if both.any():
                flat = [rows(at(s * (1 + 2.0**-20)))[0] == side for s, side in ((h, plus), (-h, minus))]
                return bool((both & flat[0] & flat[1]).any())
            if ((plus != 0) & (minus != 0)).all():
                return False
    return False
