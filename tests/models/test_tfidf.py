"""TF-IDF with logistic regression by hand, at its minimum, and compared with scikit-learn."""

import itertools

import numpy as np
import pytest

from tinylm.errors import DataError
from tinylm.models.tfidf import TfidfClassifier


def texts_and_labels(classes: int, count: int = 60) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(classes)
    labels = np.arange(count) % classes
    return [rng.integers(0, 20, rng.integers(2, 9)) // (1 + (label == 0)) for label in labels], labels


def test_the_features_by_hand():
    """Texts "1 2" and "1 1": the words 1 and 2, the pairs 12 and 11; <unk> and its pairs count nothing."""
    model = TfidfClassifier(3).fit([np.array([1, 2, 0]), np.array([1, 1])], np.array([0, 1]))
    assert model.known.tolist() == [1, 2, 3 * 2 + 1, 3 * 2 + 2]
    rare = np.log(3 / 2) + 1
    np.testing.assert_allclose(model.idf, [1, rare, rare, rare], rtol=1e-12)
    model.weights, model.bias = np.array([[1.0], [0.0], [0.0], [0.0]]), np.array([0.5])
    p = np.exp(model.log_probabilities([np.array([1, 1]), np.array([0, 2]), np.array([0])]))
    z = np.array([2 / np.hypot(2, rare) + 0.5, 0.5, 0.5])
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-12)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_at_the_minimum(classes):
    """The derivative by every weight is zero: Σ_texts (p - truth) x + weight / strength; and p of the training texts tells them apart."""
    texts, labels = texts_and_labels(classes)
    model = TfidfClassifier(20, classes, strength=2.0).fit(texts, labels, tolerance=1e-8, steps=2000)
    p = np.exp(model.log_probabilities(texts))
    error = p - np.eye(classes)[labels]
    one_hot = [model.log_probabilities([ids]) for ids in texts]
    np.testing.assert_allclose(np.concatenate(one_hot), np.log(p), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(error.sum(axis=0), 0, atol=1e-5)
    x = np.zeros((len(texts), len(model.known)))
    for row, ids in zip(x, texts, strict=True):
        pairs = [20 * (1 + a) + b for a, b in itertools.pairwise(ids) if a and b]
        for feature in [*ids[ids != 0], *pairs]:
            row[np.flatnonzero(model.known == feature)] += 1
    x *= model.idf
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    gradient = x.T @ error[:, 1:] if classes == 2 else x.T @ error
    np.testing.assert_allclose(gradient, -model.weights / 2.0, atol=1e-5)
    assert np.mean(p.argmax(axis=1) == labels) > 0.8


@pytest.mark.parametrize("classes", [2, 3])
def test_against_scikit_learn(classes):
    linear_model, text = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.feature_extraction.text")
    texts, labels = texts_and_labels(classes)
    texts = [np.maximum(ids, 1) for ids in texts]  # it has no <unk>
    words = [" ".join(f"w{i}" for i in ids) for ids in texts]
    vectors = text.TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    regression = linear_model.LogisticRegression(C=1.5, tol=1e-8, max_iter=2000).fit(vectors.fit_transform(words[:40]), labels[:40])
    theirs = regression.predict_log_proba(vectors.transform(words[40:]))
    ours = TfidfClassifier(20, classes, strength=1.5).fit(texts[:40], labels[:40], tolerance=1e-8, steps=2000).log_probabilities(texts[40:])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)  # both stop at a derivative of 1e-8, or where the loss falls no more


def test_a_class_without_texts_is_refused():
    with pytest.raises(DataError, match="TF-IDF got no text of class 2"):
        TfidfClassifier(4, 3).fit([np.array([1]), np.array([2])], np.array([0, 1]))


def test_texts_of_unknown_words_alone():
    """The bias is all that is learned: half of the texts are of each class."""
    model = TfidfClassifier(4).fit([np.array([0]), np.array([0, 0])], np.array([0, 1]))
    np.testing.assert_allclose(model.log_probabilities([np.array([0])]), np.log([[0.5, 0.5]]), rtol=1e-6)
