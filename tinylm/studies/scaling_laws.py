"""Scaling laws, how the loss falls with size and data: L(N, D) = E + A / N^α + B / D^β, fitted to finished runs.

Hoffmann et al. 2022, arXiv:2203.15556, section 3.3 and appendix D.2: N parameters, D tokens that are read once each,
L in nats per token; E is the loss that remains for any size and amount of data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares, nnls

from tinylm.engine.random_keys import philox
from tinylm.errors import DataError

HUBER = 5e-3  # of log L, about the scatter between seeds of such small models; the paper, with large ones, has 1e-3
EXPONENTS = (0.01, 2.0)  # the range of α and β
FAINTEST = 1e-4  # of the smallest loss: no term is smaller in the middle of the runs
STARTS = (0.1, 0.25, 0.5, 0.9, 1.5)  # exponents from which the search begins
RESAMPLES = 200
CONSTANTS = ("E", "A", "alpha", "B", "beta")


@dataclass(frozen=True)
class Point:
    """A finished run: its parameters, the tokens it has read, and its validation loss in nats per token."""

    parameters: int
    tokens: int
    loss: float

    def named(self) -> str:
        """Returns which run it is, for messages: 16,272 parameters on 76,800 tokens."""
        return f"{self.parameters:,} parameters on {self.tokens:,} tokens"


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^alpha + B / D^beta."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def of_size(self, parameters: Any) -> Any:
        """Returns the part of the loss that is due to the finite size of a model: A / N^alpha."""
        return self.A * parameters**-self.alpha

    def of_data(self, tokens: Any) -> Any:
        """Returns the part of the loss that is due to the finite amount of data: B / D^beta."""
        return self.B * tokens**-self.beta

    def __call__(self, parameters: Any, tokens: Any) -> Any:
        """Returns the loss for numbers or arrays."""
        return self.E + self.of_size(parameters) + self.of_data(tokens)


@dataclass(frozen=True)
class ScalingFit:
    """The law fitted to some runs, and the laws fitted to the same runs with resampled residuals."""

    points: tuple[Point, ...]
    law: Law
    resampled: tuple[Law, ...]

    def interval(self, value: Callable[[Law], float]) -> tuple[float, float]:
        """Returns the interval that holds 95 % of the resampled laws' values."""
        low, high = np.quantile([value(law) for law in self.resampled], (0.025, 0.975))
        return float(low), float(high)

    def constants(self) -> dict[str, tuple[float, float]]:
        """Returns the interval of each constant."""
        return {name: self.interval(lambda law, name=name: getattr(law, name)) for name in CONSTANTS}  # type: ignore[misc]

    def unidentified(self) -> list[str]:
        """Returns those of E, alpha and beta that the runs do not determine: their interval is more than half of the
        allowed range, or reaches one of its ends."""
        allowed = {"E": (0.0, min(p.loss for p in self.points)), "alpha": EXPONENTS, "beta": EXPONENTS}
        found = self.constants()
        slack = {name: 0.01 * (high - low) for name, (low, high) in allowed.items()}
        return [
            name for name, (least, most) in allowed.items()
            if found[name][1] - found[name][0] > (most - least) / 2
            or found[name][0] < least + slack[name] or found[name][1] > most - slack[name]
        ]  # fmt: skip

    def scatter(self) -> float:
        """Returns the scatter of the runs around the law: the root mean square of log L - log law."""
        return float(np.sqrt(np.mean([np.log(p.loss / self.law(p.parameters, p.tokens)) ** 2 for p in self.points])))


def check_points(points: Sequence[Point], what: str) -> None:
    """Raises DataError for losses that are not finite and positive, or for fewer than six runs, three sizes or three amounts of data."""
    if bad := [p for p in points if not (p.parameters > 0 and p.tokens > 0 and p.loss > 0 and np.isfinite(p.loss))]:
        raise DataError(f"{what} through {bad[0]}: expected numbers above 0")
    sizes, amounts = ({getattr(p, name) for p in points} for name in ("parameters", "tokens"))
    if len(points) < 6 or min(len(sizes), len(amounts)) < 3:
        raise DataError(
            f"{what} through {len(points)} runs of {len(sizes)} sizes and {len(amounts)} amounts of data: "
            "expected at least 6 of 3 and 3, which its constants need"
        )


