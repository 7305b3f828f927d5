"""Multinomial naive Bayes: a classifier of texts by their word counts."""

from collections.abc import Sequence

import numpy as np

from tinylm.errors import DataError


class NaiveBayes:
    """log p(c | text) = log p(c) + Σ_w n_w log p(w | c) + const, with p(w | c) = (n_cw + 1) / (n_c + vocab_size).

    n_w: how often word w occurs in the text; n_cw: in all training texts of class c; n_c = Σ_w n_cw.
    McCallum & Nigam 1998, "A comparison of event models for naive Bayes text classification", eq. 6.
    Texts are arrays of word ids; the word `ignored` (<unk>) is not counted and not part of the vocabulary.
    """

    def __init__(self, vocab_size: int, ignored: int = 0, classes: int = 2) -> None:
        self.vocab_size, self.ignored, self.classes = vocab_size, ignored, classes
        self.log_prior, self.log_p = np.zeros(classes), np.zeros((classes, vocab_size))

    def fit(self, texts: Sequence[np.ndarray], labels: np.ndarray) -> "NaiveBayes":
        """Counts the words of the texts, labels (N,) from 0 on. Returns self. Raises DataError without a text of each class."""
        for c in range(self.classes):
            members = [ids for ids, label in zip(texts, labels, strict=True) if label == c]
            if not members:
                raise DataError(f"naive Bayes got no text of class {c}")
            counts = np.bincount(np.concatenate(members), minlength=self.vocab_size) + 1.0
            counts[self.ignored] = 0
            with np.errstate(divide="ignore"):
                self.log_p[c] = np.log(counts / counts.sum())
            self.log_p[c, self.ignored] = 0
            self.log_prior[c] = np.log(len(members) / len(texts))
        return self

    def log_odds(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Returns log p(1 | text) - log p(0 | text), (N,) float64, of two classes; above zero means class 1."""
        prior, weights = self.log_prior[1] - self.log_prior[0], self.log_p[1] - self.log_p[0]
        return np.array([prior + weights[ids].sum() for ids in texts])

    def log_probabilities(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Returns log p(c | text), (N, classes) float64."""
        joint = np.array([self.log_prior + self.log_p[:, ids].sum(axis=1) for ids in texts])
        return joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)
