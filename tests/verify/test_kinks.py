"""Points without a derivative are left out and named; a wrong gradient next to them still fails."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.verify import gradcheck
from tinylm.verify.jacobians import STEP, Problem
from tinylm.verify.kinks import has_kink, kinks_of

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
    assert report.remarks == ("x: 1 of 3 elements left out, since the point looks non-differentiable there: [0]",)
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
    assert [row.name for row in report.failures] == ["b"]


def test_many_kinks_are_counted():
    x = np.where(np.arange(40).reshape(5, 8) % 7 == 0, 0.0, 1.0)
    (remark,) = gradcheck(tinylm.relu, x).remarks
    assert remark.startswith("x: 6 of 40 elements left out")
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


def bent(slope, at=0.0):
    """A line of slope 1 that is steeper by `slope` beyond a part of the step."""
    return lambda s: s + slope * max(s - at * STEP, 0.0)


@pytest.mark.parametrize(
    ("f", "kinked"),
    [
        (lambda s: s, False),
        (lambda s: s * s, False),
        (lambda s: 0.0, False),
        (abs, True),
        (bent(1.0), True),
        (bent(1.1e-6), True),  # from a millionth of the slope on
        (bent(0.9e-6), False),
        (bent(1.0, at=0.01), True),  # also beside the point, within the step
        (bent(1.0, at=0.4), True),
        (bent(1.0, at=1.01), False),
        (lambda s: bent(1.0, at=0.4)(-s), True),
        (lambda s: 1.0 if s > 0 else 0.0, True),  # a jump
        (lambda s: np.nan if s > 0.9 * STEP else s, True),  # the edge of the domain
        (lambda s: np.inf if s < -0.9 * STEP else s, True),
        (lambda s: np.nan, False),  # no value at all
        (lambda s: s + 1e-10 * (s > 0), True),
        (lambda s: 1e3 + s + 1e-10 * (s > 0), False),  # 1000 ε, less than the rounding of the values
        (lambda s: 1e3 + s + 1.2e-10 * (s > 0), True),
        (lambda s: abs(s) ** 1.5, False),  # the gap of its slopes shrinks by 0.7
        (lambda s: abs(s) ** 1.3, True),  # by 0.8
        (lambda s: s + np.sign(s) * abs(s / STEP) ** 1.6 * STEP, True),  # its odd part shrinks with half the step by 0.66
        (lambda s: s + np.sign(s) * abs(s / STEP) ** 2.2 * STEP, False),  # by 0.44
        (lambda s: s + (s / STEP) ** 3 * STEP, False),  # by 1/4
        (lambda s: s + np.sign(s) * abs(s / STEP) ** 3.9 * STEP, False),  # by 0.134
        (lambda s: s + np.sign(s) * abs(s / STEP) ** 4.1 * STEP, True),  # by 0.117: of no smooth function
    ],
)
def test_what_looks_like_a_kink(f, kinked):
    assert has_kink(lambda s: np.array([f(s)])) is kinked
    assert has_kink(lambda s: np.array([0.5 * s, f(s), np.nan])) is kinked, "one output is enough"


def elements_at_kinks(x, fn):
    x = Tensor(x, requires_grad=True)
    problem = Problem(lambda: fn(x), [("x", x)])
    return kinks_of(problem, 0, np.random.default_rng(0))


@pytest.mark.parametrize("places", [[], [0], [6], [0, 6], [2, 3, 4], [1, 5], list(range(7))])
def test_the_elements_at_kinks_are_found(places):
    x = np.arange(1.0, 8)
    x[places] = 0
    assert elements_at_kinks(x, tinylm.relu) == places
    assert elements_at_kinks(x.reshape(7, 1), tinylm.relu) == places


def test_the_search_for_kinks_ends_after_64():
    assert elements_at_kinks(np.zeros(64), tinylm.relu) == list(range(64))
    assert elements_at_kinks(np.zeros(70), tinylm.relu) == list(range(64))
    assert elements_at_kinks(np.zeros(0), tinylm.relu) == []
