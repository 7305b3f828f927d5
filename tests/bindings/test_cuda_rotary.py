"""Rotary positions and SwiGLU on a GPU against their references in float64."""

import importlib
from typing import Any

import numpy as np
import pytest
from kernel_helpers import assert_agrees, assert_declines

import tinylm
from tinylm import Tensor
from tinylm.bindings.cuda.activations import swiglu
from tinylm.bindings.cuda.rotary import rotary
from tinylm.engine.arrays import array_module
from tinylm.engine.devices import to_device
from tinylm.errors import ConfigError, ShapeError

pytestmark = pytest.mark.usefixtures("cuda")


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape)


def on_device(*arrays: np.ndarray) -> list[Any]:
    return [to_device(a.astype(np.float32), "cuda") for a in arrays]


def frequencies(pairs: int) -> tuple[float, ...]:
    return tuple(10000.0 ** (-i / pairs) for i in range(pairs))


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_rotary(pairing: str) -> None:
    for shape in [(3, 6), (2, 5, 2), (2, 9, 7, 64), (1, 3, 1, 34), (2, 0, 4, 6), (0, 2, 4, 6), (2, 2, 0, 6)]:
        assert_agrees("rotary", drawn(*shape), frequencies=frequencies(shape[-1] // 2), start=5, pairing=pairing)
    assert_declines("rotary", drawn(1, 2, 2, 3, 4), frequencies=frequencies(2), pairing=pairing)


def test_rotary_far_along() -> None:
    """At position 100,000 angles in float32 would be off by 0.004."""
    assert_agrees("rotary", drawn(2, 3, 8), frequencies=frequencies(4), start=100_000)


def test_rotary_of_more_pairs_than_threads() -> None:
    assert_agrees("rotary", drawn(1, 33, 2, 130), frequencies=frequencies(65), pairing="interleaved")


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_rotary_reads_heads_in_place(pairing: str) -> None:
    """Heads cut out of a projection, strided or reversed, give the same bits as a copy; the result has the layout that
    the next layer reads."""
    projected, wide, dy = on_device(drawn(2, 7, 3 * 8), drawn(2, 3, 7, 16), drawn(2, 7, 3, 8))
    for x in (projected.reshape(2, 7, 3, 8).transpose(0, 2, 1, 3), wide[..., 1::2], wide[:, ::-1, ::-1, 3:11]):
        y, vjp = rotary(x, frequencies(4), 2, pairing=pairing)
        copied, copied_vjp = rotary(x.copy(), frequencies(4), 2, pairing=pairing)
        np.testing.assert_array_equal(y.get(), copied.get())
        assert y.transpose(0, 2, 1, 3).flags.c_contiguous
        (dx,), (expected,) = vjp(dy.transpose(0, 2, 1, 3)), copied_vjp(dy.transpose(0, 2, 1, 3).copy())
        np.testing.assert_array_equal(dx.get(), expected.get())


@pytest.mark.parametrize("shape", [(), (1,), (3, 17), (2, 5, 301), (0, 4)])
def test_swiglu(shape: tuple[int, ...]) -> None:
    a, b = drawn(2, *shape)
    assert_agrees("swiglu", a * 5, b)


def test_gates_that_are_shut_or_open() -> None:
    assert_agrees("swiglu", np.array([-200.0, -88, -20, 0, 20, 88, 200]), drawn(7))  # e^200 is beyond float32


def test_swiglu_of_other_layouts() -> None:
    a, b, dy = on_device(drawn(9, 4), drawn(4, 9), drawn(9, 4))
    expected, vjp = swiglu(a.T.copy(), b)
    y, turned_vjp = swiglu(a.T, b)
    np.testing.assert_array_equal(y.get(), expected.get())
    for d, known in zip(turned_vjp(dy.T), vjp(dy.T.copy()), strict=True):
        np.testing.assert_array_equal(d.get(), known.get())


def test_shapes_and_pairings_that_do_not_fit() -> None:
    x, b = (Tensor(a) for a in on_device(drawn(2, 4), drawn(4)))
    with pytest.raises(ShapeError, match="swiglu: a has shape"):
        tinylm.swiglu(x, b)
    with pytest.raises(ShapeError, match="rotary: x has shape"):
        tinylm.rotary(x, frequencies(3))
    with pytest.raises(ConfigError, match="pairing 'thirds'"):
        tinylm.rotary(x, frequencies(2), pairing="thirds")


def test_nothing_waits_once_the_angles_are_there() -> None:
    x, a, b = on_device(drawn(2, 5, 8), drawn(4, 9), drawn(4, 9))
    rotary(x, frequencies(4))
    with importlib.import_module("cupyx").allow_synchronize(False):
        _, back = rotary(x, frequencies(4))
        back(x)
        y, back = swiglu(a, b)
        back(y)


def test_nan_and_infinity_pass_through() -> None:
    a, b = np.ones((2, 40), np.float32)
    a[3], b[5], a[7] = np.nan, np.inf, np.inf
    a, b, x = on_device(a, b, np.ones((1, 8)))
    y, vjp = swiglu(a, b)
    assert np.isfinite(y.get()).tolist() == [i not in (3, 5, 7) for i in range(40)]
    da, db = vjp(array_module(a).ones_like(a))
    assert not np.isfinite(da.get()[[3, 5]]).any()
    assert not np.isfinite(db.get()[[3, 7]]).any()
    x[0, 1] = np.nan
    y, _ = rotary(x, frequencies(4))
    assert np.isnan(y[0].get()).tolist() == [i in (1, 5) for i in range(8)]
