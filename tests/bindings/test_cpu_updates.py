"""AdamW, SGD, Muon and the squared norm on the CPU against their references in float64."""

import os
from typing import Any

import numpy as np
import pytest
from cpu_targets import library_for, targets
from helpers import assert_close
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_helpers import UPDATE_SETTINGS, trained, update_inputs

from tinylm import optim
from tinylm.bindings.cpu import library
from tinylm.bindings.cpu.library import Library
from tinylm.engine.kernels import launches
from tinylm.optim.adam import adamw
from tinylm.optim.muon import muon
from tinylm.optim.optimizer import grad_norm, squared_norm
from tinylm.optim.sgd import sgd

pytestmark = pytest.mark.usefixtures("cpu")

SGD_SETTINGS = {"lr": 0.1, "weight_decay": 0.3}
NAMES = ("values", "grads", "exp_avg", "exp_avg_sq")


def compare(update: Any, count: int, size: Any, **given: Any) -> None:
    """Compares one step on the first `count` arrays with the same step in float64."""
    before = launches[update.name, "cpu"]
    expected, found = update_inputs(size, "float64")[:count], update_inputs(size)[:count]
    update(*expected, **given)
    update(*found, **given)
    assert launches[update.name, "cpu"] == before + 1
    assert_close({n: (f, e.astype(np.float32)) for n, f, e in zip(NAMES[:count], found, expected, strict=True)}, 1e-5)
    np.testing.assert_array_equal(found[1], update_inputs(size)[1])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 5000),
    st.booleans(),
    st.sampled_from([None, 0.25, np.float32(0.25), np.array(0.25, np.float32)]),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([1, 2, 3, 5]),
)
def test_adamw(cpu: Library, size: int, decoupled: bool, scale: Any, step: int, decay: float, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    compare(adamw, 4, size, decoupled=decoupled, grad_scale=scale, **UPDATE_SETTINGS | {"step": step, "weight_decay": decay})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 5000),
    st.sampled_from([(0.0, False), (0.9, False), (0.9, True)]),
    st.sampled_from([None, 0.25, np.float32(0.25)]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 3, 5]),
)
def test_sgd(cpu: Library, size: int, kind: tuple[float, bool], scale: Any, step: int, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    compare(sgd, 3, size, momentum=kind[0], nesterov=kind[1], grad_scale=scale, step=step, **SGD_SETTINGS)


MUON_SHAPES = [
    (64, 64), (192, 64), (65, 65), (95, 31), (31, 95), (100, 37), (37, 100), (6, 2), (1, 1), (1, 3), (3, 1), (2 * 33, 33),
    (300, 300), (272, 300),  # the last strip has few rows
]  # fmt: skip


@pytest.mark.parametrize("scale", [None, np.float32(0.25)])
@pytest.mark.parametrize("shape", MUON_SHAPES)
def test_muon(cpu: Library, shape: tuple[int, int], scale: Any) -> None:
    """The update is large beside the values, so that they show an error of it; and it is the same for any number of threads."""
    given = {"lr": 5.0, "momentum": 0.9, "weight_decay": 0.1, "grad_scale": scale}
    compare(muon, 3, shape, **given)
    found = []
    for threads in (1, 2, 3, 5, 16):
        cpu.functions["pool_size"](threads)
        arrays = update_inputs(shape)[:3]
        muon(*arrays, **given)
        found.append(arrays)
    for arrays in found[1:]:
        for a, b in zip(arrays, found[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_muon_declines_what_is_not_contiguous_and_passes_nan() -> None:
    given = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "grad_scale": None}
    wide = [a[:, ::2] for a in update_inputs((8, 8))[:3]]
    muon(*wide, **given)
    assert not launches
    arrays = update_inputs((4, 4))[:3]
    arrays[1][2, 1] = np.nan
    muon(*arrays, **given)
    assert launches["muon", "cpu"] == 1
    assert np.isnan(arrays[0]).all()
    assert np.isnan(arrays[2]).sum() == 1


def test_what_is_not_flat_is_left_to_the_reference() -> None:
    for a in (a.reshape(3, 4) for a in update_inputs(12)), (a[::2] for a in update_inputs(12)):
        values, grads, exp_avg, exp_avg_sq = a
        adamw(values, grads, exp_avg, exp_avg_sq, decoupled=True, grad_scale=None, **UPDATE_SETTINGS)
        sgd(values, grads, exp_avg, momentum=0.9, nesterov=True, grad_scale=None, step=1, **SGD_SETTINGS)
    assert not launches


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [0, 1, 255, 2048, 2049, 300_000])
def test_squared_norm(cpu: Library, size: int, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    g = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    total = np.array(2, np.float32)
    squared_norm(g, total)
    assert launches == {("squared_norm", "cpu"): 1}
    assert total == pytest.approx(2 + np.sum(g.astype(np.float64) ** 2), rel=1e-6)


def test_the_norm_of_millions_of_equal_gradients_keeps_its_digits() -> None:
    """A plain sum in float32 stops at 2²⁴ times the square."""
    total = np.zeros((), np.float32)
    squared_norm(np.full(20_000_000, 0.3, np.float32), total)
    assert total == pytest.approx(20_000_000 * float(np.float32(0.3)) ** 2, rel=1e-6)


def test_the_squared_norm_has_the_same_digits_for_every_width(cpu: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits are those of this machine's own target, except for targets without fused multiply-adds, which round once more."""
    rng = np.random.default_rng(3)
    gradients = [rng.standard_normal(n).astype(np.float32) for n in (1, 15, 17, 2047, 2049, 5000, 100_003)]

    def norms() -> list[float]:
        totals = [np.zeros((), np.float32) for _ in gradients]
        for g, total in zip(gradients, totals, strict=True):
            squared_norm(g, total)
        return [float(total) for total in totals]

    found = norms()
    target = os.environ["TINYLM_CPU_TARGET"]
    monkeypatch.setenv("TINYLM_CPU_TARGET", targets()[0])
    monkeypatch.setattr(library, "_loaded", library_for(targets()[0]))
    if target == "x86-64-v2":
        assert found == pytest.approx(norms(), rel=3e-7)
    else:
        assert found == norms()


def test_the_norm_of_several_gradients_and_of_one_that_is_not_finite() -> None:
    a, b = np.array([3.0], np.float32), np.array([[0.0, 4.0]], np.float32)
    assert grad_norm([a, b]) == 5
    assert np.isnan(grad_norm([a, a * np.float32(np.nan)]))
    assert np.isinf(grad_norm([a, a * np.float32(np.inf)]))
    launches.clear()
    squared_norm(np.arange(6, dtype=np.float32)[::2], total := np.zeros((), np.float32))
    assert total == 20
    assert not launches


@pytest.mark.parametrize(
    ("kind", "further"), [(optim.Adam, {}), (optim.AdamW, {}), (optim.SGD, {}), (optim.SGD, {"momentum": 0.9, "nesterov": True})]
)
def test_steps_with_clipping(kind: Any, further: dict[str, Any]) -> None:
    """Whole optimiser steps, with a parameter that has no gradient in one of them."""
    found = trained(kind, "cpu", "float32", **further)
    assert launches["sgd" if kind is optim.SGD else "adamw", "cpu"] == 1 + 1 + 2 + 3
    expected = trained(kind, "cpu", "float64", **further)
    assert_close({k: (found[k], expected[k].astype(np.float32)) for k in expected}, 1e-5)


@pytest.mark.parametrize("place", [0, 19])
def test_nan_and_infinity_pass(place: int) -> None:
    values, grads, exp_avg, exp_avg_sq = update_inputs(20)
    grads[place] = np.nan
    adamw(values, grads, exp_avg, exp_avg_sq, decoupled=True, grad_scale=None, **UPDATE_SETTINGS)
    for a in (values, exp_avg, exp_avg_sq):
        assert np.isnan(a).nonzero()[0].tolist() == [place]
    values, grads, velocity, _ = update_inputs(20)
    grads[place] = np.inf
    sgd(values, grads, velocity, momentum=0.9, nesterov=False, grad_scale=None, step=2, **SGD_SETTINGS)
    assert np.isinf(values).nonzero()[0].tolist() == [place]
