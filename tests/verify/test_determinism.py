"""A function that gives other results each time is told apart from one with a wrong gradient."""

import itertools

import numpy as np
import pytest

import tinylm
from tinylm.verify import gradcheck


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
    assert found["argument 0"].cause == "not repeatable, see below"


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
