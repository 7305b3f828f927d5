"""Central differences at many steps: the error curve, and the step at which they change least.

The error of a right gradient falls like h² down to the rounding of the function, then rises like
1/h. That of a wrong gradient stays constant at its error; at a kink it stays at the jump of the slope.
"""

import itertools

import numpy as np

from tinylm.verify.jacobians import Problem

STEPS = tuple(float(h) for h in 10.0 ** np.arange(-1, -10.5, -0.5))

Curve = tuple[tuple[float, float], ...]


def error_curve(
    problem: Problem, vjp: list[np.ndarray], cotangent: np.ndarray, without: dict[int, list[int]], rng: np.random.Generator
) -> Curve:
    """Returns (step, relative error of cᵀ J u) along one random direction of all arguments together.

    vjp: cᵀ J by the tape. without: the elements of each argument (flat positions) that do not move.
    """
    directions = {k: rng.standard_normal(x.shape) for k, x in enumerate(problem.xs)}
    for k, positions in without.items():
        directions[k].reshape(-1)[positions] = 0
    expected = sum(float(np.vdot(vjp[k], u)) for k, u in directions.items())
    errors = [abs(float(cotangent @ problem.slope(directions, h)) - expected) for h in STEPS]
    return tuple((h, error / abs(expected) if expected else error) for h, error in zip(STEPS, errors, strict=True))


def steadiest_step(problem: Problem, k: int, rng: np.random.Generator) -> float:
    """Returns the step from which to the next smaller one the differences in argument k change least: the
    choice depends on the function alone, not on its gradient."""
    direction = rng.standard_normal(problem.xs[k].shape)
    slopes = [problem.slope({k: direction}, h) for h in STEPS]
    changes = [float(np.linalg.norm(a - b)) for a, b in itertools.pairwise(slopes)]
    changes = [c if np.isfinite(c) else np.inf for c in changes]
    return STEPS[int(np.argmin(changes))]
