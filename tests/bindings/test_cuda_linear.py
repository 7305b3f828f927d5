"""What follows the product of a linear layer, on a GPU, against the reference in float64."""

import numpy as np
import pytest
from cuda_on_cpu.emulator import Kernel
from cuda_on_cpu.fixtures import has_gpu
from kernel_helpers import assert_agrees, assert_declines, linear_inputs

pytestmark = pytest.mark.usefixtures("cuda")

ACTIVATIONS = [None, "relu", "gelu", "silu", "sigmoid"]
SHAPES = [((1, 3), 9), ((7,), 5), ((6, 4), 1), ((3, 5), 100), ((2, 3, 8), 33), ((2, 3), 4097), ((0, 4), 5)]  # x, outputs


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
def test_linear(shape: tuple[int, ...], outputs: int, activation: str | None) -> None:
    assert_agrees("linear", *linear_inputs(shape, outputs), activation=activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_absent_arrays(activation: str | None) -> None:
    x, weight, bias, residual = linear_inputs((4, 6), 37)
    assert_agrees("linear", x, weight, bias, None, activation=activation)
    assert_agrees("linear", x, weight, None, residual, activation=activation)
    assert_agrees("linear", x, weight, None, None, activation=activation)


def test_a_frozen_weight_and_bias_have_no_gradient() -> None:
    found = assert_agrees("linear", *linear_inputs((4, 6), 37), activation="silu", frozen=True)
    assert set(found) == {"output 0", "gradient 0", "gradient 3"}


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (33, 5), (300, 130), (4097, 3)])
def test_few_rows(rows: int, inputs: int, outputs: int) -> None:
    """Up to 4 are multiplied by a kernel of tinylm's own."""
    before = Kernel.launches["linear_few_rows"]
    assert_agrees("linear", *linear_inputs((rows, inputs), outputs), activation="silu")
    assert_agrees("linear", *linear_inputs((rows, inputs), outputs)[:2])
    if not has_gpu():
        assert Kernel.launches["linear_few_rows"] - before == (2 if rows <= 4 else 0)


def test_a_bias_gradient_over_several_chunks_of_rows() -> None:
    assert_agrees("linear", *linear_inputs((700, 2), 33))


@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
def test_far_from_zero(activation: str) -> None:
    """Activations neither overflow nor lose their tails."""
    x = np.array([[-100.0], [-20], [-5], [0], [5], [20], [100]])
    assert_agrees("linear", x, np.ones((1, 1)), np.zeros(1), None, activation=activation)


def test_broadcast_residuals_are_left_to_the_reference() -> None:
    x, weight, bias, residual = linear_inputs((4, 6), 5)
    assert_declines("linear", x, weight, bias, residual[:1])
