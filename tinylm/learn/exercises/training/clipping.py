"""Clipping: one bad batch must not throw the model away.

The norm of all gradients together is  norm = √(Σ over all arrays, Σ over all elements, g²).
If it is larger than max_norm, every gradient is multiplied by max_norm/norm: the direction stays, the length becomes max_norm.
If it is not larger, nothing changes: clipping never makes gradients longer (Pascanu et al. 2013, algorithm 1).
Return the norm before clipping as well: it is the number to watch while a model trains.
"""

import math


def clip(grads, max_norm):
    """Returns (norm before, list of clipped gradients).  grads: a list of arrays of any shapes."""
    # >>> one norm for all, one factor for all
    norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
    factor = min(1.0, max_norm / norm) if norm > 0 else 1.0
    return norm, [g * factor for g in grads]
    # <<<
