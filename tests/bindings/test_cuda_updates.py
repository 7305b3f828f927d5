"""AdamW and the squared norm on a GPU against their references in float64."""

from typing import Any

import numpy as np
import pytest
from helpers import assert_close
from kernel_helpers import UPDATE_SETTINGS, trained, update_inputs

from tinylm import optim
from tinylm.engine.devices import to_device
from tinylm.engine.kernels import launches
from tinylm.optim.adam import adamw
from tinylm.optim.optimizer import grad_norm, squared_norm

pytestmark = pytest.mark.usefixtures("cuda")

SIZES = [1, 255, 256, 257, 5000, 0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("scale", [None, 0.25])
def test_adamw(size: int, decoupled: bool, scale: float | None) -> None:
    expected, found = update_inputs(size, "float64"), [to_device(a, "cuda") for a in update_inputs(size)]
    on_device = None if scale is None else to_device(np.array(scale, np.float32), "cuda")
    adamw(*expected, decoupled=decoupled, grad_scale=scale, **UPDATE_SETTINGS)
    adamw(*found, decoupled=decoupled, grad_scale=on_device, **UPDATE_SETTINGS)
    assert launches == {("adamw", "cuda"): 1}
    names = ("values", "grads", "exp_avg", "exp_avg_sq")
    assert_close({n: (f.get(), e.astype(np.float32)) for n, f, e in zip(names, found, expected, strict=True)}, 1e-6)
    np.testing.assert_array_equal(found[1].get(), update_inputs(size)[1])


def test_adamw_declines_what_is_not_flat() -> None:
    values, *rest = (to_device(a, "cuda") for a in update_inputs(12))
    wide = [a.reshape(3, 4) for a in (values, *rest)]
    adamw(*wide, decoupled=True, grad_scale=None, **UPDATE_SETTINGS)
    strided = [a[::2] for a in (values, *rest)]
    adamw(*strided, decoupled=True, grad_scale=None, **UPDATE_SETTINGS)
    assert not launches


@pytest.mark.parametrize("size", [*SIZES, 300_000])
def test_squared_norm(size: int) -> None:
    g = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    total = to_device(np.array(2, np.float32), "cuda")
    squared_norm(to_device(g, "cuda"), total)
    assert launches == {("squared_norm", "cuda"): 1}
    assert total.get() == pytest.approx(2 + np.sum(g.astype(np.float64) ** 2), rel=1e-6)


def test_the_norm_of_several_gradients_and_of_one_that_is_not_finite() -> None:
    a, b = (to_device(np.array(x, np.float32), "cuda") for x in ([3.0], [[0.0, 4.0]]))
    assert grad_norm([a, b]).get() == 5
    assert np.isnan(grad_norm([a, a * np.float32(np.nan)]).get())
    strided = to_device(np.arange(6, dtype=np.float32), "cuda")[::2]
    launches.clear()
    squared_norm(strided, total := to_device(np.zeros((), np.float32), "cuda"))
    assert total.get() == 20
    assert not launches


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_steps_with_clipping(kind: Any) -> None:
    """Whole optimiser steps, with a parameter that has no gradient in one of them."""
    found = trained(kind, "cuda", "float32")
    assert launches["adamw", "cuda"] == 1 + 1 + 2 + 3  # one launch for each range of parameters that were updated equally often
    expected = trained(kind, "cpu", "float64")
    assert_close({k: (found[k], expected[k].astype(np.float32)) for k in expected}, 1e-5)
