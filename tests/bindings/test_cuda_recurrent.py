"""Recurrent layers on a GPU against their references in float64."""

import importlib
from typing import Any

import numpy as np
import pytest
from kernel_helpers import GATES, assert_agrees, assert_refuses_as_the_reference, recurrent_inputs, without

from tinylm import Tensor
from tinylm.bindings.cuda import recurrent, sequences
from tinylm.bindings.cuda.launching import CudaSource
from tinylm.engine.devices import to_device

pytestmark = pytest.mark.usefixtures("cuda")


@pytest.fixture(params=["in one launch", "step by step"], autouse=True)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes a layer run as on a GPU whose blocks may wait for each other, or as on one where they may not."""
    if request.param == "step by step":
        monkeypatch.setattr(sequences, "card_of", lambda array: sequences.Card(1, 0, cooperative=False))
    return request.param


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("lengths", [None, (2, 3, 1, 2), (1, 2, 2, 1)], ids=["no lengths", "lengths", "none runs to the end"])
def test_orders(name: str, reverse: bool, lengths: Any) -> None:
    assert_agrees(name, *recurrent_inputs(name), reverse=reverse, lengths=None if lengths is None else np.array(lengths))


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(
    "sizes",
    [
        {"steps": 1, "batch": 1, "width": 1, "hidden": 1},
        {"steps": 2, "batch": 7, "width": 2, "hidden": 43},  # 301 elements: one block and a part of another
        {"steps": 2, "batch": 1, "width": 4097, "hidden": 3},
        {"steps": 3, "batch": 0, "width": 2, "hidden": 2},
    ],
    ids=lambda sizes: " ".join(map(str, sizes.values())),
)
def test_sizes(name: str, sizes: dict[str, int]) -> None:
    x, *weights = recurrent_inputs(name, **sizes)
    assert_agrees(name, x, weights[0] / np.sqrt(sizes["width"]), *weights[1:])


@pytest.mark.parametrize("name", GATES)
def test_absent_arrays(name: str) -> None:
    arrays = recurrent_inputs(name)
    for absent in ((3,), (4,), (3, 4), (5,), (3, 4, 5)):
        assert_agrees(name, *without(arrays, *absent))
    if name == "lstm":
        assert_agrees(name, *without(arrays, 6))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
def test_nonlinearities(nonlinearity: str) -> None:
    assert_agrees("rnn", *recurrent_inputs("rnn"), nonlinearity=nonlinearity, lengths=np.array([3, 1, 2, 3]))


@pytest.mark.parametrize("name", GATES)
def test_gates_that_are_shut_or_open(name: str) -> None:
    x, *rest = recurrent_inputs(name)
    x[0] *= 200
    found = assert_agrees(name, x, *rest)
    assert all(np.isfinite(a).all() for a in found.values())


def test_relu_of_nan_is_nan() -> None:
    x, *rest = recurrent_inputs("rnn", steps=1)
    x[0, 1, 0] = np.nan
    (y, _), _ = recurrent.rnn(*on_device(x, *rest), nonlinearity="relu")
    assert np.isnan(y.get()[0]).all(axis=1).tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", GATES)
def test_refusals_are_those_of_the_reference(name: str) -> None:
    arrays = recurrent_inputs(name)
    tensors = [Tensor(a) for a in on_device(*arrays)]
    assert_refuses_as_the_reference(name, tensors)


# ---------------------------------------------------------------- on raw arrays


def on_device(*arrays: np.ndarray) -> list[Any]:
    return [to_device(a.astype(np.float32), "cuda") for a in arrays]


@pytest.mark.parametrize("name", GATES)
def test_other_layouts_and_a_second_backward_pass(name: str) -> None:
    """Each matrix transposed in memory gives the same as a copy, up to the order of a product's sums; and the vjp
    changes nothing that it reads."""
    arrays = on_device(*recurrent_inputs(name))
    turned = [a.T.copy().T if a.ndim > 1 else a for a in arrays]
    outputs, vjp = getattr(recurrent, name)(*arrays)
    turned_outputs, turned_vjp = getattr(recurrent, name)(*turned)
    dys = [y * 2 + 1 for y in outputs]
    given = [d.get() for d in dys]
    expected = vjp(*dys)
    for a, b in zip((*turned_outputs, *turned_vjp(*(d.T.copy().T for d in dys))), (*outputs, *expected), strict=True):
        np.testing.assert_allclose(a.get(), b.get(), rtol=1e-5, atol=1e-6)
    for a, b in zip(vjp(*dys), expected, strict=True):
        np.testing.assert_array_equal(a.get(), b.get())
    for d, before in zip(dys, given, strict=True):
        np.testing.assert_array_equal(d.get(), before)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("lengths", [None, (2, 3, 1, 2)], ids=["no lengths", "lengths"])
def test_cotangents_of_another_dtype(name: str, lengths: Any) -> None:
    outputs, vjp = getattr(recurrent, name)(*on_device(*recurrent_inputs(name)), lengths=lengths)
    for a, b in zip(vjp(*(y.astype(np.float64) for y in outputs)), vjp(*outputs), strict=True):
        np.testing.assert_array_equal(a.get(), b.get())
        assert a.dtype == np.float32


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("lengths", [None, (2, 4, 1, 2)], ids=["no lengths", "lengths"])
def test_launches_and_no_wait(name: str, lengths: Any, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = on_device(*recurrent_inputs(name, steps=4))
    launched: list[str] = []
    for method in ("launch", "launch_together"):
        monkeypatch.setattr(CudaSource, method, recording(launched, getattr(CudaSource, method)))
    with importlib.import_module("cupyx").allow_synchronize(False):
        outputs, vjp = getattr(recurrent, name)(*arrays, lengths=lengths)
        vjp(*outputs)
    if how == "in one launch":
        assert launched == [f"{name}_sequence_forward", f"{name}_sequence_backward"]
    else:
        assert launched == [f"{name}_forward"] * 4 + [f"{name}_backward"] * 4


def recording(launched: list[str], launch: Any) -> Any:
    """Returns a method that notes which kernel it launches."""
    return lambda self, kernel, *args: (launched.append(kernel), launch(self, kernel, *args))[1]
