"""How good the probabilities of a classifier are: the figures of its texts, and the temperature that calibrates them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm.engine.random_keys import philox
from tinylm.errors import DataError

BINS = 10
RESAMPLES = 2000
_SHARPEST, _FLATTEST = 1 / 20, 50.0  # temperatures


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns log p(c | text) (N, K) float64 of logits (N,), of which there is one for two classes, or (N, K)."""
    z = np.asarray(logits, np.float64)
    if z.ndim == 1:
        return -np.logaddexp(0, np.stack([z, -z], axis=1))
    return z - np.logaddexp.reduce(z, axis=1, keepdims=True)


def confusion_matrix(labels: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Returns how many texts of class i are said to be of class j, (classes, classes)."""
    return np.bincount(np.asarray(labels) * classes + np.asarray(said), minlength=classes**2).reshape(classes, classes)


def precision_recall_f1(confusion: np.ndarray) -> np.ndarray:
    """Returns (3, classes): of the texts said to be of a class, the part that are; of those of a class, the part said to be; and the
    harmonic mean of the two, 2 right / (said + true). NaN where the denominator is 0."""
    right, said, true = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([right / said, right / true, 2 * right / (said + true)])


def log_loss(log_p: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean of -log p(label | text), in nats."""
    return float(-log_p[np.arange(len(labels)), labels].mean())


def calibration_error(log_p: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Returns Σ_b n_b/N |accuracy_b - confidence_b| over bins of equal count of the texts in the order of their confidence, the
    probability of the most likely class. Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning", with
    bins of equal count (Nixon et al. 2019, arXiv:1904.01685)."""
    confidence, right = np.exp(log_p.max(axis=1)), log_p.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    gaps = [abs(float((right[b] - confidence[b]).sum())) for b in np.array_split(order, min(bins, len(order)))]
    return sum(gaps) / len(order)


def bootstrap_interval(values: Sequence[float] | np.ndarray, seed: int = 0, samples: int = RESAMPLES) -> tuple[float, float]:
    """Returns the 2.5 and the 97.5 percentile of the mean of values drawn from these with replacement, as many as there are: a 95 %
    interval of the mean (Efron 1979). Of differences between two models on the same texts it is that of their paired difference."""
    x = np.asarray(values, float)
    random = np.random.Generator(philox((seed, 0)))
    means = np.array([x[random.integers(0, len(x), len(x))].mean() for _ in range(samples)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Returns the T > 0 for which the log loss of logits / T is lowest, from 1/20 to 50. Guo et al. 2017, arXiv:1706.04599, section 4.2.

    weights: how much each text counts. The loss is convex in 1/T, and bisection finds where its derivative is 0. A few texts that are
    all said rightly would ask for ever sharper probabilities: of N texts each counts K / (N + K) of itself as one of any of the K
    classes, as in Platt 1999, "Probabilistic outputs for support vector machines", section 2.2.
    """
    z = np.asarray(logits, np.float64)
    z = np.stack([np.zeros(len(z)), z], axis=1) if z.ndim == 1 else z
    w = np.ones(len(z)) if weights is None else np.asarray(weights, float)
    doubt = z.shape[1] / (len(z) + z.shape[1])
    right = (1 - doubt) * z[np.arange(len(z)), labels] + doubt * z.mean(axis=1)
    low, high = 1 / _FLATTEST, 1 / _SHARPEST
    for _ in range(60):
        middle = (low + high) / 2
        p = np.exp(log_probabilities(middle * z))
        if float((w * ((p * z).sum(axis=1) - right)).sum()) > 0:
            high = middle
        else:
            low = middle
    return 2 / (low + high)


def figures_of(log_p: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Returns the figures of texts with these log-probabilities (N, K) and labels (N,), as JSON takes them:

    texts, accuracy, accuracy_interval; majority and majority_accuracy: the most common label, and what always saying it gives;
    macro_f1: the mean over the classes that occur or are said; log_loss, calibration_error; classes: [{label, texts, precision,
    recall, f1}], None where there is nothing to divide by; confusion: [[how many of class i are said to be of class j]].
    Raises DataError without a text.
    """
    if not len(labels):
        raise DataError("no labelled text to measure on: expected at least one")
    said = log_p.argmax(axis=1)
    confusion = confusion_matrix(labels, said, len(names))
    each, counts = precision_recall_f1(confusion), confusion.sum(axis=1)
    right = (said == labels).astype(float)
    parts = [dict(zip(("precision", "recall", "f1"), map(_number, column), strict=True)) for column in each.T]
    return {
        "texts": len(labels),
        "accuracy": float(right.mean()),
        "accuracy_interval": list(bootstrap_interval(right, seed)),
        "majority": names[int(counts.argmax())],
        "majority_accuracy": float(counts.max() / len(labels)),
        "macro_f1": float(np.nanmean(each[2])),
        "log_loss": log_loss(log_p, labels),
        "calibration_error": calibration_error(log_p, labels),
        "classes": [{"label": name, "texts": int(n), **part} for name, n, part in zip(names, counts, parts, strict=True)],
        "confusion": confusion.tolist(),
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