def fit_scaling_law(points: Sequence[Point], seed: int = 0, resamples: int = RESAMPLES) -> ScalingFit:
    """Returns the law with the smallest Σ Huber(log law - log L), and its uncertainty by a bootstrap of the residuals, which are
    scaled by √(n / (n - 5)) for the five fitted constants.

    Raises DataError for losses that are not finite and positive, or for fewer than six runs, three sizes or three amounts of data.
    """
    check_points(points, "a scaling law")
    search = _Search(*(np.log([getattr(p, name) for p in points]) for name in ("parameters", "tokens", "loss")))
    best = min(map(search.polished, search.starts(5)), key=search.cost)
    residuals = search.log_loss - search.predicted(best)
    residuals *= np.sqrt(len(points) / (len(points) - len(CONSTANTS)))
    draw = np.random.Generator(philox((seed, 0)))
    laws = []
    for _ in range(resamples):
        again = _Search(search.log_size, search.log_data, search.predicted(best) + draw.choice(residuals, len(points)))
        laws.append(again.law(min(map(again.polished, [best, *again.starts(1)]), key=again.cost)))
    return ScalingFit(tuple(points), search.law(best), tuple(laws))


class _Search:
    """The search for (log E, log A', α, log B', β): A' and B' are the terms at the geometric mean of the runs,
    where they depend little on the exponents."""

    def __init__(self, log_size: np.ndarray, log_data: np.ndarray, log_loss: np.ndarray) -> None:
        self.log_size, self.log_data, self.log_loss = log_size, log_data, log_loss
        self.middle = log_size.mean(), log_data.mean()
        self.size, self.data = log_size - self.middle[0], log_data - self.middle[1]

    def law(self, x: np.ndarray) -> Law:
        e, a, alpha, b, beta = map(float, x)
        return Law(float(np.exp(e)), float(np.exp(a + alpha * self.middle[0])), alpha, float(np.exp(b + beta * self.middle[1])), beta)

    def _terms(self, x: np.ndarray) -> np.ndarray:
        """Returns the logarithms of E, A / N^α, B / D^β: (3, runs)."""
        e, a, alpha, b, beta = x
        return np.stack([np.full_like(self.size, e), a - alpha * self.size, b - beta * self.data])

    def predicted(self, x: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(self._terms(x))

    def _jacobian(self, x: np.ndarray) -> np.ndarray:
        part = np.exp(self._terms(x) - self.predicted(x))  # d log Σ exp(t) / dt
        return np.stack([part[0], part[1], -part[1] * self.size, part[2], -part[2] * self.data], axis=1)

    def cost(self, x: np.ndarray) -> float:
        """Returns the Huber loss: Σ r²/2 up to HUBER, beyond it HUBER (|r| - HUBER/2)."""
        r = np.abs(self.predicted(x) - self.log_loss)
        return float(np.where(r <= HUBER, r**2 / 2, HUBER * (r - HUBER / 2)).sum())

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        least, most = self.log_loss.min(), self.log_loss.max()
        faint = least + np.log(FAINTEST)
        return (np.array([faint, faint, EXPONENTS[0], faint, EXPONENTS[0]]), np.array([least, most, EXPONENTS[1], most, EXPONENTS[1]]))

    def starts(self, count: int) -> list[np.ndarray]:
        """Returns the best of a grid of exponents, for each of which the three terms are a nonnegative least squares problem."""
        found = []
        low, high = self._bounds()
        for alpha in STARTS:
            for beta in STARTS:
                columns = np.stack([np.ones_like(self.size), np.exp(-alpha * self.size), np.exp(-beta * self.data)], axis=1)
                terms, _ = nnls(columns / np.exp(self.log_loss)[:, None], np.ones_like(self.size))
                e, a, b = np.log(np.maximum(terms, 1e-300))
                found.append(np.clip([e, a, alpha, b, beta], low, high))
        return sorted(found, key=self.cost)[:count]

    def polished(self, x: np.ndarray) -> np.ndarray:
        """Returns the nearest minimum."""
        low, high = self._bounds()
        x = np.clip(x, low + 1e-6, high - 1e-6)
        found = least_squares(
            lambda x: self.predicted(x) - self.log_loss, x, self._jacobian, (low, high), loss="huber", f_scale=HUBER, max_nfev=60
        )
        return found.x
