"""Marks the bigram model."""

from itertools import pairwise

import numpy as np

from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.work import Work

HINTS = (
    "counts = np.zeros((V, V)); np.add.at(counts, (ids[:-1], ids[1:]), 1). Row h holds what follows h.",
    "Add 1 to all counts, and divide each row by its sum: counts.sum(axis=1, keepdims=True) + V.",
    "p[ids[:-1], ids[1:]] are the probabilities of the pairs that occurred.",
)
THEN = "tinylm/models/ngram.py counts sequences of up to seven tokens; next, how to share what is left for the unseen."
MISTAKES = (
    Mistake.of("rows and columns exchanged", "(ids[:-1], ids[1:]), 1", "(ids[1:], ids[:-1]), 1", says="exchanged"),
    Mistake.of(
        "repeated pairs counted once", "np.add.at(counts, (ids[:-1], ids[1:]), 1)", "counts[ids[:-1], ids[1:]] += 1", says="counted once"
    ),
    Mistake.of(
        "nothing added",
        "(counts + 1) / (counts.sum(axis=1, keepdims=True) + vocab_size)",
        "counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)",
        says="nothing is added",
    ),
    Mistake.of("divided by all pairs", "counts.sum(axis=1, keepdims=True)", "counts.sum()", says="add up to 1"),
    Mistake.of("a sum of losses", ".mean()", ".sum()", says="mean"),
)


def mark(work: Work) -> None:
    bigram, loss = work.get("bigram"), work.get("loss")
    size, ids = 5, np.random.default_rng(0).integers(0, 4, 60)  # token 4 never occurs
    counts = np.zeros((size, size))
    for h, w in pairwise(ids):
        counts[h, w] += 1
    once = (counts > 0).astype(float)

    def p(c: np.ndarray, more: float = 1.0) -> np.ndarray:
        return (c + more) / (c.sum(axis=1, keepdims=True) + more * size)

    work.begin("the probabilities of a text of 60 tokens")
    found = bigram(ids, size)
    causes = {
        "rows and columns are exchanged: row h holds what follows h": p(counts.T),
        "a pair that occurs several times was counted once: np.add.at": p(once),
        "nothing is added to the counts": counts / np.maximum(counts.sum(axis=1, keepdims=True), 1),
        "the rows do not add up to 1: each is divided by its own sum": (counts + 1) / (counts.sum() + size),
        "the last pair is left out": p(counts - np.eye(size)[ids[-2]][:, None] * np.eye(size)[ids[-1]]),
    }
    compare(work, "p", found, p(counts), causes=causes, where=bigram)
    work.begin("the loss of another text")
    other = np.random.default_rng(1).integers(0, size, 30)
    terms = [-np.log(p(counts)[h, w]) for h, w in pairwise(other)]
    causes = {"the sum and not the mean": sum(terms), "the sign is wrong": -np.mean(terms)}
    compare(work, "the loss", loss(p(counts), other), np.mean(terms), causes=causes, where=loss)
