"""Compares gradients with measured derivatives, element by element: ok, wrong, or undecided.

a is the tape's element, b the measured one and u its uncertainty; t is the tolerance and f the floor, 10⁻¹² of the largest
element for the same output, below which the tape's own rounding lies.

- wrong: |a - b| > t |b| + 10 u + f
- ok: |a - b| ≤ t |b| + u + f, where u and f are at most 10⁻⁴ |b| (10 t |b| for t above 10⁻⁵)
- too small: both are below the floor, and u is below 10⁵ floors: zero beside the largest, and its sign is not checked.
  The same holds for what cannot be measured well and is below 16 ε of the largest element of all outputs
- undecided: everything else. A NaN of the tape is wrong, unless the point is a kink or the derivative overflows.
"""

import numpy as np

OK, TOO_SMALL, UNDECIDED, WRONG = range(4)
FLOOR = 1e-12  # times the largest element: the tape's own rounding
_NOTHING = 16 * float(np.finfo(np.float64).eps)
_ZERO = 1e5  # floors: how exactly a zero must be measured


def resolution(tolerance: float) -> float:
    """Returns how exactly, relative to itself, an element must be measured to decide anything."""
    return max(10 * tolerance, 1e-4)


def judged(
    a: np.ndarray,
    b: np.ndarray,
    doubt: np.ndarray,
    floor: np.ndarray,
    size: np.ndarray,
    top: float,
    tolerance: float,
    single: bool = False,
) -> np.ndarray:
    """Returns the verdicts. size: what the tolerance is relative to, |b| or more. top: the largest element of all. single:
    a is in float32, and anything below the floor is ok."""
    off = np.abs(a - b)
    allowed = tolerance * size + floor
    least = resolution(tolerance) * size
    resolved, kept = (doubt <= np.fmax(least, floor), floor) if single else (doubt <= least, np.minimum(floor, least))
    found = np.full(a.shape, UNDECIDED)
    found[_below(a, b, doubt, floor)] = TOO_SMALL
    found[resolved & (off <= tolerance * size + doubt + kept)] = OK
    found[(a == 0) & (b == 0) & np.isfinite(doubt)] = OK
    found[off > allowed + 10 * doubt] = WRONG
    found[(found != OK) & ((b == 0) | (doubt > least)) & _below(a, b, doubt, _NOTHING * top)] = TOO_SMALL
    found[~np.isfinite(a) & np.isfinite(doubt)] = WRONG
    return found


def _below(a: np.ndarray, b: np.ndarray, doubt: np.ndarray, floor: np.ndarray | float) -> np.ndarray:
    """Returns where both are below the floor, and that is sure."""
    return (np.abs(a) <= floor) & (np.abs(b) <= floor + 3 * doubt) & (doubt <= _ZERO * np.asarray(floor))
