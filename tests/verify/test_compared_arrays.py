"""The measures of two arrays that are compared, and the list of what does not fit."""

import numpy as np
import pytest

from tinylm.verify.compared_arrays import compared, compared_arrays, mismatches


def test_measures():
    b = np.array([[1.0, -2.0], [0.0, 4.0]], np.float32)
    a = b.copy()
    a[0, 1] = np.nextafter(np.nextafter(a[0, 1], np.float32(9)), np.float32(9))
    a[1, 0] = 1e-3
    row = compared("x", a, b, 0.0)
    assert row.measures["max_abs"] == pytest.approx(1e-3)
    assert row.error == pytest.approx(1e-3 / np.sqrt(21), rel=1e-6)
    assert row.measures["cosine"] == pytest.approx(1, abs=1e-6)
    assert row.measures["ulps"] == pytest.approx(1e-3 / np.spacing(np.float32(4e-3)), rel=1e-3)  # of a thousandth of 4
    assert row.detail == "worst at [1, 0]: 0.001000000047 by tinylm, 0 by PyTorch"


def test_units_of_the_last_place():
    b = np.array([1.0, 3.0])
    assert compared("x", b + 2 * np.spacing(b), b, 0.0).measures["ulps"] == 2
    single = b.astype(np.float32)
    assert compared("x", single + 3 * np.spacing(single), single, 0.0).measures["ulps"] == 3
    assert compared("x", (single + np.spacing(single)), b, 0.0).measures["ulps"] == 1  # the unit of the coarser side


def test_opposite_zero_and_empty():
    b = np.array([1.0, 2.0])
    assert compared("x", -b, b, 0.0).measures["cosine"] == pytest.approx(-1)
    assert np.isnan(compared("x", 0 * b, b, 0.0).measures["cosine"])
    assert compared("x", np.zeros((0, 2)), np.zeros((0, 2)), 0.0).error == 0


def test_small_ones_are_measured_by_the_norm_of_all():
    rows = compared_arrays([("large", np.array([1000.0]), np.array([1000.0])), ("zero", np.array([1e-9]), np.array([0.0]))])
    assert rows[1].error == pytest.approx(1e-9)


def test_mismatches():
    rows = mismatches({"a": (1,), "b": (2, 3), "c": ()}, {"b": (3, 2), "c": (), "d": (4,)}, "the other")
    assert [(row.name, row.detail) for row in rows] == [
        ("a", "only in tinylm, of shape (1,)"),
        ("d", "only in the other, of shape (4,)"),
        ("b", "shape (2, 3) in tinylm, (3, 2) in the other"),
    ]
    assert all(row.error == np.inf for row in rows)
