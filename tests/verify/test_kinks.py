"""Points without a derivative are left out and named; a wrong gradient next to them still fails."""

import numpy as np
import pytest

import tinylm
from tinylm.verify import gradcheck
from tinylm.verify.jacobians import STEP
from tinylm.verify.kinks import has_kink

BOTH = pytest.mark.parametrize("mode", ["full", "directions"])
AT_A_KINK = np.array([0.0, 1.0, -1.0])
BESIDE_A_KINK = np.array([3e-6, 1.0, -1.0])


@tinylm.op
def relu_with_a_wrong_slope(x, /):
    return np.maximum(x, 0), lambda dy: (dy * (x > 0) * 1.001,)


@BOTH
@pytest.mark.parametrize("fn", [tinylm.relu, tinylm.sign])
def test_kinks_and_jumps_are_not_failures(fn, mode):
    report = gradcheck(fn, AT_A_KINK, mode=mode)
    assert report.ok, report
    assert report.remarks == ("argument 0: 1 of 3 elements left out, since the point looks non-differentiable there: [0]",)
    assert "non-differentiable" in str(report)


@BOTH
def test_beside_a_kink_the_step_is_small_enough(mode):
    """Nothing is left out: a step is a part of the element that moves."""
    report = gradcheck(tinylm.relu, BESIDE_A_KINK, mode=mode, thorough=True)
    assert report.ok, report
    assert report.remarks == ()
    assert report.error < 1e-8
    assert not gradcheck(relu_with_a_wrong_slope, BESIDE_A_KINK, mode=mode).ok


@BOTH
def test_a_wrong_gradient_beside_a_kink_still_fails(mode):
    report = gradcheck(relu_with_a_wrong_slope, AT_A_KINK, mode=mode)
    assert not report.ok
    assert report.error == pytest.approx(1e-3, rel=0.05)
    assert "non-differentiable there: [0]" in str(report)
    assert "a factor of 1.001" in report.failures[0].cause


@BOTH
def test_a_jump_of_one_argument_does_not_hide_a_wrong_gradient_of_another(mode):
    """The difference across a jump is of the order 1/h: it must not make all other errors look small."""
    report = gradcheck(lambda a, b: tinylm.sign(a) + relu_with_a_wrong_slope(b), AT_A_KINK, np.array([1.0, 2.0, 3.0]), mode=mode)
    assert [row.name for row in report.failures] == ["argument 1"]


def test_many_kinks_are_counted():
    x = np.where(np.arange(40).reshape(5, 8) % 7 == 0, 0.0, 1.0)
    (remark,) = gradcheck(tinylm.relu, x).remarks
    assert remark.startswith("argument 0: 6 of 40 elements left out")
    assert remark.endswith("[0, 0], [0, 7], [1, 6], [2, 5], ...")


def test_a_kink_at_which_differences_agree_with_the_tape_is_found_when_thorough():
    x = np.array([1.0, 0.0])  # |x|: the central difference at 0 is 0, and so is the tape's sign(0)
    assert gradcheck(tinylm.abs, x).remarks == ()
    assert "non-differentiable there: [1]" in gradcheck(tinylm.abs, x, thorough=True).remarks[0]


def test_the_edge_of_a_domain():
    near = gradcheck(tinylm.sqrt, np.array([1.0, 1e-7]))
    assert near.ok, near
    assert near.remarks == ()
    report = gradcheck(tinylm.sqrt, np.array([1.0, 0.0]))
    assert report.ok, report
    assert "non-differentiable there: [1]" in report.remarks[0]


@pytest.mark.parametrize("x", [np.array([100.0, 1e-3]), np.array([0.05, 3.0]), np.array([-40.0, 40.0])])
@pytest.mark.parametrize("fn", [lambda x: x * x * x, lambda x: tinylm.exp(x) * 1e-9, lambda x: tinylm.tanh(50 * x), lambda x: 1 / x])
def test_strong_curvature_is_not_called_a_kink(fn, x):
    assert gradcheck(fn, x, thorough=True, tolerance=1e-4).remarks == ()


@pytest.mark.parametrize(("millionths", "kinked"), [(0.9, False), (1.2, True), (5, True)])
def test_a_bend_counts_from_a_millionth_of_the_slope_on(millionths, kinked):
    """An odd function of slope 1 up to half a step, and at the whole step steeper by so many millionths."""
    assert has_kink(lambda s: np.array([s * (1 + millionths * 1e-6 * (abs(s) > 0.9 * STEP))])) is kinked
    assert not has_kink(lambda s: np.array([s + millionths * 1e4 * s**3])), "smooth"
