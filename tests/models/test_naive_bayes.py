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
