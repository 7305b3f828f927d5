"""A wrong gradient fails, and the report names the likely cause."""

import numpy as np
import pytest
from broken_gradients import BROKEN

import tinylm
from tinylm.engine.arrays import array_module, constant
from tinylm.verify import gradcheck


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def causes(report):
    return "; ".join(row.cause for row in report.failures)


@pytest.mark.parametrize("mode", ["full", "directions"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_gradient_fails_and_its_cause_is_named(name, mode):
    op, args, words = BROKEN[name]
    report = gradcheck(op, *args, mode=mode)
    assert not report.ok
    for word in words:
        assert word in causes(report), report
    assert f"likely cause: {report.failures[0].cause}" in str(report)


def test_twelve_ways_and_more():
    assert len(BROKEN) >= 12


def test_the_wrong_op_of_a_composed_function_is_named(rng):
    wrong = BROKEN["square_without_its_two"].op
    report = gradcheck(lambda x: tinylm.exp(wrong(tinylm.tanh(x))).sum(), rng.standard_normal(4))
    assert "the op square_without_its_two (" in causes(report)
    assert "test_causes.py:" in causes(report)
    assert "a factor of 0.5" in causes(report)


def test_a_detach_is_found_with_its_line(rng):
    report = gradcheck(lambda x: tinylm.exp(x) * tinylm.softmax(x).detach(), rng.standard_normal((2, 3)))
    assert "detached term: right without the detach() at " in causes(report)
    assert "test_causes.py:" in causes(report)


def test_the_whole_detached(rng):
    assert "the gradient is 0 everywhere" in causes(gradcheck(lambda x: tinylm.exp(x.detach()) * 2, rng.standard_normal(3)))


def test_a_value_held_constant_in_the_vjp_shows_in_second_order(rng):
    @tinylm.op
    def squared(x, /):
        return x * x, lambda dy: (2 * dy * constant(x),)

    x = rng.standard_normal(3)
    assert gradcheck(squared, x).ok
    assert "the vjp computes with a value that has no graph" in causes(gradcheck(squared, x, order=2))


def test_a_gradient_that_is_not_finite(rng):
    @tinylm.op
    def doubled(x, /):
        return 2 * x, lambda dy: (dy * np.nan,)

    assert "not finite" in causes(gradcheck(doubled, rng.standard_normal(3)))


def test_what_no_hypothesis_explains_has_no_cause(rng):
    doubled = tinylm.op(lambda x, /: (2 * x, lambda dy: (2 * dy + np.cos(np.arange(5)) * dy[::2].sum(),)))
    report = gradcheck(doubled, rng.standard_normal(5))
    assert not report.ok
    assert causes(report) == ""
    assert "likely cause" not in str(report)
    assert "observed: all 5 elements wrong" in str(report)


def test_a_mean_over_an_axis_that_is_not_broadcast_divides_once_too_often(rng):
    """(5,) does not broadcast to (5, 2), although each element is used twice; to (2, 5) it does."""

    @tinylm.op
    def columns(x, /):
        xp = array_module(x)
        return xp.stack([x, x * 2], axis=1), lambda dy: (((dy[:, 0] + 2 * dy[:, 1]) / 2),)

    @tinylm.op
    def rows(x, /):
        xp = array_module(x)
        return xp.stack([x, x * 2]), lambda dy: (((dy[0] + 2 * dy[1]) / 2),)

    x = rng.standard_normal(5)
    found = causes(gradcheck(columns, x))
    assert "1/2" in found
    assert "it divides once too often" in found
    assert "missing un-broadcast: a mean where a sum belongs" in causes(gradcheck(rows, x))


@pytest.mark.parametrize(("index", "only"), [(0, True), (0, False), (2, True), (2, False)])
def test_a_slice_that_arrives_alone_or_is_missing_is_named(rng, index, only):
    def vjp(dy):
        return (dy[index] if only else dy.sum(0) - dy[index],)

    rows = tinylm.op(lambda x, /: (np.broadcast_to(x, (3, 2)).copy(), vjp))
    which = f"{'only' if only else 'all but'} index {index} of axis 0 of output 0 arrives, and not the sum over its 3"
    assert which in causes(gradcheck(rows, rng.standard_normal(2)))
