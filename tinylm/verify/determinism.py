"""Checks that a function gives the same numbers each time: two forward passes, and two backward passes through one graph."""

import numpy as np

from tinylm.verify.jacobians import Problem
from tinylm.verify.reports import Row, joint_norm, relative_error


def repetitions(problem: Problem, cotangent: np.ndarray) -> list[Row]:
    """Returns one row for each repetition that gives other numbers, and one if an argument was written to; none if
    everything is equal bit for bit."""
    first, second = problem.taped(), problem.taped()
    vjp, again, other = (problem.vjp(y, cotangent) for y in (first, first, second))
    runs = {
        "values of two runs": ([first.numpy()], [second.numpy()]),
        "gradients of two backward passes through one graph": (vjp, again),
        "gradients of two runs": (vjp, other),
        "arguments before and after": ([x.numpy() for x in problem.xs], problem.start),
    }
    return [Row(name, _difference(a, b), _explanation(name)) for name, (a, b) in runs.items() if not _equal(a, b)]


def _equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


def _difference(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    norm = joint_norm(b)
    return max(relative_error(x, y, norm) for x, y in zip(a, b, strict=True))


def _explanation(name: str) -> str:
    if name.startswith("arguments"):
        return "the function writes into its arguments"
    return "not deterministic" if "runs" in name else "the vjp changes what it captured, or is not deterministic"
