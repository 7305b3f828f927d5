"""What a check answers: named rows, each with a relative error, and a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def relative_error(a: np.ndarray, b: np.ndarray, all_norm: float) -> float:
    """‖a - b‖ / max(‖b‖, 10⁻³ all_norm); b is the trusted side.

    all_norm: the norm of everything that is compared together (of all gradients, say): some true
    gradients are exactly zero, and their rounding must not count as an error of 100 %.
    """
    difference = float(np.linalg.norm(np.ravel(a) - np.ravel(b)))
    if difference == 0:
        return 0.0
    reference = max(float(np.linalg.norm(b)), 1e-3 * all_norm)
    return difference / reference if reference else float("inf")


def joint_norm(arrays: Sequence[np.ndarray]) -> float:
    """The norm of all the arrays as one vector."""
    return float(np.linalg.norm([np.linalg.norm(a) for a in arrays])) if arrays else 0.0


@dataclass(frozen=True)
class Row:
    """One compared quantity: its name, relative error, and where the two sides differ most."""

    name: str
    error: float
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """The rows of one check; `str` shows those out of tolerance first, in their order."""

    title: str
    tolerance: float
    rows: tuple[Row, ...]

    @property
    def failures(self) -> list[Row]:
        """The rows out of tolerance, in order. A NaN is out of every tolerance."""
        return [row for row in self.rows if not row.error <= self.tolerance]

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def error(self) -> float:
        """The largest relative error; NaN if there is one."""
        return float(np.max([row.error for row in self.rows])) if self.rows else 0.0

    def __str__(self) -> str:
        failures = self.failures
        head = f"{self.title}: {'ok' if self.ok else 'FAILED'}, largest relative error {self.error:.2e}, tolerance {self.tolerance:.0e}"
        return "\n".join([head, *(f"  {row.name}: relative error {row.error:.2e}; {row.detail}" for row in failures)])
