"""Mixes several models' predictions, with weights that are learned while the text is read."""

from collections.abc import Sequence

import numpy as np

from tinylm.errors import DataError


def mix(losses: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (-log p of each token under the mixture, the weights after the last token).

    p_t = Σ_i w_i,t p_i,t,  w_i,t = (1 + Σ_{s<t} w_i,s p_i,s / p_s) / (m + t - 1): a model's weight is
    the part of the text so far that it explained, by an incremental expectation maximisation (Neal &
    Hinton 1998) that begins with equal weights, which count as one token for each of the m
    models. A weight depends on earlier tokens alone, so the result is a fair loss: nothing was
    chosen with knowledge of the text.

    losses: for each model -log p_i,t in nats, arrays of one length. Raises DataError for others, for a NaN or -inf, and for a
    token to which every model gives a probability of 0.
    """
    if len({loss.shape for loss in losses}) != 1 or losses[0].ndim != 1:
        raise DataError(f"losses of shapes {[loss.shape for loss in losses]}: expected one length for all models")
    lowest = np.min(losses, axis=0)  # p relative to the best model's: no underflow
    if not np.isfinite(lowest).all():
        t = int(np.argmin(np.isfinite(lowest)))
        raise DataError(f"the losses of token {t} are {[float(loss[t]) for loss in losses]}: expected numbers, one of them finite")
    relative = np.exp(lowest - np.stack(losses)).T.tolist()
    counts = [1.0] * len(losses)
    mixed = np.empty(len(relative))
    for t, p in enumerate(relative):
        parts = [c * p_i for c, p_i in zip(counts, p, strict=True)]
        total = sum(parts)
        mixed[t] = total / (len(counts) + t)  # the counts sum to m + t
        counts = [c + part / total for c, part in zip(counts, parts, strict=True)]
    return lowest - np.log(mixed), np.array(counts) / sum(counts)
