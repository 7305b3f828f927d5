"""A Jacobian by the tape, along lines and by differences."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.errors import ConfigError
from tinylm.verify.finite_differences import SINGLE_TOLERANCE, TOLERANCES, Settings
from tinylm.verify.jacobians import STEP, Problem, SecondOrder, flatten, gradients, unit_vectors


def problem(call, *xs, **how):
    return Problem(lambda: call(*xs), [(f"x{i}", x) for i, x in enumerate(xs)], **how)


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


def test_several_outputs_are_one_vector():
    a, b = leaf([1.0, 2.0], [3.0, 4.0]), leaf(5.0)
    y = flatten([a, b])
    np.testing.assert_array_equal(y.numpy(), [1, 2, 3, 4, 5])
    da, db = gradients(y, [a, b], np.array([10.0, 20, 30, 40, 50]))
    np.testing.assert_array_equal(da.numpy(), [[10, 20], [30, 40]])
    np.testing.assert_array_equal(db.numpy(), [50])


def test_what_takes_no_part_has_the_gradient_zero():
    a, b = leaf(1.0, 2.0), leaf(3.0)
    for y in (a * 2, Tensor(np.ones(2))):
        np.testing.assert_array_equal(gradients(y, [b], np.ones(2))[0].numpy(), [0])


def test_sizes_that_steps_are_a_part_of():
    """A zero, or what is not finite, counts as the median of the others; 1 if there are none."""
    p = problem(lambda a, b: a.sum() + b.sum(), leaf(4.0, 0.0, -2.0, np.inf, 8.0), leaf(0.0, 0.0))
    assert p.typical == [4.0, 1.0]
    np.testing.assert_array_equal(p.scales[0], [4, 4, 2, 4, 8])
    np.testing.assert_array_equal(p.scales[1], [1, 1])
    assert pytest.approx(6.06e-6, rel=1e-3) == STEP


def test_the_jacobian_by_differences():
    x = leaf(2.0, 0.0, -3.0)
    p = problem(lambda x: tinylm.concatenate([x * x, x.sum(keepdims=True)]), x)
    expected = np.concatenate([np.diag([4.0, 0, -6]), np.ones((1, 3))])
    np.testing.assert_allclose(p.measured(0), expected, atol=1e-9)
    np.testing.assert_array_equal(x.numpy(), [2, 0, -3])
    assert problem(lambda x: tinylm.concatenate([x, leaf(1.0)]), leaf()).measured(0).shape == (1, 0)


def test_a_line_moves_some_arguments_and_puts_them_back():
    a, b = leaf(1.0, 2.0), leaf(10.0)
    at = problem(lambda a, b: a * b, a, b).line({0: np.array([1.0, -1.0])})
    np.testing.assert_array_equal(at(0.5), [15, 15])
    np.testing.assert_array_equal(a.numpy(), [1, 2])
    np.testing.assert_allclose(problem(lambda a, b: a * b, a, b).slope({0: np.array([1.0, -1.0])}, 0.25), [10, -10])


def test_outside_its_domain_a_function_has_no_value_and_at_the_point_its_error():
    def positive(x):
        if (x.numpy() <= 0).any():
            raise ValueError("not positive")
        return x * 1.0

    at = problem(positive, leaf(1.0, 2.0)).line({0: np.ones(2)})
    np.testing.assert_array_equal(at(0.0), [1, 2])
    np.testing.assert_array_equal(at(-1.5), [np.nan, np.nan])
    with pytest.raises(ValueError, match="not positive"):
        problem(positive, leaf(-1.0)).line({})(0.0)
    with pytest.raises(ConfigError, match="no floating tensor"):
        problem(lambda x: None, leaf(1.0)).value()


def test_single_precision_is_recorded_and_doubles_come_back():
    x = leaf(0.1, 0.3)
    p = problem(lambda x: x * x, x, dtype="float32")
    np.testing.assert_array_equal(x.numpy(), np.array([0.1, 0.3], np.float32).astype(np.float64))
    y = p.taped()
    assert (y.dtype, x.dtype) == (np.float32, np.float64)
    assert p.vjp(y, np.ones(2))[0].dtype == np.float64


def test_second_order_has_the_shapes_of_its_gradients_and_no_values_outside_the_domain():
    def logarithm(x):
        if (x.numpy() <= 0).any():
            raise ValueError("not positive")
        return tinylm.log(x).sum()

    x = leaf(1.0, 2.0, 3.0)
    second = SecondOrder(lambda: logarithm(x), [("x", x)], np.random.default_rng(0))
    at = second.line({0: np.ones(3)})
    c = second.cotangent.numpy()
    np.testing.assert_allclose(at(0.0), np.r_[c / [1, 2, 3]])
    assert second.shapes == [(3,)]
    np.testing.assert_array_equal(at(-2.0), [np.nan] * 3)


def test_unit_vectors():
    np.testing.assert_array_equal(list(unit_vectors(leaf([1.0], [2.0]))), [[[1], [0]], [[0], [1]]])


def test_settings_and_the_tolerance_that_they_allow():
    assert (TOLERANCES, SINGLE_TOLERANCE) == ({1: 1e-6, 2: 1e-5}, 1e-5)
    assert Settings() == Settings(mode=None, order=1, tolerance=None, seed=0, thorough=False, taped_in="float64")
    allowed = [Settings(), Settings(order=2), Settings(taped_in="float32"), Settings(tolerance=0.0), Settings(order=2, tolerance=0.5)]
    assert [how.allowed for how in allowed] == [1e-6, 1e-5, 1e-5, 0.0, 0.5]
    for wrong in ({"mode": "both"}, {"order": 0}, {"order": 3}, {"taped_in": "float16"}, {"taped_in": "float32", "order": 2}):
        with pytest.raises(ConfigError, match="gradcheck"):
            Settings(**wrong)
