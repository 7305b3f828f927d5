"""Finds which differences between tape and measurement are the rounding of the vjp itself, such as that of 1 + tanh(x/2) at x = -30.

The tape runs again at points on a short line through the given one. A smooth gradient is a cubic there, to nine digits or more; what
is left of it is rounding, and an element that is off by no more than that cannot be called wrong.
"""

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.verify.columns import Comparison
from tinylm.verify.verdicts import WRONG

_SMALL = 0.01  # of an element: what is off by more is a mistake, whatever else it is
_POINTS = 16
_REACHES = (1e-3, 1e-4)  # of each element; a function that is no cubic within the first is one within the second
_SCATTERS = 3  # times the largest deviation


def spare_rounding(comparison: Comparison, k: int) -> None:
    """Marks what is off in argument k by no more than its vjp scatters: it counts as undecided, not as wrong."""
    if comparison.single or not np.any(comparison.verdicts()[k] == WRONG):
        return
    block = comparison.blocks[k]
    with np.errstate(all="ignore"):
        off = np.abs(block.taped - block.measured)
        near = (comparison.verdicts()[k] == WRONG) & (off <= _SMALL * np.abs(block.measured))
        for reach in _REACHES:
            if near.any():
                near &= off <= _SCATTERS * _scatter(comparison, k, np.flatnonzero(near.any(axis=1)), reach)
    block.torn |= near


def _scatter(comparison: Comparison, k: int, rows: np.ndarray, reach: float) -> np.ndarray:
    """Returns how far the taped elements in these rows are from cubics along a line; zeros in the other rows, and if the line leaves
    the domain."""
    problem, block = comparison.problem, comparison.blocks[k]
    x, start = problem.xs[k], problem.start[k]
    along = start * np.random.default_rng(0).choice([-1, 1], start.shape)
    directions = np.array([u.reshape(-1) for u in block.directions])
    places = np.linspace(-1, 1, _POINTS)
    found = np.zeros((_POINTS, len(rows), len(directions)))
    scatter = np.zeros(block.taped.shape)
    try:
        for at, s in enumerate(places):
            x.data[...] = array_module(x.data).asarray(start + s * reach * along)
            y = problem.taped()
            for i, row in enumerate(rows):
                found[at, i] = directions @ problem.vjp(y, comparison.cotangents[row])[k].reshape(-1)
    except (ArithmeticError, ValueError, IndexError):
        return scatter
    finally:
        x.data[...] = array_module(x.data).asarray(start)
    cubics = np.vander(places, 4)
    flat = found.reshape(_POINTS, -1)
    left = np.abs(flat - cubics @ (np.linalg.pinv(cubics) @ flat)).max(axis=0)
    scatter[rows] = left.reshape(len(rows), -1)
    return scatter
