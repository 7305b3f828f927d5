"""Kneser-Ney: what to do with pairs that were never seen.

"Francisco" is frequent, but only after "San". After a new word it is unlikely: what counts is not how often a token occurs
but after how many different tokens. With N(·w) the number of different h for which c(h w) > 0, and N(h·) likewise:
    lower(w) = N(·w)/Σ_v N(·v)                                         the continuation probability
    p(w | h) = max(c(h w) - D, 0)/c(h) + D N(h·)/c(h) · lower(w)       D between 0 and 1
From every pair that was seen the discount D is taken, and all that was taken is shared out by `lower`: rows add up to 1.
A token h that nothing follows (c(h) = 0) has p(w | h) = lower(w).      (Kneser & Ney 1995, interpolated)
"""

import numpy as np


def kneser_ney(counts, discount=0.75):
    """Returns p (V, V).  counts (V, V): counts[h, w] = c(h w)."""
    # >>> lower, then p
    seen = counts > 0
    lower = seen.sum(axis=0) / seen.sum()
    totals = counts.sum(axis=1, keepdims=True)
    safe = np.maximum(totals, 1)
    p = np.maximum(counts - discount, 0) / safe + discount * seen.sum(axis=1, keepdims=True) / safe * lower
    return np.where(totals > 0, p, lower)
    # <<<
