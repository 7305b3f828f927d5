"""Dropout on the CPU: the masks that NumPy makes, bit for bit."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_helpers import assert_agrees, assert_declines, assert_same_whatever_the_layout, results

from tinylm.bindings.cpu import dropout
from tinylm.bindings.cpu.library import Library
from tinylm.engine import kernels
from tinylm.engine.random_keys import random_uint32

pytestmark = pytest.mark.usefixtures("cpu")

KEYS = [(0, 0), (123456789, 42), (2**64 - 1, 2**63 + 5)]


def assert_equals_the_reference(monkeypatch: pytest.MonkeyPatch, x: np.ndarray, p: float, key: tuple[int, int]) -> None:
    """Asserts that values and gradient are the reference's in float32, bit for bit."""
    found = assert_agrees("dropout", x, device="cpu", p=p, key=key)
    with monkeypatch.context() as m:
        m.setattr(kernels, "_kernels_allowed", "reference")
        expected = results("dropout", [x], "float32", "cpu", {"p": p, "key": key})
    for k, array in expected.items():
        np.testing.assert_array_equal(found[k], array)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", [(), (1,), (9,), (3, 5), (2, 3, 400), (0, 4)])
def test_masks_are_numpys(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], key: tuple[int, int]) -> None:
    for p in (0.1, 0.5, 0.9):
        assert_equals_the_reference(monkeypatch, np.random.default_rng(1).standard_normal(shape), p, key)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3000), st.floats(0.01, 0.99), st.tuples(*[st.integers(0, 2**64 - 1)] * 2), st.sampled_from([1, 2, 3, 5]))
def test_drawn_sizes(cpu: Library, monkeypatch: pytest.MonkeyPatch, size: int, p: float, key: tuple[int, int], threads: int) -> None:
    cpu.functions["pool_size"](threads)
    assert_equals_the_reference(monkeypatch, np.random.default_rng(size).standard_normal(size), p, key)


def test_a_word_equal_to_the_threshold_is_kept() -> None:
    key = (3, 3)
    for word in random_uint32(key, 16)[[0, 9, 15]].tolist():
        assert_agrees("dropout", np.ones(16), device="cpu", p=word / 2**32, key=key)


def test_the_smallest_and_the_largest_threshold() -> None:
    for p in (2**-32, 1 - 2**-33):  # the latter drops all but the largest word
        assert_agrees("dropout", np.ones(3000), device="cpu", p=p, key=(3, 3))


def test_all_or_nothing_is_left_to_the_reference() -> None:
    for p in (0, 1):
        assert_declines("dropout", np.ones((2, 3)), device="cpu", p=p, key=(0, 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_dropped_values_that_are_not_finite_stay_visible(bad: float) -> None:
    y, vjp = dropout.dropout(np.full(64, bad, np.float32), p=0.5, key=(1, 1))
    kept = random_uint32((1, 1), 64) >= 2**31
    np.testing.assert_array_equal(np.isnan(y), ~kept | np.isnan(bad))
    np.testing.assert_array_equal(np.isnan(vjp(np.full(64, bad, np.float32))[0]), ~kept | np.isnan(bad))


def test_other_layouts_and_a_second_backward_pass() -> None:
    x = np.random.default_rng(0).standard_normal((50, 21)).astype(np.float32)
    y, vjp = dropout.dropout(x, p=0.3, key=(1, 2))
    turned_y, turned_vjp = dropout.dropout(np.asfortranarray(x), p=0.3, key=(1, 2))
    np.testing.assert_array_equal(y, turned_y)
    assert_same_whatever_the_layout(y * 2 + 1, vjp, turned_vjp)
