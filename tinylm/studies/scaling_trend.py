"""The trend of the loss towards the largest runs, which predictions follow: L(N, D) = L0 (N/N0)^-a (D/D0)^-b.

These are the power laws of Kaplan et al. 2020 (arXiv:2001.08361, equations 1.1 and 1.2) in both at once, without a remainder: small and
short runs, which are still learning which characters are common, weigh less. The five constants of `scaling_laws` cannot be told from
the runs of some minutes; the remainder E that comes out is most often too high, so that it expects too little of more data. README.md has
the comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.studies.scaling_laws import Point, check_points

WEIGHT = 0.5  # a run counts as (N D)^WEIGHT


@dataclass(frozen=True)
class Trend:
    """The fit. most: N0 and D0, the parameters of the largest run and the most tokens that one has read.  constants: ln L0, a, b.
    covariance: of the constants, (3, 3)."""

    points: tuple[Point, ...]
    most: tuple[int, int]
    constants: np.ndarray
    covariance: np.ndarray

    def __call__(self, parameters: Any, tokens: Any) -> Any:
        """Returns the loss for numbers or arrays."""
        return np.exp(self._columns(parameters, tokens) @ self.constants)

    def error(self, parameters: Any, tokens: Any) -> Any:
        """Returns the standard error of ln of the loss, as far as it follows from the scatter of the runs; for numbers or arrays."""
        columns = self._columns(parameters, tokens)
        return np.sqrt(np.einsum("...i,ij,...j->...", columns, self.covariance, columns))

    def beyond(self, parameters: Any, tokens: Any) -> tuple[Any, Any]:
        """Returns how far models lie beyond the runs, for numbers or arrays: ln N/N0 and ln D/D0; 0 within."""
        columns = self._columns(parameters, tokens)
        return np.maximum(0.0, -columns[..., 1]), np.maximum(0.0, -columns[..., 2])

    def scatter(self) -> float:
        """Returns how far the runs lie from the trend: the root mean square of ln of their loss over it, with the weights of the fit."""
        weights, columns, losses = _regression(self.points, self.most)
        return float(np.sqrt((weights * (losses - columns @ self.constants) ** 2).sum() / weights.sum()))

    def _columns(self, parameters: Any, tokens: Any) -> np.ndarray:
        return _columns(self.most, parameters, tokens)


def fit_trend(points: Sequence[Point]) -> Trend:
    """Returns the weighted least squares of ln L.

    The covariance holds for runs of which some are off by more than others, as those with little data are: HC3 of MacKinnon & White 1985
    (Journal of Econometrics 29), with each run's own distance from the trend over 1 - its leverage.
    Raises DataError for losses that are not finite and positive, or for fewer than six runs, three sizes or three amounts of data.
    """
    check_points(points, "a trend")
    most = max(p.parameters for p in points), max(p.tokens for p in points)
    weights, columns, losses = _regression(points, most)
    root = np.sqrt(weights)[:, None]
    solve = np.linalg.pinv(columns * root) * root.T  # (3, runs): constants from losses
    constants = solve @ losses
    leverage = np.einsum("nk,kn->n", columns, solve)
    off = (losses - columns @ constants) / np.maximum(1 - leverage, 1e-3)
    return Trend(tuple(points), most, constants, (solve * off**2) @ solve.T)


def _columns(most: tuple[int, int], parameters: Any, tokens: Any) -> np.ndarray:
    """Returns the factors of ln L0, a and b: (..., 3)."""
    size, data = np.broadcast_arrays(*(np.log(np.asarray(x, np.float64) / top) for x, top in zip((parameters, tokens), most, strict=True)))
    return np.stack([np.ones_like(size), -size, -data], axis=-1)


def _regression(points: Sequence[Point], most: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the weights of the runs, their columns, and ln of their losses."""
    columns = _columns(most, [p.parameters for p in points], [p.tokens for p in points])
    return np.exp(-WEIGHT * columns[:, 1:].sum(axis=1)), columns, np.log([p.loss for p in points])
