"""Looks beside the point of a check: a vjp that uses a value kept from an earlier call is right at one point only."""

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.verify.jacobians import Problem, SecondOrder
from tinylm.verify.reports import Row

_MOVED = 0.05  # of each element
_STEPS = (1e-5, 3e-6)  # of the differences, as a part of each element
_POINTS = 2
_OFF = 1e-5  # of the gradient's parts, above which the tape contradicts the differences
_NOT_LINEAR = "not linear in the incoming gradient: a vjp is a matrix times it, and this one is not"


def beside(problem: Problem, largest: float, tolerance: float) -> list[Row]:
    """Returns one row if the tape is wrong wherever the arguments are moved by a few percent; none if it is right at one of the
    points. A vjp that is not linear, and therefore right for unit vectors alone, has its own name.

    largest: of the values within the function, whose rounding may hide what differences say. Only what two steps agree upon
    counts: at kinks, and where values are not finite, nothing is said.
    """
    if isinstance(problem, SecondOrder) or problem.dtype != "float64" or not any(x.any() for x in problem.start):
        return []
    errors, rng = [], np.random.default_rng(0)
    for _ in range(_POINTS):
        error = _error(problem, largest, _MOVED, rng)
        if not error > max(_OFF, 10 * tolerance):  # NaN: nothing can be said
            return []
        errors.append(error)
    if _error(problem, largest, 0, rng) > max(_OFF, 10 * tolerance):
        detail = "right where one element of the incoming gradient is not zero, wrong where several are"
        return [Row("gradients for a random incoming gradient", max(errors), detail, _NOT_LINEAR, decided="wrong")]
    detail = f"right at the given point, wrong where the arguments are up to {_MOVED:.0%} larger or smaller"
    cause = "stale: the vjp uses a value kept from an earlier call (a cache, a default, a global), or is wrong in another branch"
    return [Row("gradients at points nearby", max(errors), detail, cause, decided="wrong")]


def _error(problem: Problem, largest: float, moved: float, rng: np.random.Generator) -> float:
    """Returns the relative error of cᵀ J u, arguments moved by up to a part of each element; NaN where differences do not settle."""
    directions = {k: x * rng.uniform(0.5, 1, x.shape) * rng.choice([-1, 1], x.shape) for k, x in enumerate(problem.start)}
    try:
        with np.errstate(all="ignore"):
            for x, start in zip(problem.xs, problem.start, strict=True):
                x.data[...] = array_module(x.data).asarray(start * rng.uniform(1 - moved, 1 + moved, start.shape))
            y = problem.taped()
            c = rng.standard_normal(y.size)
            parts = np.concatenate([(g * directions[k]).ravel() for k, g in enumerate(problem.vjp(y, c))])
            slopes = [float(c @ problem.slope(directions, step)) for step in _STEPS]
            size = max(float(np.linalg.norm(parts)), *map(abs, slopes))
            rounding = float(np.linalg.norm(c)) * largest * 1e-15 / _STEPS[1]
            settled = abs(slopes[0] - slopes[1]) <= 0.1 * _OFF * size and rounding <= 0.1 * _OFF * size
            return abs(float(parts.sum()) - slopes[0]) / size if settled and size > 0 else float("nan")
    except (ArithmeticError, ValueError, IndexError):
        return float("nan")
    finally:
        for x, start in zip(problem.xs, problem.start, strict=True):
            x.data[...] = array_module(x.data).asarray(start)
