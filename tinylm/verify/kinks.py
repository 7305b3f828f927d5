"""Finds points where a function has no derivative, from its values alone.

On a smooth line, halving the step halves the gap between the two one-sided differences,
and the central difference changes four times less with each halving. At a kink, near one, and at a
jump they do not; at the edge of a domain a value is not finite.
"""

import numpy as np

from tinylm.verify.jacobians import STEP, Line, Problem

_MOST = 64  # kinks per argument, after which the search ends


def has_kink(at: Line) -> bool:
    """True if an output of s -> f(x + s u) has no derivative within one step of s = 0."""
    centre = at(0.0)
    sides, finite = [], np.isfinite(centre)
    for h in (STEP, STEP / 2, STEP / 4):
        low, high = at(-h), at(h)
        if not np.all(np.isfinite(low[finite]) & np.isfinite(high[finite])):
            return True
        sides.append(((centre - low)[finite] / h, (high - centre)[finite] / h))
    if not finite.any():
        return False
    noise = 1e3 * np.finfo(np.float64).eps * np.max(np.abs(centre[finite])) / STEP
    slope = max(float(np.max(np.abs(side))) for pair in sides for side in pair)
    least = max(noise, 1e-6 * slope)
    gaps = [np.abs(right - left) for left, right in sides]
    if np.any((gaps[1] > least) & (gaps[1] > 0.75 * gaps[0])):
        return True
    central = [(right + left) / 2 for left, right in sides]
    moved, then = central[0] - central[1], central[1] - central[2]
    much = np.abs(moved) > least
    ratio = then[much] / moved[much]
    return bool(np.any((ratio < 1 / 8) | (ratio > 1 / 2)))


def kinks_of(problem: Problem, k: int, rng: np.random.Generator) -> list[int]:
    """Returns the elements of argument k (flat positions) at such points, found by bisection, since they are few."""
    shape, size, scale = problem.xs[k].shape, problem.xs[k].size, problem.scales[k].ravel()
    found: list[int] = []

    def search(low: int, high: int) -> None:
        direction = np.zeros(size)
        direction[low:high] = rng.uniform(0.5, 1, high - low) * scale[low:high]
        if low == high or len(found) >= _MOST or not has_kink(problem.line({k: direction.reshape(shape)})):
            return
        if high - low == 1:
            found.append(low)
            return
        middle = (low + high) // 2
        search(low, middle)
        search(middle, high)

    search(0, size)
    return found
