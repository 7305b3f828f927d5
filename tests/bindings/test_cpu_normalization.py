"""Layer norm and RMS norm on the CPU against their references in float64."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_helpers import assert_agrees, assert_declines, assert_same_whatever_the_layout, norm_inputs, without

from tinylm.bindings.cpu import normalization
from tinylm.bindings.cpu.library import Library

pytestmark = pytest.mark.usefixtures("cpu")

SHAPES = [(1, 9), (7,), (3, 100), (2, 3, 33), (70, 32), (2, 4097), (0, 5), (700, 5)]
NAMES = ["layer_norm", "rms_norm"]


def arguments(name: str, shape: tuple[int, ...]) -> list[np.ndarray]:
    return norm_inputs(shape)[: 3 if name == "layer_norm" else 2]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_norms(name: str, shape: tuple[int, ...]) -> None:
    assert_agrees(name, *arguments(name, shape), device="cpu")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(NAMES),
    st.lists(st.integers(0, 50), max_size=2),
    st.integers(4, 70),
    st.sets(st.sampled_from([1, 2])),
    st.sampled_from([1, 2, 3, 5]),
)
def test_drawn_shapes(cpu: Library, name: str, lead: list[int], columns: int, absent: set[int], threads: int) -> None:
    cpu.functions["pool_size"](threads)
    assert_agrees(name, *without(arguments(name, (*lead, columns)), *absent), device="cpu", drawn=True)


def test_one_column() -> None:
    """Layer norm gives the bias. RMS norm gives ±1, whose slope depends on eps, which is large enough here to be seen."""
    x, weight, bias = norm_inputs((6, 1))
    assert_agrees("layer_norm", x, weight, bias, device="cpu")
    assert_agrees("rms_norm", x, weight, device="cpu", eps=0.5)


def test_absent_parameters_and_another_eps() -> None:
    x, weight, bias = norm_inputs((3, 40))
    for parameters in ((weight, None), (None, bias), (None, None)):
        assert_agrees("layer_norm", x, *parameters, device="cpu", eps=0.1)
    assert_agrees("rms_norm", x, None, device="cpu", eps=0.1)


def test_a_small_spread_around_a_large_mean() -> None:
    """The variance is computed from the differences from the mean, not as a difference of squares."""
    x, weight, bias = norm_inputs((4, 64))
    assert_agrees("layer_norm", x + 100, weight, bias, device="cpu")


def test_parameter_gradients_over_many_rows_keep_their_digits() -> None:
    """A plain sum in float32 of 300,000 numbers about 1 would be off by more than 10⁻⁵."""
    x, weight, bias = (a.astype(np.float32) for a in norm_inputs((300_000, 2)))
    _, vjp = normalization.layer_norm(x, weight, bias)
    dy = np.random.default_rng(0).uniform(0.5, 1.5, x.shape).astype(np.float32)
    np.testing.assert_allclose(vjp(dy)[2], dy.sum(axis=0, dtype=np.float64), rtol=1e-6)


def test_parameters_of_other_shapes_are_left_to_the_reference() -> None:
    x, weight, bias = norm_inputs((3, 4))
    assert_declines("layer_norm", x, weight[:1], bias, device="cpu")
    assert_declines("layer_norm", x, weight, bias[:1], device="cpu")
    assert_declines("rms_norm", x, weight[:1], device="cpu")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_pass(name: str, bad: float) -> None:
    """A row with a NaN or an infinity is NaN where the reference's row is, and no other row is affected."""
    x, *parameters = (a.astype(np.float32) for a in arguments(name, (5, 40)))
    x[2, 33] = bad
    y, vjp = getattr(normalization, name)(x, *parameters)
    dx, dweight, *_ = vjp(np.ones_like(x))
    everywhere = np.isnan(bad) or name == "layer_norm"  # x/∞ is 0
    assert np.isnan(y[2]).sum() == (40 if everywhere else 1)
    assert np.isnan(y).any(axis=1).nonzero()[0].tolist() == [2]
    assert np.isnan(dx).any(axis=1).nonzero()[0].tolist() == [2]
    assert np.isnan(dweight).any()


@pytest.mark.parametrize("name", NAMES)
def test_other_layouts_and_a_second_backward_pass(name: str) -> None:
    arrays: list[Any] = [a.astype(np.float32) for a in arguments(name, (50, 20))]
    kernel = getattr(normalization, name)
    y, vjp = kernel(*arrays)
    turned_y, turned_vjp = kernel(np.asfortranarray(arrays[0]), *(np.repeat(a, 2)[::2] for a in arrays[1:]))
    np.testing.assert_array_equal(y, turned_y)
    assert_same_whatever_the_layout(y * 2 + 1, vjp, turned_vjp)
