"""What a comparison starts from: its cotangents, the sizes of inner values, and the rounding of the first difference."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.verify import gradcheck
from tinylm.verify.columns import Comparison
from tinylm.verify.jacobians import STEP, Problem

HALF = tinylm.op(lambda x, /: (x * x, lambda dy: (dy * x,)))
WAVES = tinylm.op(lambda x, /: (np.sin(x * 1e4) * 1e-4, lambda dy: (dy * np.cos(x * 1e4),)))


def comparison(fn, x, mode):
    x = Tensor(np.array(x), requires_grad=True)
    return Comparison(Problem(lambda: fn(x), [("x", x)]), 1e-6, mode, np.random.default_rng(0))


@pytest.mark.parametrize("mode", ["full", "directions"])
def test_the_largest_inner_value_counts_as_often_as_the_cotangent_has_it(mode):
    found = comparison(lambda x: (x + 100) * 0.5, [1.0, 2.0, -3.0], mode)
    np.testing.assert_allclose(found.largest, 102 * np.linalg.norm(found.cotangents, axis=1))


def test_outputs_that_are_zero_and_stay_zero_need_no_cotangents_of_their_own():
    x = [1.0, 2.0, -3.0]
    still = comparison(lambda x: tinylm.concatenate([x, x * 0]), x, "directions")
    assert set(still.groups) == {0}
    assert still.cotangents.all()
    constant = comparison(lambda x: tinylm.concatenate([x, x * 0 + 1]), x, "directions")
    assert set(constant.groups) == {0, 1}


def test_the_first_difference_is_as_uncertain_as_the_rounding_of_its_values():
    """4 ε |f| / h where it does not agree with the tape; a row of random outputs has the rounding of its sum."""
    x = np.array([1.0, 2.0, -3.0])
    full = comparison(HALF, x, "full")
    np.testing.assert_allclose(np.diag(full.blocks[0].doubt), 4 * np.finfo(float).eps * x**2 / STEP, rtol=1e-4)
    sums = comparison(HALF, x, "directions")
    expected = 4 * np.finfo(float).eps * np.sqrt(sums.cotangents**2 @ x**4) / STEP
    np.testing.assert_allclose(sums.blocks[0].doubt, np.broadcast_to(expected[:, None], sums.blocks[0].doubt.shape), rtol=1e-4)


def test_random_directions_without_kinks_are_measured_at_many_steps_as_well():
    """The first step is too wide for sin(10⁴ x): its difference is off by 6·10⁻⁴."""
    report = gradcheck(lambda x: tinylm.relu(x) + WAVES(x), np.array([0.0, 1.0, 1.3, 0.7]), mode="directions")
    assert report.ok, report
    assert report.remarks == ("x: 1 of 4 elements left out, since the point looks non-differentiable there: [0]",)
