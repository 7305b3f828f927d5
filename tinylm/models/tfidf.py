"""TF-IDF of words and word pairs with logistic regression: the classifier that others are compared with."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.optimize import minimize

from tinylm.errors import DataError


class TfidfClassifier:
    """p(c | text) = softmax(W x + b)_c, for two classes p(1 | text) = σ(w · x + b), where x has a number for each word and each pair of
    adjacent words of the training texts: x_i = n_i idf_i / ‖n idf‖, n_i: how often it occurs in the text,
    idf_i = ln((1 + N) / (1 + N_i)) + 1: N training texts, N_i of which have it.

    W, b: the minimum of Σ_texts -log p(label | text) + ‖W‖² / (2 strength), found by L-BFGS (Liu & Nocedal 1989).
    These are scikit-learn's TfidfVectorizer(ngram_range=(1, 2)) and LogisticRegression(C=strength) on the same words.
    Texts are arrays of word ids; the word 0 (<unk>) and pairs with it count nothing.
    """

    def __init__(self, vocab_size: int, classes: int = 2, strength: float = 10.0) -> None:
        self.vocab_size, self.classes, self.strength = vocab_size, classes, strength
        self.known = np.empty(0, np.int64)  # the words, and the pairs (a, b) as vocab_size + a vocab_size + b, in ascending order
        self.idf, self.weights, self.bias = np.empty(0), np.empty((0, 1)), np.zeros(1)

    def fit(self, texts: Sequence[np.ndarray], labels: np.ndarray, tolerance: float = 1e-4, steps: int = 200) -> "TfidfClassifier":
        """Learns from texts with labels (N,) from 0 on. tolerance: the largest derivative at the end; steps: of L-BFGS at most.

        Returns self. Raises DataError without a text of each class.
        """
        missing = sorted(set(range(self.classes)) - set(np.asarray(labels).tolist()))
        if missing:
            raise DataError(f"TF-IDF got no text of class {missing[0]}")
        features = [self._features(ids) for ids in texts]
        self.known = np.unique(np.concatenate(features))
        counts = self._counts(features)
        self.idf = np.log((1 + len(texts)) / (1 + np.bincount(counts.indices, minlength=len(self.known)))) + 1
        x = self._weighted(counts)
        shape = (x.shape[1], 1 if self.classes == 2 else self.classes)
        truth = (np.asarray(labels)[:, None] == (1 if self.classes == 2 else np.arange(self.classes))).astype(float)
        transposed = x.T.tocsr()

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights, bias = flat[: -shape[1]].reshape(shape), flat[-shape[1] :]
            z = x @ weights + bias
            total = np.logaddexp(0, z) if self.classes == 2 else np.logaddexp.reduce(z, axis=1, keepdims=True)
            error = np.exp(z - total) - truth  # σ(z) = exp(z - log(1 + e^z))
            value = total.sum() - (z * truth).sum() + (weights**2).sum() / (2 * self.strength)
            return value, np.concatenate([(transposed @ error + weights / self.strength).ravel(), error.sum(axis=0)])

        start = np.zeros(shape[0] * shape[1] + shape[1])
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps, "gtol": tolerance, "ftol": 0.0}).x
        self.weights, self.bias = found[: -shape[1]].reshape(shape), found[-shape[1] :]
        return self

    def log_probabilities(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Returns log p(c | text), (N, classes) float64."""
        z = self._weighted(self._counts([self._features(ids) for ids in texts])) @ self.weights + self.bias
        if self.classes == 2:
            return -np.logaddexp(0, np.concatenate([z, -z], axis=1))
        return z - np.logaddexp.reduce(z, axis=1, keepdims=True)

    def _features(self, ids: np.ndarray) -> np.ndarray:
        """Returns the known words of a text and its pairs of them, as `known` numbers them."""
        ids = ids.astype(np.int64)
        pairs = self.vocab_size * (1 + ids[:-1]) + ids[1:]
        return np.concatenate([ids[ids != 0], pairs[(ids[:-1] != 0) & (ids[1:] != 0)]])

    def _counts(self, features: Sequence[np.ndarray]) -> sparse.csr_matrix:
        """Returns how often each known word or pair occurs in each text (N, known)."""
        rows = np.repeat(np.arange(len(features)), [len(each) for each in features])
        found = np.concatenate([np.empty(0, np.int64), *features])
        columns = np.searchsorted(self.known, found)
        kept = np.append(self.known, -1)[columns] == found
        counts = sparse.csr_matrix((np.ones(kept.sum()), (rows[kept], columns[kept])), shape=(len(features), len(self.known)))
        counts.sum_duplicates()
        return counts

    def _weighted(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Returns the rows n idf / ‖n idf‖; a text without a known word has zeros."""
        x = counts @ sparse.diags(self.idf)
        lengths = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
        return (sparse.diags(1 / np.where(lengths > 0, lengths, 1)) @ x).tocsr()
