"""Predictions from a trend and when there is none: noise, runs that get worse, too great distances; and what a loss takes."""

import dataclasses
import math

import numpy as np
import pytest

from tinylm.errors import DataError
from tinylm.studies.scaling_laws import Point
from tinylm.studies.scaling_misses import Calibration
from tinylm.studies.scaling_predictions import CannotTell, Prediction, doubt, miss_of, predict
from tinylm.studies.scaling_target import Span, fit_speed, ways_to
from tinylm.studies.scaling_trend import Trend, fit_trend

SIZES, AMOUNTS = [20_000, 40_000, 80_000, 160_000], [50_000, 100_000, 200_000, 400_000]
SIZE, DATA = SIZES[-1], AMOUNTS[-1]
NARROW = Calibration((0.0, 0.0), (0.002, 0.004, 0.004), (1.0, 1.0), 2.0, (math.log(4), math.log(10), math.log(20)), 14)


def planted(parameters: float, tokens: float) -> float:
    return 20 * parameters**-0.08 * tokens**-0.1


def fitted(noise: float, seed: int = 0) -> Trend:
    draw = np.random.default_rng(seed)
    return fit_trend([Point(n, d, planted(n, d) * float(np.exp(noise * draw.standard_normal()))) for n in SIZES for d in AMOUNTS])


@pytest.fixture(scope="module")
def trend() -> Trend:
    return fitted(0.002)


def test_a_planted_power_law_goes_on(trend: Trend) -> None:
    for size, data in ((1, 1), (2, 1), (4, 4), (2, 10)):
        found = predict(trend, NARROW, size * SIZE, data * DATA)
        assert isinstance(found, Prediction)
        assert found.low < planted(size * SIZE, data * DATA) < found.high
        assert found.width < 0.1
    assert trend.beyond(2 * SIZE, DATA / 2) == pytest.approx((math.log(2), 0.0))


def test_a_bias_moves_the_prediction(trend: Trend) -> None:
    moved = predict(trend, dataclasses.replace(NARROW, bias=(-0.1, 0.05)), 4 * SIZE, 2 * DATA)
    plain = predict(trend, NARROW, 4 * SIZE, 2 * DATA)
    assert isinstance(moved, Prediction)
    assert isinstance(plain, Prediction)
    assert moved.loss / plain.loss == pytest.approx(4**-0.1 * 2**0.05)


def test_what_a_prediction_missed_by(trend: Trend) -> None:
    miss = miss_of(trend, Point(2 * SIZE, 4 * DATA, 1.1 * float(trend(2 * SIZE, 4 * DATA))))
    assert (miss.size, miss.data, miss.miss) == pytest.approx((math.log(2), math.log(4), math.log(1.1)))
    assert miss.own == pytest.approx(trend.error(2 * SIZE, 4 * DATA))


def test_noisy_runs_are_refused() -> None:
    noisy = fitted(0.08)
    found = predict(noisy, NARROW, 2 * SIZE, DATA)
    assert isinstance(found, CannotTell)
    assert "would tell" in found.reason
    assert doubt(fitted(0.005)) == ""


def test_runs_that_get_worse_are_refused_and_named(trend: Trend) -> None:
    points = [dataclasses.replace(p, loss=p.loss * (1.15 if p.parameters == SIZE else 1.0)) for p in trend.points]
    found = doubt(dataclasses.replace(trend, points=tuple(points)))
    assert found.startswith("4 of the runs are worse than one with less data or a smaller model (the most: 160,000 parameters on ")
    assert "lower learning rate" in found
    points = [dataclasses.replace(p, loss=p.loss * (1.03 if p.parameters == SIZE and p.tokens == DATA else 1.0)) for p in trend.points]
    assert "worse" not in doubt(dataclasses.replace(trend, points=tuple(points))), "one run may be"


def test_beyond_the_backtests_it_says_which_runs_would_tell(trend: Trend) -> None:
    found = predict(trend, NARROW, SIZE, 40 * DATA)
    assert isinstance(found, CannotTell)
    assert "40.0 times the data" in found.reason
    assert f"runs of {SIZE:,} parameters on {4 * DATA:,} tokens would tell" in found.reason
    assert isinstance(predict(trend, NARROW, 4 * SIZE, 10 * DATA), CannotTell), "each was reached, but not both together"


