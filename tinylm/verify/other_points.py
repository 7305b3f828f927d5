"""Looks beside the point of a check: a vjp that uses a value kept from an earlier call is right at one point only."""

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.verify.jacobians import Problem, SecondOrder
from tinylm.verify.reports import Row

_MOVED = 0.05  # of each element
_STEPS = (1e-5, 3e-6)  # of the differences, as a part of each element
_POINTS = 3
_OFF = 1e-4  # of the gradient's parts, above which the tape contradicts the differences


def beside(problem: Problem, left_out: dict[int, list[int]], rng: np.random.Generator) -> list[Row]:
    """Returns one row if the tape is wrong wherever the arguments are moved by a few percent; none if it is right at one of the points.

    Only what several steps agree upon counts: at kinks, and where values are not finite, nothing is said.
    """
    if isinstance(problem, SecondOrder) or problem.dtype != "float64" or not any(x.any() for x in problem.start):
        return []
    errors = []
    for _ in range(_POINTS):
        error = _error(problem, left_out, rng)
        if not error > _OFF:  # NaN: nothing can be said
            return []
        errors.append(error)
    detail = f"right at the given point, wrong where the arguments are up to {_MOVED:.0%} larger or smaller"
    cause = "stale: the vjp uses a value kept from an earlier call (a cache, a default, a global), or is wrong in another branch"
    return [Row("gradients at points nearby", max(errors), detail, cause, decided="wrong")]


def _error(problem: Problem, left_out: dict[int, list[int]], rng: np.random.Generator) -> float:
    """Returns the relative error of cᵀ J u at a point nearby; NaN where differences do not settle."""
    directions = {}
    for k, x in enumerate(problem.start):
        u = np.where(np.isfinite(x), x, 0) * rng.uniform(0.5, 1, x.shape) * rng.choice([-1, 1], x.shape)
        u.reshape(-1)[left_out.get(k, [])] = 0
        directions[k] = u
    try:
        with np.errstate(all="ignore"):
            for x, start in zip(problem.xs, problem.start, strict=True):
                x.data[...] = array_module(x.data).asarray(start * rng.uniform(1 - _MOVED, 1 + _MOVED, start.shape))
            y = problem.taped()
            c = rng.standard_normal(y.size)
            parts = np.concatenate([(g * directions[k]).ravel() for k, g in enumerate(problem.vjp(y, c))])
            slopes = [float(c @ problem.slope(directions, step)) for step in _STEPS]
            size = max(float(np.linalg.norm(parts)), *map(abs, slopes))
            rounding = float(np.abs(c) @ np.abs(y.numpy())) * 1e-15 / _STEPS[1]
            settled = abs(slopes[0] - slopes[1]) <= 0.1 * _OFF * size and rounding <= 0.1 * _OFF * size
            return abs(float(parts.sum()) - slopes[0]) / size if settled and size > 0 else float("nan")
    except (ArithmeticError, ValueError):
        return float("nan")
    finally:
        for x, start in zip(problem.xs, problem.start, strict=True):
            x.data[...] = array_module(x.data).asarray(start)
