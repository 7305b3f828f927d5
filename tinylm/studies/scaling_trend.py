"""The trend of the loss at the largest runs, which predictions follow: L(N, D) = L0 (N/N0)^-a (D/D0)^-b.

These are the power laws of Kaplan et al. 2020 (arXiv:2001.08361, equations 1.1 and 1.2) in both at once, without a remainder, and as
local as the runs allow: small and short runs, which are still learning which characters are common, weigh little. The five constants of
`scaling_laws` cannot be told from the runs of some minutes; the remainder E that comes out is most often too high, so that it expects
too little of more data. README.md has the comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.engine.random_keys import philox
from tinylm.studies.scaling_laws import Point, check_points

RESAMPLES = 400


@dataclass(frozen=True)
class Trend:
    """The fit. most: N0 and D0, the parameters of the largest run and the most tokens that one has read.  constants: ln L0, a, b.
    resampled: the same from resampled runs, (RESAMPLES, 3)."""

    points: tuple[Point, ...]
    most: tuple[int, int]
    constants: np.ndarray
    resampled: np.ndarray

    def beyond(self, parameters: Any, tokens: Any) -> tuple[Any, Any]:
        """Returns how far models lie beyond the runs, for numbers or arrays: ln N/N0 and ln D/D0; 0 within."""
        size, data = (np.maximum(0.0, x) for x in self._from_most(parameters, tokens))
        return size, data

    def __call__(self, parameters: Any, tokens: Any) -> Any:
        """Returns the loss for numbers or arrays."""
        size, data = self._from_most(parameters, tokens)
        return np.exp(self.constants[0] - self.constants[1] * size - self.constants[2] * data)

    def spread(self, parameters: Any, tokens: Any) -> np.ndarray:
        """Returns (low, loss, high), for numbers or arrays: what the trend predicts, and the middle 95 % of what resampled runs do, which
        it is never outside of."""
        loss = self(parameters, tokens)
        size, data = self._from_most(parameters, tokens)
        logs, a, b = (c.reshape(-1, *[1] * np.ndim(loss)) for c in self.resampled.T)
        low, high = np.exp(np.quantile(logs - a * size - b * data, (0.025, 0.975), axis=0))
        return np.stack([np.minimum(low, loss), loss, np.maximum(high, loss)])

    def scatter(self) -> float:
        """Returns how far the runs lie from the trend: the root mean square of ln of their loss over it, with the weights of the fit."""
        weights, columns, losses = _regression(self.points, self.most)
        return float(np.sqrt((weights * (losses - columns @ self.constants) ** 2).sum() / weights.sum()))

    def _from_most(self, parameters: Any, tokens: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.log(np.asarray(parameters, np.float64) / self.most[0]), np.log(np.asarray(tokens, np.float64) / self.most[1])


def fit_trend(points: Sequence[Point], seed: int = 0) -> Trend:
    """Returns the least squares of ln L with the weight of each run in proportion to its N D.

    The resampled fits are those of a wild bootstrap (Wu 1986, Annals of Statistics 14): each run keeps its own distance from the trend,
    over 1 - its leverage, and draws a sign for it, since runs with little data are off by more than others.
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
    signs = np.random.Generator(philox((seed, 0))).choice([-1.0, 1.0], (RESAMPLES, len(points)))
    return Trend(tuple(points), most, constants, constants + (signs * off) @ solve.T)


def _regression(points: Sequence[Point], most: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the weights of the runs, the columns of (ln L0, a, b), and ln of the losses."""
    sizes, data, losses = np.array([(p.parameters, p.tokens, p.loss) for p in points], np.float64).T
    size, amount = np.log(sizes / most[0]), np.log(data / most[1])
    return np.exp(size + amount), np.column_stack([np.ones(len(points)), -size, -amount]), np.log(losses)
