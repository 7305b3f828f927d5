"""What is known about one wrong gradient: the wrong and the right one, under several random cotangents."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.verify.jacobians import Problem
from tinylm.verify.reports import Report

_COTANGENTS = 3  # so that a hypothesis does not fit one by accident
_ROWS = 300  # outputs up to which every row of the tape's Jacobian is looked at
_MOST = 4_000_000  # elements of a Jacobian by differences


@dataclass(frozen=True)
class Evidence:
    """Argument k of a problem, with gradients of shape (cotangents, *argument's shape)."""

    problem: Problem
    y: Tensor  # the outputs as one vector, with their graph
    k: int
    cotangents: np.ndarray
    wrong: np.ndarray  # by the tape
    jacobian: np.ndarray  # by differences: (outputs, elements)
    without: list[int]  # elements at kinks: zero on both sides
    gradcheck: Callable[..., Report]  # checks single ops of the function
    scale: float = 1.0  # of what `taped` and `measured` are divided by, so that squares neither overflow nor vanish

    @property
    def right(self) -> np.ndarray:
        return self.vjp(self.cotangents)

    def vjp(self, cotangents: np.ndarray, jacobian: np.ndarray | None = None) -> np.ndarray:
        """Returns the right gradient under other cotangents, or by another Jacobian."""
        gradients = cotangents @ (self.jacobian if jacobian is None else jacobian)
        gradients[:, self.without] = 0
        return gradients.reshape(self.wrong.shape)

    def explains(self, candidate: np.ndarray) -> bool:
        """True if a candidate explains the wrong gradient to within a small part of its error."""
        least = 2e-3 if self.problem.dtype == "float64" else 0.02
        return bool(np.linalg.norm(candidate - self.wrong) <= least * np.linalg.norm(self.right - self.wrong))

    @cached_property
    def taped(self) -> np.ndarray | None:
        """The Jacobian by the tape, (outputs, elements of the argument); None if there are too many outputs."""
        if self.y.size > _ROWS:
            return None
        rows = np.array([self.problem.vjp(self.y, unit)[self.k].ravel() for unit in np.eye(self.y.size)])
        rows[:, self.without] = 0
        return rows / self.scale

    @cached_property
    def measured(self) -> np.ndarray:
        """The Jacobian by differences, with zeros where nothing could be compared."""
        found = self.jacobian.copy()
        found[:, self.without] = 0
        return found / self.scale

    @cached_property
    def point(self) -> np.ndarray:
        """The argument's values."""
        return self.problem.start[self.k]

    def output_parts(self) -> list[tuple[slice, tuple[int, ...]]]:
        """Returns where each output is in the vector of all outputs, and its shape."""
        ends = np.cumsum([int(np.prod(s)) for s in self.problem.shapes]).tolist()
        return [(slice(end - int(np.prod(s)), end), s) for end, s in zip(ends, self.problem.shapes, strict=True)]


def gathered(
    problem: Problem,
    y: Tensor,
    k: int,
    without: list[int],
    rng: np.random.Generator,
    gradcheck: Callable[..., Report],
    jacobian: np.ndarray | None = None,
) -> Evidence | None:
    """Returns the evidence on argument k, or None if its Jacobian is not given and would be too large to measure."""
    x = problem.xs[k]
    if x.size * y.size > _MOST:
        return None
    measured = problem.measured(k) if jacobian is None else jacobian
    top = float(np.max(np.abs(measured[np.isfinite(measured)]), initial=0))
    cotangents = rng.standard_normal((_COTANGENTS, y.size))
    scale = top if top and not 1e-100 < top < 1e100 else 1.0  # squares would overflow or vanish, and any hypothesis would fit
    cotangents /= scale
    wrong = np.array([problem.vjp(y, c)[k] for c in cotangents])
    wrong.reshape(_COTANGENTS, -1)[:, without] = 0
    return Evidence(problem, y, k, cotangents, wrong, measured, without, gradcheck, scale)
