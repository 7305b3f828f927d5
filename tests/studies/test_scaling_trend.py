"""The trend at the largest runs: a planted power law, small runs that lie elsewhere, and intervals that cover."""

import dataclasses
import math

import numpy as np
import pytest

from tinylm.errors import DataError
from tinylm.studies.scaling_laws import Point
from tinylm.studies.scaling_trend import fit_trend

SIZES, AMOUNTS = [20_000, 40_000, 80_000, 160_000], [50_000, 100_000, 200_000, 400_000]


def planted(parameters: float, tokens: float) -> float:
    return 20 * parameters**-0.08 * tokens**-0.1


def made(noise: float = 0.0, seed: int = 0) -> list[Point]:
    draw = np.random.default_rng(seed)
    return [Point(n, d, planted(n, d) * float(np.exp(noise * draw.standard_normal()))) for n in SIZES for d in AMOUNTS]


def test_a_planted_power_law_is_found_and_goes_on() -> None:
    trend = fit_trend(made())
    assert trend.constants == pytest.approx([math.log(planted(SIZES[-1], AMOUNTS[-1])), 0.08, 0.1])
    assert trend(1e7, 1e9) == pytest.approx(planted(1e7, 1e9))
    assert trend.error(1e7, 1e9) == pytest.approx(0.0, abs=1e-12)
    assert trend.scatter() == pytest.approx(0.0, abs=1e-12)
    assert trend.beyond(320_000, 100_000) == pytest.approx((math.log(2), 0.0))
    grid = trend(np.array([[1e5], [1e6]]), np.array([1e6, 1e7, 1e8]))
    assert grid.shape == trend.error(np.array([[1e5], [1e6]]), np.array([1e6, 1e7, 1e8])).shape == (2, 3)
    assert grid[1, 2] == pytest.approx(planted(1e6, 1e8))


def test_the_largest_runs_decide() -> None:
    """Runs with the least data are 5 % worse than the power law, as at the beginning of a training; they weigh less than others."""
    bent = [dataclasses.replace(p, loss=p.loss * (1.05 if p.tokens == AMOUNTS[0] else 1.0)) for p in made()]
    trend = fit_trend(bent)
    logs, _, b = np.linalg.lstsq(
        [(1.0, -math.log(p.parameters / SIZES[-1]), -math.log(p.tokens / AMOUNTS[-1])) for p in bent],
        [math.log(p.loss) for p in bent],
        rcond=None,
    )[0]  # of all runs alike
    assert abs(trend.constants[2] - 0.1) < 0.8 * abs(b - 0.1)
    assert abs(trend.constants[0] - math.log(planted(SIZES[-1], AMOUNTS[-1]))) < 0.8 * abs(logs - math.log(planted(SIZES[-1], AMOUNTS[-1])))


def test_the_error_is_that_of_repeated_runs() -> None:
    """The standard error of one fit, beside the scatter of the predictions of 300 fits to runs with other noise. HC3 errs on the safe side
    for so few runs."""
    at = 2 * SIZES[-1], 4 * AMOUNTS[-1]
    fits = [fit_trend(made(0.01, seed)) for seed in range(300)]
    scatter = np.std([np.log(fit(*at)) for fit in fits])
    assert scatter * 0.9 < np.sqrt(np.mean([fit.error(*at) ** 2 for fit in fits])) < scatter * 1.5
    assert 0.005 < fits[0].scatter() < 0.015
    assert fits[0].error(*at) > fits[0].error(SIZES[-1], AMOUNTS[-1])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([Point(10, 10, 2.0)] * 5, "a trend through 5 runs of 1 sizes and 1 amounts"),
        ([*made(), Point(10, 10, float("inf"))], "loss=inf"),
    ],
)
def test_runs_without_a_trend(points: list[Point], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_trend(points)
