"""What is gathered on a wrong gradient, and what explains it."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.verify import gradcheck
from tinylm.verify.diagnosis import evidence
from tinylm.verify.diagnosis.paths import detached
from tinylm.verify.jacobians import Problem


@tinylm.op
def two_outputs(x, /):
    """x² and x³, whose second gradient is not used."""
    return (x * x, x * x * x), lambda dy, dz: (2 * dy * x,)


def gathered(function, x, without=(), **how):
    x = Tensor(np.array(x), requires_grad=True)
    problem = Problem(lambda: function(x), [("x", x)])
    return evidence.gathered(problem, problem.taped(), 0, list(without), np.random.default_rng(0), gradcheck, **how)


def test_the_right_and_the_wrong_gradient():
    e = gathered(two_outputs, [1.0, 2.0, -1.0], without=[1])
    assert e.cotangents.shape == (3, 6)
    c, x = e.cotangents, np.array([1.0, 0.0, -1.0])
    np.testing.assert_allclose(e.wrong, c[:, :3] * 2 * x, atol=1e-12)
    np.testing.assert_allclose(e.right, c[:, :3] * 2 * x + c[:, 3:] * 3 * np.abs(x), atol=1e-8)
    assert e.output_parts() == [(slice(0, 3), (3,)), (slice(3, 6), (3,))]
    np.testing.assert_array_equal(e.vjp(c, np.zeros((6, 3))), np.zeros((3, 3)))


def test_an_explanation_is_exact_to_two_thousandths_of_the_error():
    e = gathered(two_outputs, [1.0, 2.0, -1.0])
    error = e.right - e.wrong
    assert e.explains(e.wrong)
    assert e.explains(e.wrong + 0.00199 * error)
    assert not e.explains(e.wrong + 0.00201 * error)


def test_a_jacobian_is_measured_unless_it_is_given_or_too_large(monkeypatch):
    given = np.arange(18.0).reshape(6, 3)
    assert gathered(two_outputs, [1.0, 2.0, -1.0], jacobian=given).jacobian is given
    for most, found in ((18, True), (17, False)):
        monkeypatch.setattr(evidence, "_MOST", most)
        assert (gathered(two_outputs, [1.0, 2.0, -1.0]) is not None) is found


@pytest.mark.parametrize("used", [0, 1])
def test_the_output_whose_gradient_is_not_used(used):
    @tinylm.op
    def one_used(x, /):
        return (x * x, x * x * x), lambda dy, dz: ((2 * dy * x, 3 * dz * x * x)[used],)

    assert detached(gathered(one_used, [1.0, 2.0])) == f"detached term: the gradient of output {1 - used} is not used"


def test_a_detach_is_the_cause_only_if_the_gradient_is_right_without_it():
    cause = detached(gathered(lambda x: x * x.detach(), [1.0, 2.0]))
    assert cause.startswith("detached term: right without the detach() at ")
    assert cause.endswith(
        f"test_evidence.py:{test_a_detach_is_the_cause_only_if_the_gradient_is_right_without_it.__code__.co_firstlineno + 1}"
    )
    assert detached(gathered(lambda x: two_outputs(x)[1] + x.detach() * 0.0, [1.0, 2.0])) is None


def test_the_intermediate_value_that_is_held_constant():
    @tinylm.op
    def normalised(x, /):
        total = tinylm.engine.arrays.array_module(x).sum(x)
        return x / total, lambda dy: (dy / total,)

    e = gathered(normalised, [1.0, 2.0, 4.0])
    assert detached(e).startswith("detached term: the sum at ")
