"""Softmax, log-softmax and cross-entropy on the CPU against their references in float64."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_helpers import assert_agrees, assert_declines, assert_same_whatever_the_layout, score_inputs

import tinylm
from tinylm import Tensor
from tinylm.bindings.cpu import losses, softmax
from tinylm.bindings.cpu.library import Library
from tinylm.engine import kernels
from tinylm.engine.kernels import launches
from tinylm.errors import RangeError

pytestmark = pytest.mark.usefixtures("cpu")

SHAPES = [(1, 9), (7,), (5, 1), (3, 100), (2, 3, 33), (2, 4097), (0, 5)]
NAMES = ["softmax", "log_softmax"]
REDUCTIONS = ["mean", "sum", "none"]


def by_the_reference(monkeypatch: pytest.MonkeyPatch, name: str, *arrays: np.ndarray) -> Any:
    with monkeypatch.context() as m, np.errstate(invalid="ignore", divide="ignore"):
        m.setattr(kernels, "_kernels_allowed", "reference")
        x = Tensor(arrays[0], requires_grad=True)
        y = getattr(tinylm, name)(x, *arrays[1:])
        y.backward(np.ones_like(y.data))
        return y.data, x.grad


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_softmax(name: str, shape: tuple[int, ...]) -> None:
    x, _ = score_inputs(shape)
    assert_agrees(name, x, device="cpu")
    assert_agrees(name, x + 1000, device="cpu", axis=len(shape) - 1)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*NAMES, *REDUCTIONS]),
    st.lists(st.integers(1, 50), max_size=2),
    st.integers(2, 70),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([1, 2, 3, 5]),
)
def test_drawn_shapes(cpu: Library, what: str, lead: list[int], classes: int, smoothing: float, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    x, targets = score_inputs((*lead, classes))
    if what in NAMES:
        assert_agrees(what, x, device="cpu", drawn=True)
    else:
        assert_agrees("cross_entropy", x, targets, device="cpu", drawn=True, reduction=what, label_smoothing=smoothing)


@pytest.mark.parametrize("name", NAMES)
def test_other_axes_are_left_to_the_reference(name: str) -> None:
    assert_declines(name, score_inputs((3, 4))[0], device="cpu", axis=0)
    assert_declines(name, score_inputs((3, 4))[0], device="cpu", axis=-2)


def test_masked_scores() -> None:
    x, _ = score_inputs((4, 70))
    x[0] = -np.inf  # a row without an allowed class gives zeros
    x[1, 3:] = -np.inf
    x[2, :69] = -np.inf
    found = assert_agrees("softmax", x, device="cpu")
    assert not found["output 0"][0].any()
    y = tinylm.log_softmax(Tensor(x[1:2].astype(np.float32))).numpy()
    np.testing.assert_array_equal(np.isneginf(y), np.isneginf(x[1:2]))


@pytest.mark.parametrize("name", [*NAMES, "cross_entropy"])
@pytest.mark.parametrize("place", [0, 40, 69])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_not_hidden(monkeypatch: pytest.MonkeyPatch, name: str, place: int, bad: float) -> None:
    x, targets = score_inputs((2, 70))
    x = x.astype(np.float32)
    x[1, place] = bad
    targets[1] = 69
    arrays = (x, targets) if name == "cross_entropy" else (x,)
    expected = by_the_reference(monkeypatch, name, *arrays)
    leaf = Tensor(x, requires_grad=True)
    y = getattr(tinylm, name)(leaf, *arrays[1:])
    y.backward(np.ones_like(y.data))
    for a, b in zip((y.data, leaf.grad), expected, strict=True):
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))


@pytest.mark.parametrize("shape", SHAPES[:-1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy(shape: tuple[int, ...], reduction: str) -> None:
    assert_agrees("cross_entropy", *score_inputs(shape), device="cpu", reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_ignored_targets_and_smoothing(reduction: str, dtype: str) -> None:
    x, targets = score_inputs((6, 37))
    targets[[1, 4]] = -100
    assert_agrees("cross_entropy", x, targets, device="cpu", reduction=reduction)
    assert_agrees("cross_entropy", x, targets, device="cpu", reduction=reduction, label_smoothing=0.2)
    targets[[1, 4]] = 5
    found = assert_agrees("cross_entropy", x, targets.astype(dtype), device="cpu", reduction=reduction, ignore_index=5)
    assert not found["gradient 0"][[1, 4]].any()


def test_large_vocabularies_and_large_scores() -> None:
    assert_agrees("cross_entropy", *score_inputs((3, 50_000)), device="cpu")
    x, targets = score_inputs((6, 37))
    assert_agrees("cross_entropy", x + 1000, targets, device="cpu", reduction="none")


def test_the_mean_of_many_equal_losses_keeps_its_digits() -> None:
    loss, _ = losses.cross_entropy(np.zeros((300_000, 3), np.float32), np.zeros(300_000, np.int64))
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)


def test_classes_masked_out() -> None:
    x, _ = score_inputs((3, 9))
    x[:, :4] = -np.inf
    found = assert_agrees("cross_entropy", x, np.array([4, 8, 6]), device="cpu")
    assert np.isfinite(found["output 0"])
    assert not found["gradient 0"][:, :4].any()


def test_cross_entropy_of_nothing() -> None:
    for reduction in ("sum", "none"):
        assert_agrees("cross_entropy", *score_inputs((0, 5)), device="cpu", reduction=reduction)
    assert np.isnan(tinylm.cross_entropy(Tensor(np.ones((1, 3), np.float32)), np.array([-100])).item())


@pytest.mark.parametrize("bad", [5, -1])
def test_a_target_out_of_range(bad: int) -> None:
    logits = Tensor(score_inputs((2, 5))[0].astype(np.float32))
    with pytest.raises(RangeError, match=f"target {bad} is out of range: expected 0 to 4"):
        tinylm.cross_entropy(logits, np.array([1, bad]))
    tinylm.cross_entropy(logits, np.array([1, bad]), ignore_index=bad)


def test_settings_that_the_reference_refuses_are_left_to_it() -> None:
    logits, targets = Tensor(score_inputs((2, 5))[0].astype(np.float32)), np.array([1, 2])
    with pytest.raises(ValueError, match="reduction 'median'"):
        tinylm.cross_entropy(logits, targets, reduction="median")
    with pytest.raises(ValueError, match="targets have shape"):
        tinylm.cross_entropy(logits, targets[:1])
    with pytest.raises(ValueError, match="must be an array of integers"):
        tinylm.cross_entropy(logits, targets.astype(np.float32))
    assert not launches


@pytest.mark.parametrize("name", [*NAMES, "cross_entropy"])
def test_other_layouts_and_a_second_backward_pass(name: str) -> None:
    x, targets = score_inputs((50, 20))
    kernel, extra = getattr(losses if name == "cross_entropy" else softmax, name), [targets] if name == "cross_entropy" else []
    further: dict[str, Any] = {"reduction": "none"} if extra else {}
    y, vjp = kernel(x.astype(np.float32), *extra, **further)
    turned_y, turned_vjp = kernel(np.asfortranarray(x, np.float32), *(np.repeat(a, 2)[::2] for a in extra), **further)
    np.testing.assert_array_equal(y, turned_y)
    assert_same_whatever_the_layout(y * 2 + 1, vjp, turned_vjp)
