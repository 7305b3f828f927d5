"""The figures of a classifier, each with a known answer."""

import numpy as np
import pytest

from tinylm.errors import DataError
from tinylm.train.tasks.class_figures import (
    bootstrap_interval,
    calibration_error,
    confusion_matrix,
    figures_of,
    fit_temperature,
    log_loss,
    log_probabilities,
    precision_recall_f1,
)


def log_p_of(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows))


def test_the_confusion_matrix() -> None:
    """Rows are the labels, columns what was said."""
    found = confusion_matrix(np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]


def test_precision_recall_and_f1() -> None:
    precision, recall, f1 = precision_recall_f1(np.array([[1, 1, 0], [0, 1, 0], [1, 0, 2]]))
    assert precision.tolist() == [1 / 2, 1 / 2, 1]
    assert recall.tolist() == [1 / 2, 1, 2 / 3]
    np.testing.assert_allclose(f1, [1 / 2, 2 / 3, 4 / 5])
    np.testing.assert_allclose(f1, 2 * precision * recall / (precision + recall))


def test_a_class_that_is_never_said_or_never_there() -> None:
    precision, recall, f1 = precision_recall_f1(np.array([[2, 0, 0], [1, 0, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(precision, [2 / 3, np.nan, np.nan])
    np.testing.assert_array_equal(recall, [1, 0, np.nan])
    np.testing.assert_array_equal(f1, [4 / 5, 0, np.nan])


def test_log_probabilities() -> None:
    np.testing.assert_allclose(np.exp(log_probabilities(np.array([0.0, np.log(3)]))), [[1 / 2, 1 / 2], [1 / 4, 3 / 4]])
    np.testing.assert_allclose(np.exp(log_probabilities(np.log([[1.0, 2.0, 5.0]]))), [[1 / 8, 1 / 4, 5 / 8]])
    assert log_probabilities(np.array([-1000.0])).tolist() == [[0.0, -1000.0]]


def test_the_log_loss() -> None:
    assert log_loss(log_p_of([0.5, 0.5], [0.2, 0.8]), np.array([0, 1])) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2)


def test_the_calibration_error() -> None:
    """Two bins: confidences 0.6 and 0.7, of which one is right: |0.5 - 0.65|; 0.8 and 0.9, both right: |1 - 0.85|."""
    log_p = log_p_of([0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.8, 0.2])
    assert calibration_error(log_p, np.array([0, 1, 0, 0]), bins=2) == pytest.approx(0.15)
    assert calibration_error(log_p, np.array([1, 0, 0, 1]), bins=2) == pytest.approx(0.75)  # all wrong: the mean confidence
    # as many bins as texts: the mean distance of each confidence from 0 or 1
    assert calibration_error(log_p, np.array([0, 1, 0, 0])) == pytest.approx((0.4 + 0.7 + 0.2 + 0.1) / 4)


def test_the_bins_have_equal_counts() -> None:
    """Of 100 texts with 75 % confidence, of which 75 are right in turn, each tenth has 7 or 8 right ones."""
    log_p, labels = np.log(np.tile([0.25, 0.75], (100, 1))), (np.arange(100) % 4 != 0).astype(int)
    rights = [labels[start : start + 10].sum() for start in range(0, 100, 10)]
    assert calibration_error(log_p, labels) == pytest.approx(sum(abs(n / 10 - 0.75) for n in rights) / 10)


def test_the_bootstrap_interval() -> None:
    """Of many values it is the normal one, m ± 1.96 s / √n, and a seed repeats it."""
    values = np.random.default_rng(0).standard_normal(400)
    low, high = bootstrap_interval(values, seed=1)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)  # 2,000 samples
    assert bootstrap_interval(values, seed=1) == (low, high) != bootstrap_interval(values, seed=2)
    assert bootstrap_interval([1.0] * 5) == (1.0, 1.0)


def test_the_temperature() -> None:
    """Four texts with the logit 2, three of them of class 1. The rate of 3/4 counts 4/6, that of no knowledge, 1/2, counts 2/6:
    σ(2/T) = 2/3."""
    assert fit_temperature(np.full(4, 2.0), np.array([1, 1, 1, 0])) == pytest.approx(2 / np.log(2), rel=1e-6)
    three = np.zeros((4, 3))
    three[:, 1] = 2.0  # p = (3 (1 - 3/7) + 4 (3/7) / 3) / 4 = 4/7, and e^(2/T) = 2 p / (1 - p)
    assert fit_temperature(three, np.array([1, 1, 1, 0])) == pytest.approx(2 / np.log(2 * (4 / 7) / (3 / 7)), rel=1e-6)


def test_the_temperature_counts_weights() -> None:
    """One text of class 0 that counts three times is three texts."""
    logits = np.array([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    plain = fit_temperature(logits, np.array([1, 1, 1, 1, 1, 1, 0, 0]))
    weighted = fit_temperature(logits, np.array([1, 1, 1, 1, 1, 1, 1, 0]), np.array([6 / 7] * 7 + [2.0]))
    assert weighted == pytest.approx(plain, rel=1e-6)


def test_temperatures_stay_within_their_limits() -> None:
    always, never = np.array([1] * 4000), np.array([0] * 50)
    assert fit_temperature(np.full(4000, 0.1), always) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(np.full(50, 5.0), never) == pytest.approx(50, rel=1e-3)


def test_all_figures() -> None:
    log_p = log_p_of([0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1])
    found = figures_of(log_p, np.array([0, 1, 1, 1]), ("a", "b", "c"))
    low, high = found.pop("accuracy_interval")
    assert low <= 0.75 <= high
    f1 = [2 / 3, 4 / 5]
    assert found == {
        "texts": 4, "accuracy": 0.75, "majority": "b", "majority_accuracy": 0.75, "macro_f1": pytest.approx(np.mean(f1)),
        "log_loss": pytest.approx(-np.log([0.6, 0.7, 0.4, 0.8]).mean()), "calibration_error": pytest.approx((0.5 + 0.4 + 0.3 + 0.2) / 4),
        "classes": [
            {"label": "a", "texts": 1, "precision": 0.5, "recall": 1.0, "f1": pytest.approx(f1[0])},
            {"label": "b", "texts": 3, "precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(f1[1])},
            {"label": "c", "texts": 0, "precision": None, "recall": None, "f1": None},
        ],
        "confusion": [[1, 0, 0], [1, 2, 0], [0, 0, 0]],
    }  # fmt: skip
    with pytest.raises(DataError, match="no labelled text to measure on"):
        figures_of(np.empty((0, 2)), np.empty(0, int), ("a", "b"))