def test_an_interval_may_be_too_wide_to_be_an_answer(trend: Trend) -> None:
    found = predict(trend, dataclasses.replace(NARROW, k=40.0), 4 * SIZE, DATA)
    assert isinstance(found, CannotTell)
    assert "the interval would be" in found.reason


# ---------------------------------------------------------------- what a loss takes


def speed_runs() -> list[tuple[int, int, float]]:
    return [(n, d, d * (1e-5 + 1e-10 * n)) for n in SIZES for d in AMOUNTS]


def test_the_speed_of_runs() -> None:
    found = fit_speed(speed_runs())
    assert (found.start, found.slope, found.error) == pytest.approx((1e-5, 1e-10, 0.0), abs=1e-12)
    assert found.hours(50_000, 3_600_000) == pytest.approx(1000 * (1e-5 + 5e-6))
    slow = [(n, d, 1.2 * s if n == SIZE else s) for n, d, s in speed_runs()]
    assert 0.02 < fit_speed(slow).error < 0.1
    with pytest.raises(DataError, match="expected numbers above 0"):
        fit_speed([(10, 10, 0.0)])


def data_for(loss: float, size: float) -> float:
    """Returns the data with which the planted law has this loss."""
    return (20 * size**-0.08 / loss) ** 10


def test_a_planted_target(trend: Trend) -> None:
    """The grid of amounts has steps of 3 %, the trend is that of runs with a noise of 0.2 %, and data follow a loss to the power of -10."""
    loss = float(planted(2 * SIZE, 2 * DATA))
    found = ways_to(loss, trend, NARROW, fit_speed(speed_runs()), 2 * SIZE, DATA)
    more_data, larger, least = found.ways
    assert found.reason == ""
    assert more_data.parameters == Span(2 * SIZE, 2 * SIZE, 2 * SIZE)
    assert more_data.tokens.low < 2 * DATA < more_data.tokens.high
    assert more_data.tokens.middle == pytest.approx(data_for(loss, 2 * SIZE), rel=0.15)
    assert more_data.hours.middle == pytest.approx(more_data.tokens.middle * (1e-5 + 1e-10 * 2 * SIZE) / 3600, rel=1e-6)
    assert more_data.hours.low < more_data.hours.middle < more_data.hours.high
    assert larger.tokens == Span(DATA, DATA, DATA)
    assert larger.parameters.middle > 2 * SIZE
    assert least.hours.middle <= min(more_data.hours.middle, larger.hours.middle) * 1.05
    assert planted(least.parameters.middle, least.tokens.middle) == pytest.approx(loss, rel=0.02)


def test_targets_out_of_reach(trend: Trend) -> None:
    speed = fit_speed(speed_runs())
    far = ways_to(0.5 * planted(SIZE, DATA), trend, NARROW, speed, SIZE, DATA)
    assert far.ways == ()
    assert "least time: not reached within what was backtested, 4.0 times the size and 10.0 times the data" in far.reason
    further = ways_to(planted(SIZE, 20 * DATA), trend, NARROW, speed, SIZE, DATA)
    assert [way.name for way in further.ways] == ["least time"]
    assert further.reason.startswith("this size, more data and this data, another size: not reached")
    easy = ways_to(20.0, trend, NARROW, speed, SIZE, DATA)
    assert "ended at" in easy.reason
    assert ways_to(0.95 * planted(SIZE, DATA), fitted(0.08), NARROW, speed, SIZE, DATA).ways == ()


def test_a_target_that_only_the_better_end_reaches(trend: Trend) -> None:
    loss = float(planted(SIZE, 9.5 * DATA))
    wide = dataclasses.replace(NARROW, k=6.0)
    way = ways_to(loss, trend, wide, fit_speed(speed_runs()), SIZE, DATA).ways[0]
    assert way.tokens.low < 10 * DATA
    assert math.isinf(way.tokens.high)
    assert math.isinf(way.hours.high)
