"""Layer norm and RMS norm on a GPU against their references in float64."""

import numpy as np
import pytest
from kernel_helpers import assert_agrees, assert_declines, norm_inputs

from tinylm.bindings.cuda import normalization
from tinylm.engine.devices import to_device

pytestmark = pytest.mark.usefixtures("cuda")

SHAPES = [(1, 9), (7,), (3, 100), (2, 3, 33), (70, 32), (2, 4097), (0, 5)]  # one row; not a multiple of a warp; many columns; no rows


@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm(shape: tuple[int, ...]) -> None:
    assert_agrees("layer_norm", *norm_inputs(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm(shape: tuple[int, ...]) -> None:
    assert_agrees("rms_norm", *norm_inputs(shape)[:2])


def test_one_column() -> None:
    """Layer norm gives the bias. RMS norm gives ±1, whose slope depends on eps, which is large enough here to be seen."""
    x, weight, bias = norm_inputs((6, 1))
    assert_agrees("layer_norm", x, weight, bias)
    assert_agrees("rms_norm", x, weight, eps=0.5)


def test_absent_parameters_and_another_eps() -> None:
    x, weight, bias = norm_inputs((3, 40))
    assert_agrees("layer_norm", x, weight, None, eps=0.1)
    assert_agrees("layer_norm", x, None, bias)
    assert_agrees("layer_norm", x, None, None)
    assert_agrees("rms_norm", x, None, eps=0.1)


def test_parameter_gradients_over_several_chunks_of_rows() -> None:
    x, weight, bias = norm_inputs((700, 5))
    assert_agrees("layer_norm", x, weight, bias)
    assert_agrees("rms_norm", x, weight)


def test_a_small_spread_around_a_large_mean() -> None:
    """The variance is computed from the differences from the mean, not as a difference of squares."""
    x, weight, bias = norm_inputs((4, 64))
    assert_agrees("layer_norm", x + 100, weight, bias)


def test_parameters_of_other_shapes_are_left_to_the_reference() -> None:
    x, weight, bias = norm_inputs((3, 4))
    assert_declines("layer_norm", x, weight[:1], bias)
    assert_declines("layer_norm", x, weight, bias[:1])
    assert_declines("rms_norm", x, weight[:1])


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_arrays_in_other_layouts(name: str) -> None:
    arrays = [a.astype(np.float32) for a in norm_inputs((6, 5, 4))][: 3 if name == "layer_norm" else 2]
    kernel = getattr(normalization, name)
    device = [to_device(a, "cuda") for a in arrays]
    x, dy = device[0], to_device(np.random.default_rng(9).standard_normal((5, 6, 4)).astype(np.float32), "cuda")
    y, vjp = kernel(x.transpose(1, 0, 2).copy(), *device[1:])
    turned, turned_vjp = kernel(x.transpose(1, 0, 2), *device[1:])
    np.testing.assert_array_equal(turned.get(), y.get())
    for g, expected in zip(turned_vjp(dy.transpose(1, 0, 2).copy().transpose(1, 0, 2)), vjp(dy), strict=True):
        np.testing.assert_array_equal(g.get(), expected.get())
