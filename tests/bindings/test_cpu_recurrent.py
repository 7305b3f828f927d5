"""Recurrent layers on the CPU against their references in float64."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_helpers import GATES, assert_agrees, assert_refuses_as_the_reference, recurrent_inputs, without

import tinylm
from tinylm import Tensor
from tinylm.bindings.cpu import recurrent
from tinylm.bindings.cpu.library import Library

pytestmark = pytest.mark.usefixtures("cpu")

SIZES = [
    {"steps": 1, "batch": 1, "width": 1, "hidden": 1},
    {"steps": 1, "batch": 9, "width": 3, "hidden": 40},
    {"steps": 2, "batch": 7, "width": 2, "hidden": 43},
    {"steps": 2, "batch": 1, "width": 4097, "hidden": 3},
    {"steps": 2, "batch": 27, "width": 2, "hidden": 33},  # tiles of several heights; a panel and one column more
    {"steps": 3, "batch": 0, "width": 2, "hidden": 2},
    {"steps": 3, "batch": 2, "width": 0, "hidden": 2},
]


def scaled(name: str, **sizes: int) -> list[Any]:
    """Returns inputs whose products stay near 1, as a trained layer's do."""
    x, w_ih, w_hh, *rest = recurrent_inputs(name, **sizes)
    assert w_ih is not None
    assert w_hh is not None
    return [x, w_ih / np.sqrt(max(w_ih.shape[1], 1)), w_hh / np.sqrt(w_hh.shape[1]), *rest]


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: " ".join(map(str, sizes.values())))
def test_sizes(name: str, sizes: dict[str, int], reverse: bool) -> None:
    assert_agrees(name, *scaled(name, **sizes), device="cpu", reverse=reverse)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.integers(1, 6),
    batch=st.integers(0, 30),
    width=st.integers(1, 20),
    hidden=st.integers(1, 70),
    absent=st.sets(st.sampled_from([3, 4, 5, 6])),
    reverse=st.booleans(),
    several=st.booleans(),
    threads=st.sampled_from([1, 2, 3, 5]),
)
@pytest.mark.parametrize("name", GATES)
def test_drawn_shapes(cpu: Library, name: str, absent: set[int], reverse: bool, several: bool, threads: int, **sizes: int) -> None:
    cpu.functions["pool_size"](threads)
    lengths = np.random.default_rng(sizes["steps"]).integers(1, sizes["steps"] + 1, sizes["batch"]) if several else None
    assert_agrees(name, *without(scaled(name, **sizes), *absent), device="cpu", drawn=True, reverse=reverse, lengths=lengths)


@pytest.mark.parametrize("name", GATES)
def test_absent_arrays(name: str) -> None:
    arrays = recurrent_inputs(name)
    for absent in ((3,), (4,), (3, 4), (5,), (3, 4, 5)):
        assert_agrees(name, *without(arrays, *absent), device="cpu")
    if name == "lstm":
        assert_agrees(name, *without(arrays, 6), device="cpu")


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("steps", [1, 3])
def test_nonlinearities(nonlinearity: str, steps: int) -> None:
    assert_agrees("rnn", *recurrent_inputs("rnn", steps=steps), device="cpu", nonlinearity=nonlinearity)


@pytest.mark.parametrize("name", GATES)
def test_gates_that_are_shut_or_open(name: str) -> None:
    x, *rest = recurrent_inputs(name)
    assert x is not None
    x[0] *= 200
    found = assert_agrees(name, x, *rest, device="cpu")
    assert all(np.isfinite(a).all() for a in found.values())


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_sequences_of_several_lengths(name: str, reverse: bool) -> None:
    """Beyond its end a sequence is not read, not even if it is NaN there."""
    x, *rest = scaled(name, steps=5, batch=6, hidden=40)
    lengths = np.array([2, 5, 1, 2, 4, 2])
    for n, length in enumerate(lengths):
        x[length:, n] = np.nan
    found = assert_agrees(name, x, *rest, device="cpu", lengths=lengths, reverse=reverse)
    assert all(np.isfinite(a).all() for a in found.values())
    assert_agrees(name, *without([x, *rest], 3, 5), device="cpu", lengths=lengths, reverse=reverse)


@pytest.mark.parametrize("name", GATES)
def test_refusals_are_those_of_the_reference(name: str) -> None:
    tensors = [Tensor(a.astype(np.float32)) for a in recurrent_inputs(name) if a is not None]
    assert_refuses_as_the_reference(name, tensors)


# ---------------------------------------------------------------- on raw arrays


def single(name: str, **sizes: int) -> list[Any]:
    return [a.astype(np.float32) for a in scaled(name, **sizes)]


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
def test_nan_passes_in_its_own_row(nonlinearity: str) -> None:
    x, *rest = single("rnn", batch=20, hidden=40)
    x[1, 13, 0] = np.nan
    (y, _), vjp = recurrent.rnn(x, *rest, nonlinearity=nonlinearity)
    assert np.isnan(y).any(axis=2).tolist() == [[False] * 20, *[[n == 13 for n in range(20)]] * 2]
    assert np.isnan(y[1:, 13]).all()
    assert np.isnan(vjp(np.ones_like(y), y[0])[1]).any()


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_passes(name: str, value: float) -> None:
    """NaN and infinity appear in the rows and steps in which the reference in float64 has them."""
    arrays = single(name, batch=5)
    arrays[0][1, 2, 0] = value
    outputs, _ = getattr(recurrent, name)(*arrays)
    with np.errstate(all="ignore"):
        expected = getattr(tinylm, name)(*(Tensor(a.astype(np.float64)) for a in arrays))
    for y, e in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(e.data))
    assert np.isnan(outputs[0]).any() == np.isnan(value)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("steps", [1, 3])
def test_other_layouts_and_a_second_backward_pass(name: str, steps: int) -> None:
    """Each matrix in another memory layout; and the vjp changes nothing that it reads."""
    arrays = single(name, steps=steps, batch=9)
    turned = [np.asfortranarray(a) for a in arrays]
    outputs, vjp = getattr(recurrent, name)(*arrays)
    turned_outputs, turned_vjp = getattr(recurrent, name)(*turned)
    dys = [y * 2 + 1 for y in outputs]
    for d in dys:
        d.flags.writeable = False
    expected = [d.copy() for d in vjp(*dys)]
    for a, b in zip(turned_outputs, outputs, strict=True):
        np.testing.assert_array_equal(a, b)
    for again in (vjp(*dys), turned_vjp(*map(np.asfortranarray, dys)), vjp(*(d.astype(np.float64) for d in dys))):
        for a, b in zip(again, expected, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == np.float32


@pytest.mark.parametrize("name", GATES)
def test_what_comes_before_is_unchanged(name: str) -> None:
    arrays = single(name)
    copies = [a.copy() for a in arrays]
    outputs, vjp = getattr(recurrent, name)(*arrays)
    vjp(*outputs)
    for a, b in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, b)
