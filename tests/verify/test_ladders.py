"""The derivative along a line by a ladder of steps, for functions whose derivative and rounding are known."""

import numpy as np
import pytest

from tinylm.verify.ladders import EPSILON, NEAR, Ladder, may_move_in_stairs

STAIR = 4 * EPSILON  # as low as rounding makes it, where the largest intermediate value is 1


def sized(size):
    """Returns rows for a function that gives changes; size: of its values."""
    return lambda change: (change, np.full(change.shape, size))


def climbed(f, *, size=0.0, largest=1.0):
    return Ladder(lambda s: np.array([f(s)]), sized(size), np.array([largest])).climb(NEAR)


@pytest.mark.parametrize("f", [np.expm1, lambda s: np.sin(20 * s) / 20, lambda s: np.tanh(8 * s) / 8])
def test_a_smooth_function_is_measured_to_ten_digits(f):
    """Steps that are too wide for it do not make the smaller ones uncertain."""
    found = climbed(f, size=1.0)
    assert abs(found.value[0] - 1) <= found.uncertainty[0] < 1e-10
    assert not found.kinked[0]


@pytest.mark.parametrize(("times", "uncertainty"), [(3.5, 1 / 3.5), (4.5, 4 / 4.5)])
def test_a_gap_of_more_than_four_roundings_is_a_kink(times, uncertainty):
    """s + a |s|: the one-sided differences are 2a apart. At step 6 that is so many times the rounding, which is four times
    larger at each smaller step. It counts as a kink, or the uncertainty is the rounding, of that step or the next one."""
    gap = 2.0**-9
    size = gap / times * NEAR[6] / (2 * EPSILON)
    found = climbed(lambda s: s + gap / 2 * abs(s), size=size)
    assert found.value[0] == 1
    assert found.uncertainty[0] == pytest.approx(gap * uncertainty, rel=1e-6)


def stairs(s):
    return np.round(s / (1.2 * NEAR[4])) * STAIR


def resting_line(s):
    """A line that stands still near 0, and nowhere else."""
    return s / NEAR[4] * STAIR if abs(s) > 0.9 * NEAR[4] else 0.0


def test_the_height_of_a_stair_is_rounding():
    """Every difference is uncertain by the height / h, and only where the function stands still beside the step as well."""
    found = climbed(stairs)
    assert found.uncertainty[0] >= STAIR / NEAR[1]
    assert abs(found.value[0] - STAIR / (1.2 * NEAR[4])) <= found.uncertainty[0]
    line = climbed(resting_line)
    assert line.value[0] == pytest.approx(STAIR / NEAR[4])
    assert line.uncertainty[0] < STAIR


def one_sided(s):
    return s * STAIR if s > 0 else -STAIR * (s < 0)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([stairs], True),
        ([resting_line, stairs], True),
        ([resting_line], False),
        ([resting_line, lambda s: 0.0], False),
        ([one_sided], False),
        ([lambda s: -one_sided(-s)], False),
    ],
)
def test_stairs_stand_still_on_both_sides_of_one_output_that_moves(outputs, expected):
    assert may_move_in_stairs(lambda s: np.array([f(s) for f in outputs]), sized(0.0), np.ones(len(outputs))) is expected
