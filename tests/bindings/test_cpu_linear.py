"""Linear layers on the CPU against the reference in float64."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from kernel_helpers import assert_agrees, assert_declines, assert_same_whatever_the_layout, linear_inputs, without

from tinylm.bindings.cpu import linear
from tinylm.bindings.cpu.library import Library

pytestmark = pytest.mark.usefixtures("cpu")

ACTIVATIONS = [None, "relu", "gelu", "silu", "sigmoid"]
SHAPES = [((1, 3), 9), ((7,), 5), ((6, 4), 1), ((3, 5), 100), ((2, 3, 8), 33), ((2, 3), 4097), ((0, 4), 5), ((3, 0), 4), ((700, 2), 33)]
SHAPES += [((200, 900), 300), ((300, 400), 260)]  # several blocks of each kind
SHAPES += [((4, 500), 70), ((5, 500), 70), ((16, 500), 70), ((17, 500), 70)]  # few rows, and one row more


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
def test_linear(shape: tuple[int, ...], outputs: int, activation: str | None) -> None:
    assert_agrees("linear", *linear_inputs(shape, outputs), device="cpu", activation=activation)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 40), max_size=2),
    st.integers(4, 70),  # a gradient of one number may cancel to nearly 0, and its norm is then no scale for errors
    st.integers(1, 70),
    st.sampled_from(ACTIVATIONS),
    st.sets(st.sampled_from([2, 3])),
    st.sampled_from([1, 2, 3, 5]),
)
def test_drawn_shapes(
    cpu: Library, lead: list[int], width: int, outputs: int, activation: str | None, absent: set[int], threads: int
) -> None:
    assume(activation is None or math.prod(lead) * outputs > 1)  # a single number may lie in a tail, where its gradient cancels
    cpu.functions["pool_size"](threads)
    arrays = without(linear_inputs((*lead, width), outputs), *absent)
    assert_agrees("linear", *arrays, device="cpu", drawn=True, activation=activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_absent_arrays(activation: str | None) -> None:
    arrays = linear_inputs((4, 6), 37)
    for absent in ((2,), (3,), (2, 3)):
        assert_agrees("linear", *without(arrays, *absent), device="cpu", activation=activation)


@pytest.mark.parametrize("activation", [None, "silu"])
def test_a_frozen_weight_and_bias_have_no_gradient(activation: str | None) -> None:
    found = assert_agrees("linear", *linear_inputs((4, 6), 37), device="cpu", activation=activation, frozen=True)
    assert set(found) == {"output 0", "gradient 0", "gradient 3"}


@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
def test_far_from_zero(activation: str) -> None:
    """Activations neither overflow nor lose their tails."""
    x = np.array([[-100.0], [-20], [-5], [0], [5], [20], [100]])
    assert_agrees("linear", x, np.ones((1, 1)), np.zeros(1), None, device="cpu", activation=activation)


def test_a_bias_gradient_over_many_rows_keeps_its_digits() -> None:
    """A plain sum in float32 of 300,000 numbers about 1 would be off by more than 10⁻⁵."""
    x, weight, bias, _ = linear_inputs((300_000, 1), 3)
    _, vjp = linear.linear(*(a.astype(np.float32) for a in (x, weight, bias)))
    dy = np.random.default_rng(0).uniform(0.5, 1.5, (300_000, 3)).astype(np.float32)
    np.testing.assert_allclose(vjp(dy)[2], dy.sum(axis=0, dtype=np.float64), rtol=1e-6)


def test_broadcast_residuals_are_left_to_the_reference() -> None:
    x, weight, bias, residual = linear_inputs((4, 6), 5)
    assert_declines("linear", x, weight, bias, residual[:1], device="cpu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_and_infinity_pass(activation: str | None) -> None:
    x = np.zeros((40, 3), np.float32)
    x[1, 0], x[5, 1], x[7, 2] = np.nan, np.inf, -np.inf
    y, vjp = linear.linear(x, np.eye(3, dtype=np.float32), activation=activation)
    assert np.isnan(y[1]).all()  # NaN times a zero of the weight is NaN
    assert np.isnan(y).sum(axis=1).nonzero()[0].tolist() == [1, 5, 7]
    dy = np.ones((40, 3), np.float32)
    dy[9, 2] = np.nan
    dx, dweight, *_ = vjp(dy)
    assert np.isnan(dx[9]).all()
    assert np.isnan(dweight).any()
    y, _ = linear.linear(np.array([[np.inf]], np.float32), np.ones((1, 1), np.float32), activation=activation)
    assert y == (1 if activation == "sigmoid" else np.inf)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_other_layouts_and_a_second_backward_pass(activation: str | None) -> None:
    arrays: list[Any] = [a.astype(np.float32) for a in linear_inputs((50, 20), 30)]
    y, vjp = linear.linear(*arrays, activation=activation)
    turned_y, turned_vjp = linear.linear(*(np.asfortranarray(a) for a in arrays), activation=activation)
    np.testing.assert_array_equal(y, turned_y)
    assert_same_whatever_the_layout(y * 2 + 1, vjp, turned_vjp)


# ---------------------------------------------------------------- matmul

MATRICES = [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 20, 7), (2, 3, 7, 33)), ((5, 2, 3), (5, 3, 1)), ((1, 70, 600), (1, 600, 40))]
MATRICES += [((0, 2), (2, 3)), ((2, 0), (0, 3)), ((0, 2, 3), (0, 3, 4)), ((2, 3, 0), (0, 4))]


@pytest.mark.parametrize(("left", "right"), MATRICES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_matmul(cpu: Library, left: tuple[int, ...], right: tuple[int, ...], threads: int) -> None:
    cpu.functions["pool_size"](threads)
    rng = np.random.default_rng(len(left))
    assert_agrees("matmul", rng.standard_normal(left), rng.standard_normal(right), device="cpu")


def test_matmul_reads_transposes_in_place() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((3, 20, 20)).astype(np.float32).swapaxes(1, 2) for _ in range(2))
    y, vjp = linear.matmul(a, b)
    plain_y, plain_vjp = linear.matmul(a.copy(), b.copy())
    np.testing.assert_array_equal(y, plain_y)
    dy = rng.standard_normal(y.shape)
    for found, expected in zip(vjp(dy), plain_vjp(np.asfortranarray(dy.astype(np.float32))), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_other_products_are_left_to_the_reference() -> None:
    rng = np.random.default_rng(0)
    for left, right in [((4,), (4, 5)), ((3, 4), (4,)), ((3, 4), (2, 4, 5)), ((1, 3, 4), (2, 4, 5))]:
        assert_declines("matmul", rng.standard_normal(left), rng.standard_normal(right), device="cpu")
