"""Naive Bayes by hand and compared with scikit-learn."""

import numpy as np
import pytest

from tinylm.errors import DataError
from tinylm.models.naive_bayes import NaiveBayes


def test_by_hand():
    """Words 1 to 3, <unk> 0: class 1 has "1 1 2", class 0 has "3" and "1 0"."""
    model = NaiveBayes(4).fit([np.array([1, 1, 2]), np.array([3]), np.array([1, 0])], np.array([1, 0, 0]))
    # p(. | 1) = 3/6, 2/6, 1/6; p(. | 0) = 2/5, 1/5, 2/5; p(1) = 1/3
    expected = [
        np.log(1 / 3) - np.log(2 / 3) + np.log(3 / 6) - np.log(2 / 5),
        np.log(1 / 3) - np.log(2 / 3) + 2 * (np.log(1 / 6) - np.log(2 / 5)),
        np.log(1 / 3) - np.log(2 / 3),
    ]
    np.testing.assert_allclose(model.log_odds([np.array([1]), np.array([3, 0, 3]), np.array([0])]), expected, rtol=1e-12)


def test_against_scikit_learn():
    naive_bayes = pytest.importorskip("sklearn.naive_bayes")
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 30, rng.integers(1, 12)) for _ in range(60)]
    labels = rng.integers(0, 2, 60)
    counts = np.array([np.bincount(t, minlength=30) for t in texts])[:, 1:]  # without <unk>
    theirs = naive_bayes.MultinomialNB().fit(counts[:40], labels[:40])
    log_p = theirs.predict_joint_log_proba(counts[40:])
    ours = NaiveBayes(30).fit(texts[:40], labels[:40]).log_odds(texts[40:])
    np.testing.assert_allclose(ours, log_p[:, 1] - log_p[:, 0], rtol=1e-9, atol=1e-12)


def test_one_class_is_refused():
    with pytest.raises(DataError, match="no text of class 0"):
        NaiveBayes(4).fit([np.array([1])], np.array([1]))


def test_three_classes_by_hand():
    """Class 0: "1", class 1: "2 2", class 2: "1 2" twice: p(1 | c) = 2/3, 1/4, 3/6."""
    texts = [np.array([1]), np.array([2, 2]), np.array([1, 2]), np.array([1, 2])]
    model = NaiveBayes(3, classes=3).fit(texts, np.array([0, 1, 2, 2]))
    joint = np.array([1 / 4 * 2 / 3, 1 / 4 * 1 / 4, 1 / 2 * 1 / 2])
    np.testing.assert_allclose(np.exp(model.log_probabilities([np.array([1, 0])])), [joint / joint.sum()], rtol=1e-12)


def test_probabilities_of_two_classes_are_the_odds():
    rng = np.random.default_rng(3)
    texts = [rng.integers(0, 9, 5) for _ in range(12)]
    model = NaiveBayes(9).fit(texts, np.arange(12) % 2)
    log_p = model.log_probabilities(texts)
    np.testing.assert_allclose(log_p[:, 1] - log_p[:, 0], model.log_odds(texts), rtol=1e-10, atol=1e-12)
