"""A function that gives other results each time is told apart from one with a wrong gradient."""

import itertools

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.verify import gradcheck
from tinylm.verify.determinism import single_within, trespasses
from tinylm.verify.jacobians import Problem


def failures(op):
    report = gradcheck(op, np.array([1.0, 2.0, 3.0]))
    return {row.name: row for row in report.failures}


def test_a_random_forward():
    rng = np.random.default_rng(0)

    @tinylm.op
    def noisy(x, /):
        noise = 1 + 0.01 * rng.standard_normal(x.shape)
        return x * noise, lambda dy: (dy * noise,)

    found = failures(noisy)
    assert 1e-3 < found["values of two runs"].error < 0.1
    assert "not deterministic" in found["values of two runs"].detail
    assert found["x"].cause == "not repeatable, see below"


def test_a_random_backward_is_measured():
    rng = np.random.default_rng(0)

    @tinylm.op
    def noisy(x, /):
        return x * 1.0, lambda dy: (dy * (1 + 1e-4 * rng.standard_normal(x.shape)),)

    found = failures(noisy)
    assert "values of two runs" not in found
    assert 1e-5 < found["gradients of two runs"].error < 1e-3


def test_a_vjp_that_spoils_what_it_captured():
    @tinylm.op
    def doubled(x, /):
        slope = np.full(x.shape, 2.0)

        def vjp(dy):
            slope[...] *= 1.5
            return (dy * slope,)

        return 2 * x, vjp

    found = failures(doubled)
    assert found["gradients of two backward passes through one graph"].error == pytest.approx(1 / 3, rel=0.1)


def test_a_function_that_writes_into_its_argument():
    @tinylm.op
    def clipped(x, /):
        x[x > 2] = 2.0
        return x * 1.0, lambda dy: (dy,)

    assert "writes into its arguments" in failures(clipped)["arguments before and after"].detail


def test_rounding_that_differs_is_shown_and_passes():
    times = itertools.count()

    @tinylm.op
    def almost(x, /):
        y = x * (1 + 1e-15 * (next(times) % 2))
        return y, lambda dy: (dy,)

    report = gradcheck(almost, np.array([1.0, 2.0]))
    assert report.ok, report
    (row,) = [row for row in report.rows if row.name == "values of two runs"]
    assert 0 < row.error < 1e-14


@pytest.mark.parametrize(
    ("gradient", "refused"),
    [
        (lambda dy, x: np.zeros(x.shape, np.float32), True),  # float32 is refused whatever it holds
        (lambda dy, x: np.zeros(x.shape), False),
        (lambda dy, x: (2 * x * dy).astype(np.float32).astype(np.float64), True),  # one small number does not excuse the others
        (lambda dy, x: np.full(x.shape, 2.0**-40), False),  # what rounding leaves of a zero
        (lambda dy, x: 2 * x * dy, False),
    ],
)
def test_gradients_with_the_digits_of_float32(gradient, refused):
    x = Tensor(np.array([0.7, -1.3, 1e-9]), requires_grad=True)
    function = tinylm.op(lambda x, /: (x * x, lambda dy: (gradient(dy, x),)))
    found = trespasses(Problem(lambda: function(x), [("x", x)]), np.array([0.3, 1.1, -0.9]))
    assert ["computes in float32" in row.detail for row in found] == [True] * refused


THIRD = 1 / 3


@pytest.mark.parametrize(
    ("gradient", "x", "named"),
    [
        ([1 + 2.0**-20, 1.0], [0.7, -1.3], True),  # at most 32 bits
        ([1 + 2.0**-31, 1.0], [0.7, -1.3], True),
        ([1 + 2.0**-32, 1.0], [0.7, -1.3], False),
        ([THIRD, 1 + 2.0**-20], [0.7, -1.3], False),  # all of them
        ([1 + 2.0**-12, 1.0], [0.7, -1.3], True),  # and more than 12 in one
        ([1 + 2.0**-11, 1.0], [0.7, -1.3], False),
        ([2.0, 0.0], [0.7, -1.3], False),
        ([1 + 2.0**-20, 0.7], [0.7, -1.3], False),
        ([1 + 2.0**-20, 2.0], [0.7, 1 + 2.0**-20], False),  # which is no given number
        ([1 + 2.0**-20, 2.0], [0.5, 1.25], False),  # and an argument has more
        ([1 + 2.0**-20, 0.9e-6], [0.7, -1.3], True),  # what is small beside 1 may have cancelled
        ([1 + 2.0**-20, 1.4e-6], [0.7, -1.3], False),
        ([2e6 + 2.0**-10, 1.1 * THIRD], [0.7, 1e6], True),  # or beside a given number
        ([2e6 + 2.0**-10, 3.1 * THIRD], [0.7, 1e6], False),
        ([1 + 2.0**-20, np.inf], [0.7, -1.3], True),
    ],
)
def test_an_op_that_computes_in_float32_in_part(gradient, x, named):
    """By the digits of its gradient under ones."""
    given = tinylm.op(lambda x, /: (x * 1.0, lambda dy: (dy * np.array(gradient),)))
    given.op.name = "given"
    t = Tensor(np.array(x), requires_grad=True)
    found = single_within(Problem(lambda: given(t), [("x", t)]))
    assert found.startswith("given (") is named
    assert named or found == ""


def test_the_first_op_that_computes_in_float32_is_named_whatever_the_outer_gradient():
    one = tinylm.op(lambda x, /: (x * 1.0, lambda dy: (dy * (1 + 2.0**-20),)))
    one.op.name = "one"
    t = Tensor(np.array([0.7, -1.3]), requires_grad=True)
    problem = Problem(lambda: tinylm.exp(one(t) * 0.3) * THIRD, [("x", t)])
    assert single_within(problem).startswith("one (")
    assert single_within(Problem(lambda: tinylm.exp(t) * THIRD, [("x", t)])) == ""


@pytest.mark.parametrize("refused", [np.float32, np.float64])
def test_gradients_in_float32_count_unless_what_came_in_is_so_too(refused):
    """Of an incoming gradient with the digits of float32, or of a float32 argument, nothing else is expected."""
    function = tinylm.op(lambda x, /: (x * 1.0, lambda dy: ((dy * 0.1).astype(np.float32).astype(refused),)))
    t = Tensor(np.array([0.7, -1.3, 2.0]), requires_grad=True)
    problem = Problem(lambda: function(t), [("x", t)])
    assert [row.name for row in trespasses(problem, np.array([0.3, 1.1, -0.9]))] == ["gradient of <lambda>"]
    assert trespasses(problem, np.array([0.5, 1.0, -2.0])) == []
    small = tinylm.op(lambda x, /: (x * 1.0, lambda dy: (np.full(3, 0.9e-6 * 1.1).astype(np.float32).astype(np.float64),)))
    large = tinylm.op(lambda x, /: (x * 1.0, lambda dy: (np.full(3, 1.1e-6 * 1.1).astype(np.float32).astype(np.float64),)))
    for op, count in ((small, 0), (large, 1)):
        assert len(trespasses(Problem(lambda op=op: op(t), [("x", t)]), np.array([0.3, 1.1, -0.9]))) == count
