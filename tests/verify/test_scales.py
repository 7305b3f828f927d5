"""Right gradients of every size pass, and wrong ones do not; what cannot be told is undecided."""

import collections
import itertools

import numpy as np
import pytest
from scaled_functions import FUNCTIONS, MISTAKES, SCALES, spoiled, verdict

import tinylm
from tinylm.verify import gradcheck

ORDERS = (1, 2)


def sweep(names, scales, seeds, mistake=None):
    """Returns the cases (function, scale, seed, order) by verdict."""
    found = collections.defaultdict(list)
    for case in itertools.product(names, scales, seeds, ORDERS):
        found[verdict(*case, mistake)[0]].append(case)
    return found


@pytest.mark.slow
def test_right_gradients_of_every_size_are_not_called_wrong():
    assert len(FUNCTIONS) >= 20
    found = sweep(FUNCTIONS, SCALES, range(4))
    assert found["wrong"] == []
    assert len(found["undecided"]) <= 0.05 * sum(map(len, found.values()))
    assert [case for case in found["undecided"] if 1e-3 <= case[1] <= 1e3] == []


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_never_called_right(mistake):
    found = sweep(FUNCTIONS, SCALES, range(4), mistake)
    assert found["ok"] == []
    assert len(found["wrong"]) > 0.95 * sum(map(len, found.values()))


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
@pytest.mark.parametrize("name", ["2 x", "x ** 3", "1 / x", "softmax", "cross entropy, saturated", "layer_norm"])
def test_some_of_them(name, scale):
    assert verdict(name, scale, 0, 1)[0] == "ok"
    assert verdict(name, scale, 0, 2)[0] == "ok"
    assert verdict(name, scale, 0, 1, "factor")[0] == "wrong"


X = np.array([0.7, -1.3, 2.1, -0.4])
NEAR_ZERO = np.array([1e-6, 2e-6, 1.5e-6])


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: 2 * x, X * 3e7),
        (lambda x: x * x, X * 1e10),
        (lambda x: (x * x).sum() + 1e7, X),
        (lambda x: (x + 1e8) - 1e8, X),
        (lambda x: x**3, X * 1e-8),
        (lambda x: x**3, X * 1e8),
        (lambda x: tinylm.softmax(x / 1e-4), X * 1e-4),
        (lambda x: 0.5 * x + x, X * 1e300),
        (lambda x: 0.5 * x + x, np.linspace(-1, 2, 300) * 1e300),
        (lambda x: tinylm.sqrt(tinylm.abs(x)), X * 1e300),
        (lambda x: x * x, X * 1e-140),
        (lambda x: 1 / x, NEAR_ZERO),
        (tinylm.log, NEAR_ZERO),
        (tinylm.sqrt, NEAR_ZERO),
        (tinylm.relu, NEAR_ZERO),
        (lambda x: tinylm.concatenate([x * 1e14, x]), X),
        (lambda x: tinylm.concatenate([x * 1e14, x + 1e14]), np.linspace(-1, 2, 300)),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_right_functions_far_from_one(function, x, order):
    """Each was once called wrong, or right although nothing had been compared."""
    report = gradcheck(function, x, order=order)
    assert report.ok, report
    wrong = spoiled("sign", order)
    assert gradcheck(lambda x: function(wrong(x)), x, order=order).verdict == "wrong"


@pytest.mark.parametrize("order", ORDERS)
def test_a_softmax_that_has_decided(order):
    """Its gradients are zero, and so are their differences."""
    report = gradcheck(lambda x: tinylm.softmax(x / 1e-4), X, order=order)
    assert report.ok, report


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e6])
def test_a_function_that_rounds_its_argument_away(scale):
    report = gradcheck(lambda x: (x + 1e8) - 1e8, X * scale)
    assert report.verdict in ("ok", "undecided"), report
    assert "wrong by itself" not in str(report)
    for mistake in MISTAKES:
        wrong = spoiled(mistake, 1)
        assert not gradcheck(lambda x, wrong=wrong: (wrong(x) + 1e8) - 1e8, X * scale).ok


def test_what_its_own_rounding_hides_is_undecided():
    """1e-25 by the tape, 0 by differences: the loss of a sure and right prediction is 0 in float64."""
    report = gradcheck(lambda x: tinylm.cross_entropy(x, np.array([1])), np.array([[1.0, 58.0, -1.0]]))
    assert report.verdict == "undecided"
    assert not report.ok
    assert report.failures == []
    assert "elements could be compared: rounding of the function's own values hides the derivative there" in str(report)


def test_values_that_vanish_are_undecided():
    """1e-400 is 0 in float64, and the gradient 2e-200 is not."""
    report = gradcheck(lambda x: x * x, X * 1e-200)
    assert report.verdict == "undecided"


@pytest.mark.parametrize("x", [np.array([1e200, -1e200]), np.array([np.nan, 1.0, np.inf])])
def test_values_that_are_not_finite_are_undecided(x):
    report = gradcheck(lambda x: x * x, x)
    assert report.verdict == "undecided"
    assert "not finite" in str(report)


def test_an_output_that_is_not_finite_does_not_hide_the_others():
    right = gradcheck(tinylm.exp, np.array([1.0, 2.0, 1e4]))
    assert right.ok, right
    assert "1 of 3 output elements are not finite, and left out" in right.remarks
    wrong = spoiled("factor", 1)
    assert gradcheck(lambda x: tinylm.exp(wrong(x)), np.array([1.0, 2.0, 1e4])).verdict == "wrong"
