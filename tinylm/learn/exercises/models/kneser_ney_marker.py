"""Marks Kneser-Ney smoothing."""

import numpy as np

from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.work import Work

HINTS = (
    "seen = counts > 0. N(·w) is seen.sum(axis=0): over all h. N(h·) is seen.sum(axis=1, keepdims=True).",
    "max(c - D, 0) is np.maximum(counts - discount, 0). Divide by np.maximum(totals, 1) to be safe where c(h) = 0.",
    "np.where(totals > 0, p, lower) puts `lower` into the rows of tokens that nothing follows.",
)
THEN = "tinylm/models/ngram.py: the same over seven lengths, with three discounts that are estimated from the text."
MISTAKES = (
    Mistake.of(
        "how often, not after how many",
        "lower = seen.sum(axis=0) / seen.sum()",
        "lower = counts.sum(axis=0) / counts.sum()",
        says="how often",
    ),
    Mistake.of("what was taken is not shared out", " + discount * seen.sum(axis=1, keepdims=True) / safe * lower", "", says="shared out"),
    Mistake.of("nothing is taken", "np.maximum(counts - discount, 0)", "counts", says="nothing is taken"),
    Mistake.of("rows without a continuation", "np.where(totals > 0, p, lower)", "p", says="nothing follows"),
    Mistake.of("the other axis", "lower = seen.sum(axis=0)", "lower = seen.sum(axis=1)", says="N(h·)"),
)


def _right(counts: np.ndarray, d: float, lower: np.ndarray, share: bool = True, take: bool = True, empty: bool = True) -> np.ndarray:
    """Returns p pair by pair, as the formula has it."""
    size = len(counts)
    p = np.zeros((size, size))
    for h in range(size):
        total = counts[h].sum()
        if total == 0:
            p[h] = lower if empty else 0
            continue
        for w in range(size):
            kept = max(counts[h, w] - d, 0) if take else counts[h, w]
            p[h, w] = kept / total + (d * (counts[h] > 0).sum() / total * lower[w] if share else 0)
    return p


def mark(work: Work) -> None:
    kneser_ney = work.get("kneser_ney")
    work.begin("the probabilities of a text of 60 tokens")
    size, ids = 6, np.random.default_rng(0).integers(0, 5, 60) // np.array([1, 2] * 30)
    counts = np.zeros((size, size))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    after = (counts > 0).sum(axis=0) / (counts > 0).sum()
    often, other = counts.sum(axis=0) / counts.sum(), (counts > 0).sum(axis=1) / (counts > 0).sum()
    for d in (0.75, 0.4):
        right = _right(counts, d, after)
        causes = {
            "lower(w) counts after how many different tokens w occurs, not how often": _right(counts, d, often),
            "lower has N(h·), how many follow h, where N(·w), how many w follows, belongs": _right(counts, d, other),
            "what was taken is not shared out: rows add up to less than 1": _right(counts, d, after, share=False, empty=True),
            "nothing is taken from the counts: rows add up to more than 1": _right(counts, d, after, take=False),
            "the row of a token that nothing follows is `lower`": _right(counts, d, after, empty=False),
        }
        compare(work, f"p (discount {d})", kneser_ney(counts.copy(), d), right, causes=causes, where=kneser_ney)
    work.begin("all rows add up to 1")
    compare(work, "the sums of the rows", kneser_ney(counts, 0.9).sum(axis=1), np.ones(size), where=kneser_ney)
