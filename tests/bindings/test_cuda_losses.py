"""Softmax, log-softmax and cross-entropy on a GPU against their references in float64."""

import numpy as np
import pytest
from kernel_helpers import assert_agrees, assert_declines, score_inputs

import tinylm
from tinylm import Tensor
from tinylm.engine.devices import to_device
from tinylm.engine.kernels import launches
from tinylm.errors import RangeError

pytestmark = pytest.mark.usefixtures("cuda")

SHAPES = [(1, 9), (7,), (5, 1), (3, 100), (2, 3, 33), (2, 4097), (0, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name: str, shape: tuple[int, ...]) -> None:
    assert_agrees(name, score_inputs(shape)[0])
    assert_agrees(name, score_inputs(shape)[0] + 1000, axis=len(shape) - 1)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_other_axes_are_left_to_the_reference(name: str) -> None:
    assert_declines(name, score_inputs((3, 4))[0], axis=0)
    assert_declines(name, score_inputs((3, 4))[0], axis=-2)


def test_masked_scores() -> None:
    x = score_inputs((4, 70))[0]
    x[0] = -np.inf  # a row without an allowed class gives zeros
    x[1, 3:] = -np.inf
    x[2, :69] = -np.inf
    found = assert_agrees("softmax", x)
    assert not found["output 0"][0].any()
    y = tinylm.log_softmax(Tensor(to_device(x[1:2].astype(np.float32), "cuda"))).numpy()
    np.testing.assert_array_equal(np.isneginf(y), np.isneginf(x[1:2]))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("place", [0, 40, 69])
def test_nan_and_infinity_are_not_hidden(name: str, place: int) -> None:
    x = score_inputs((2, 70))[0].astype(np.float32)
    for bad in (np.nan, np.inf):
        x[1, place] = bad
        with np.errstate(invalid="ignore"):
            expected = getattr(tinylm, name)(Tensor(x)).numpy()
        y = getattr(tinylm, name)(Tensor(to_device(x, "cuda"))).numpy()
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
        np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


@pytest.mark.parametrize("shape", SHAPES[:-1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(shape: tuple[int, ...], reduction: str) -> None:
    assert_agrees("cross_entropy", *score_inputs(shape), reduction=reduction)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_targets_and_smoothing(reduction: str) -> None:
    x, targets = score_inputs((6, 37))
    targets[[1, 4]] = -100
    assert_agrees("cross_entropy", x, targets, reduction=reduction)
    assert_agrees("cross_entropy", x, targets, reduction=reduction, label_smoothing=0.2)
    targets[[1, 4]] = 5
    found = assert_agrees("cross_entropy", x, targets.astype(np.int32), reduction=reduction, ignore_index=5)
    assert not found["gradient 0"][[1, 4]].any()


def test_cross_entropy_of_large_logits() -> None:
    assert_agrees("cross_entropy", score_inputs((6, 37))[0] + 1000, score_inputs((6, 37))[1], reduction="none")


def test_cross_entropy_with_classes_masked_out() -> None:
    x = score_inputs((3, 9))[0]
    x[:, :4] = -np.inf
    found = assert_agrees("cross_entropy", x, np.array([4, 8, 6]))
    assert np.isfinite(found["output 0"])
    assert not found["gradient 0"][:, :4].any()


def test_cross_entropy_over_more_rows_than_a_block_has_threads() -> None:
    assert_agrees("cross_entropy", *score_inputs((1100, 2)))


def test_cross_entropy_of_nothing() -> None:
    shape = (0, 5)
    assert_agrees("cross_entropy", *score_inputs(shape), reduction="sum")
    assert_agrees("cross_entropy", *score_inputs(shape), reduction="none")
    ignored = to_device(np.array([-100]), "cuda")
    assert np.isnan(tinylm.cross_entropy(Tensor(to_device(np.ones((1, 3), np.float32), "cuda")), ignored).item())


@pytest.mark.parametrize("bad", [5, -1])
def test_a_target_out_of_range_stays_within_the_arrays_and_is_reported(bad: int) -> None:
    logits = Tensor(to_device(score_inputs((2, 5))[0].astype(np.float32), "cuda"), requires_grad=True)
    loss = tinylm.cross_entropy(logits, to_device(np.array([1, bad]), "cuda"))
    loss.backward()
    assert launches["cross_entropy", "cuda"] == 1
    with pytest.raises(RangeError, match=f"target {bad} is out of range: expected 0 to 4"):
        loss.numpy()
    assert np.isnan(loss.numpy())


def test_settings_that_the_reference_refuses_are_left_to_it() -> None:
    logits, targets = (to_device(a, "cuda") for a in (score_inputs((2, 5))[0].astype(np.float32), np.array([1, 2])))
    with pytest.raises(ValueError, match="reduction 'median'"):
        tinylm.cross_entropy(Tensor(logits), targets, reduction="median")
    with pytest.raises(ValueError, match="targets have shape"):
        tinylm.cross_entropy(Tensor(logits), targets[:1])
    assert not launches
