"""The fit of a scaling law: planted constants, intervals that cover them, outliers, and runs that do not determine it."""

import numpy as np
import pytest

from tinylm.errors import DataError
from tinylm.studies.scaling_laws import CONSTANTS, EXPONENTS, Law, Point, fit_scaling_law

TRUE = Law(E=1.2, A=30.0, alpha=0.35, B=60.0, beta=0.4)
SIZES, AMOUNTS = np.geomspace(3e4, 1e6, 4), np.geomspace(5e4, 2e6, 4)


def made(law: Law, noise: float = 0.0, seed: int = 0) -> list[Point]:
    draw = np.random.default_rng(seed)
    return [Point(int(n), int(d), float(law(n, d) * np.exp(noise * draw.standard_normal()))) for n in SIZES for d in AMOUNTS]


def test_the_law_term_by_term() -> None:
    assert TRUE(1e5, 1e6) == pytest.approx(1.2 + 30 / 1e5**0.35 + 60 / 1e6**0.4)
    assert TRUE(1e5, 1e6) == TRUE.E + TRUE.of_size(1e5) + TRUE.of_data(1e6)


def test_constants_are_recovered_from_losses_without_noise() -> None:
    fit = fit_scaling_law(made(TRUE), resamples=2)
    for name in CONSTANTS:
        assert getattr(fit.law, name) == pytest.approx(getattr(TRUE, name), rel=1e-3), name  # the search stops at 1e-8 of the cost
    assert fit.scatter() < 1e-6


def test_intervals_cover_planted_constants() -> None:
    """In the long run 95 % of the intervals do; in these five fits at least 21 of 25."""
    covered = 0
    for seed in range(5):
        fit = fit_scaling_law(made(TRUE, 0.003, seed), seed=seed, resamples=50)
        assert fit.unidentified() == []
        for name, (low, high) in fit.constants().items():
            covered += low <= getattr(TRUE, name) <= high
        low, high = fit.interval(lambda law: law(2e6, 2e7))
        assert low < high < low * 1.2
    assert covered >= 21


def test_a_run_gone_wrong_does_not_bend_the_law() -> None:
    points = made(TRUE, 0.001)
    spoiled = [Point(p.parameters, p.tokens, 1.3 * p.loss) if i == 5 else p for i, p in enumerate(points)]
    law = fit_scaling_law(spoiled, resamples=2).law
    for p in points:
        assert law(p.parameters, p.tokens) == pytest.approx(p.loss, rel=0.01)


def test_the_same_runs_give_the_same_fit() -> None:
    first, again = (fit_scaling_law(made(TRUE, 0.01), seed=3, resamples=5) for _ in range(2))
    assert first == again
    assert first.resampled != fit_scaling_law(made(TRUE, 0.01), seed=4, resamples=5).resampled


def test_what_the_runs_do_not_tell_is_named() -> None:
    no_size = Law(E=1.2, A=0.0, alpha=0.3, B=60.0, beta=0.4)
    assert "alpha" in fit_scaling_law(made(no_size, 0.003), resamples=20).unidentified()
    loud = fit_scaling_law(made(TRUE, 0.1), resamples=20)
    assert "E" in loud.unidentified()
    assert all(EXPONENTS[0] <= law.alpha <= EXPONENTS[1] for law in loud.resampled)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([Point(10, 10, 2.0)] * 5, "5 runs of 1 sizes and 1 amounts"),
        ([Point(n, d, 2.0) for n in (10, 20) for d in (1, 2, 3, 4)], "8 runs of 2 sizes and 4 amounts"),
        ([*made(TRUE), Point(10, 10, float("nan"))], "loss=nan"),
        ([*made(TRUE), Point(10, 0, 2.0)], "tokens=0"),
    ],
)
def test_runs_that_cannot_be_fitted(points: list[Point], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_scaling_law(points)
