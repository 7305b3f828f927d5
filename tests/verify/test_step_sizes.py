"""The error at many step sizes, and the choice of one."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.verify import gradcheck
from tinylm.verify.jacobians import Problem
from tinylm.verify.step_sizes import STEPS, error_curve


def test_the_curve_of_a_right_gradient_falls_and_rises_again():
    report = gradcheck(tinylm.exp, np.array([0.5, -1.0]), thorough=True)
    assert [h for h, _ in report.curve] == list(STEPS)
    errors = dict(report.curve)
    wide, narrow = STEPS[0], STEPS[-1]
    assert errors[wide] > 1e-5
    assert errors[narrow] > 1e-8
    assert min(errors.values()) < 1e-9
    assert narrow < report.best_step < wide
    assert errors[STEPS[0]] / errors[STEPS[2]] == pytest.approx(100, rel=0.1)  # h²


def test_the_curve_of_a_wrong_gradient_is_flat():
    @tinylm.op
    def doubled(x, /):
        return 2 * x, lambda dy: (2.02 * dy,)

    errors = [e for _, e in gradcheck(doubled, np.ones(3), thorough=True).curve]
    assert np.allclose(errors, 0.02 / 2.02, rtol=1e-3)


def test_the_steps_and_an_expected_change_of_zero():
    """The error is relative to cᵀ J u, where that is not zero. What is left out does not move."""
    assert pytest.approx([10 ** (-n / 2) for n in range(2, 21)]) == STEPS
    assert [e for _, e in gradcheck(lambda x: x * 0, np.ones(2), thorough=True).curve] == [0.0] * 19
    x = Tensor(np.array([1.0, -2.0, 3.0]), requires_grad=True)
    problem = Problem(lambda: x * 2, [("x", x)])
    c, half = np.array([1.0, 2.0, -1.0]), [np.array([1.0, 2.0, -1.0])]  # half of cᵀ J
    whole = [2 * half[0]]
    for vjp, expected in ((whole, 0.0), (half, 1.0)):
        found = error_curve(problem, vjp, c, {0: [1]}, np.random.default_rng(0))
        np.testing.assert_allclose([e for _, e in found], expected, atol=1e-5)
    zero = error_curve(problem, [np.zeros(3)], c, {0: [0, 1]}, np.random.default_rng(0))
    third = np.random.default_rng(0).standard_normal(3)[2] * 3
    np.testing.assert_allclose([e for _, e in zero], abs(2 * third), rtol=1e-5)


def test_without_thorough_there_is_no_curve():
    report = gradcheck(tinylm.exp, np.ones(2))
    assert report.curve == ()
    assert np.isnan(report.best_step)


@pytest.mark.parametrize("scale", [1e-3, 1e6])
def test_the_step_follows_the_scale_of_the_function(scale):
    """sin(x / scale) with x of that size: a step size of 6e-6 is far too large for one and too small for the other."""

    @tinylm.op
    def sine(x, /):
        return np.sin(x / scale), lambda dy: (dy * np.cos(x / scale) / scale,)

    @tinylm.op
    def wrong(x, /):
        return np.sin(x / scale), lambda dy: (dy * np.cos(x / scale) / scale * 1.0001,)

    x = np.array([0.3, 1.1, 2.0]) * scale
    assert gradcheck(sine, x).ok
    report = gradcheck(wrong, x)
    assert report.error == pytest.approx(1e-4, rel=0.01)
