"""The error curve: central differences at many steps, each a part of the elements that move.

The error of a right gradient falls like h² down to the rounding of the function, then rises like
1/h. That of a wrong gradient stays constant at its error; at a kink it stays at the jump of the slope.
"""

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
    directions = {k: rng.standard_normal(scale.shape) * scale for k, scale in enumerate(problem.scales)}
    for k, positions in without.items():
        directions[k].reshape(-1)[positions] = 0
    with np.errstate(all="ignore"):
        expected = sum(float(np.vdot(vjp[k], u)) for k, u in directions.items())
        errors = [abs(float(cotangent @ problem.slope(directions, h)) - expected) for h in STEPS]
        return tuple((h, error / abs(expected) if expected else error) for h, error in zip(STEPS, errors, strict=True))
