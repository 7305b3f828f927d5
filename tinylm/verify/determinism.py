"""Checks that a function gives the same numbers each time: two forward passes, and two backward passes through one graph."""

import numpy as np

from tinylm.verify.jacobians import Problem
from tinylm.verify.reports import Row, joint_norm, relative_error


def repetitions(problem: Problem, cotangent: np.ndarray) -> list[Row]:
    """Returns one row for each repetition that gives other numbers, and one if an argument was written to; none if
    everything is equal bit for bit."""
    first, second = problem.taped(), problem.taped()
    vjp, again, other = (problem.vjp(y, cotangent) for y in (first, first, second))
    changed = "the vjp changes what it captured, or is not deterministic"
    runs = [
        ("values of two runs", [first.numpy()], [second.numpy()], "not deterministic"),
        ("gradients of two backward passes through one graph", vjp, again, changed),
        ("gradients of two runs", vjp, other, "not deterministic"),
        ("arguments before and after", [x.numpy() for x in problem.xs], problem.start, "the function writes into its arguments"),
    ]
    rows = []
    for name, a, b, explanation in runs:
        if not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True)):
            norm = joint_norm(b)
            rows.append(Row(name, max(relative_error(x, y, norm) for x, y in zip(a, b, strict=True)), explanation))
    return rows
