"""Dropout on a GPU: the masks that NumPy makes, bit for bit."""

import numpy as np
import pytest
from kernel_helpers import assert_agrees, assert_declines, results

from tinylm.engine.random_keys import random_uint32

pytestmark = pytest.mark.usefixtures("cuda")

KEYS = [(0, 0), (123456789, 42), (2**64 - 1, 2**63 + 5)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", [(), (1,), (9,), (3, 5), (2, 3, 400), (0, 4)])
def test_masks_are_numpys(shape: tuple[int, ...], key: tuple[int, int]) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for p in (0.1, 0.5, 0.9):
        found = assert_agrees("dropout", x, p=p, key=key)
        expected = results("dropout", [x], "float32", "cpu", {"p": p, "key": key})
        for k, array in expected.items():
            np.testing.assert_array_equal(found[k], array)


def test_a_word_equal_to_the_threshold_is_kept() -> None:
    key = (3, 3)
    for word in random_uint32(key, 16)[[0, 9, 15]].tolist():
        assert_agrees("dropout", np.ones(16), p=word / 2**32, key=key)


def test_the_smallest_and_the_largest_threshold() -> None:
    for p in (2**-32, 1 - 2**-33):  # the latter drops all but the largest word
        assert_agrees("dropout", np.ones(3000), p=p, key=(3, 3))


def test_all_or_nothing_is_left_to_the_reference() -> None:
    for p in (0, 1):
        assert_declines("dropout", np.ones((2, 3)), p=p, key=(0, 0))


def test_dropped_values_that_are_not_finite_stay_visible() -> None:
    x = np.full(64, np.inf, np.float32)
    with np.errstate(invalid="ignore"):
        expected = results("dropout", [x], "float32", "cpu", {"p": 0.5, "key": (1, 1)})
    found = results("dropout", [x], "float32", "cuda", {"p": 0.5, "key": (1, 1)})
    np.testing.assert_array_equal(found["output 0"], expected["output 0"])
    assert np.isnan(found["output 0"]).any()
