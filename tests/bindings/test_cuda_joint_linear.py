"""Linear layers of the same input on a GPU against their references in float64."""

import numpy as np
import pytest
from cuda_on_cpu.emulator import Kernel
from cuda_on_cpu.fixtures import has_gpu
from kernel_helpers import assert_agrees, assert_declines, joint_inputs, without

from tinylm.errors import ShapeError

pytestmark = pytest.mark.usefixtures("cuda")

POSITIONS = {"frequencies": (1.0, 0.1, 0.01, 0.001), "start": 5}  # heads of width 8


@pytest.mark.parametrize("shape", [(1, 3), (7,), (2, 3, 8), (0, 4)])
def test_swiglu_linear(shape: tuple[int, ...]) -> None:
    assert_agrees("swiglu_linear", *joint_inputs(shape, 33, 33))


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
@pytest.mark.parametrize("heads", [(4, 2, 2), (3, 3, 3)])
def test_rotary_heads(heads: tuple[int, int, int], pairing: str) -> None:
    arrays = joint_inputs((2, 5, 7), *(8 * n for n in heads))
    assert_agrees("rotary_heads", *arrays, pairing=pairing, **POSITIONS)


def test_absent_biases_and_frozen_layers() -> None:
    for name, arrays, settings in [
        ("swiglu_linear", joint_inputs((4, 6), 37, 37), {}),
        ("rotary_heads", joint_inputs((2, 4, 6), 16, 8, 8), POSITIONS),
    ]:
        assert_agrees(name, *without(arrays, *range(len(arrays) // 2 + 1, len(arrays))), **settings)
        found = assert_agrees(name, *arrays, frozen=True, **settings)
        assert [key for key in found if key.startswith("gradient")] == ["gradient 0"]


def test_layers_that_do_not_fit_are_left_to_the_reference() -> None:
    with pytest.raises(ShapeError, match="swiglu: a has shape"):
        assert_declines("swiglu_linear", *joint_inputs((4, 6), 5, 7))
    x, q, k, v, *biases = joint_inputs((2, 4, 6), 16, 8, 8)
    with pytest.raises(ShapeError, match="q_weight has shape"):
        assert_declines("rotary_heads", x, np.asarray(q)[:-1], k, v, *biases, **POSITIONS)


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_few_rows(rows: int) -> None:
    """Up to 4 are multiplied by the layers together, in one launch."""
    before = Kernel.launches["linear_few_rows_joint"]
    assert_agrees("swiglu_linear", *joint_inputs((rows, 70), 9, 9))
    assert_agrees("swiglu_linear", *without(joint_inputs((rows, 300), 130, 130), 3))
    assert_agrees("rotary_heads", *without(joint_inputs((1, rows, 33), 16, 8, 24), 5), **POSITIONS)
    if not has_gpu():
        assert Kernel.launches["linear_few_rows_joint"] - before == (3 if rows <= 4 else 0)
