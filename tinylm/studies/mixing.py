"""Mixes several models' predictions, with weights that are learned while the text is read."""

import math
from collections.abc import Sequence

import numpy as np

from tinylm.errors import DataError

LINEAR = 1e-3  # of the prior, for the linear mixture; the models share the rest


def mix(losses: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (-log p of each token under the mixture, the weights of the models after the last token).

    The mixture is Bayesian: its experts are the m models and the linear mixture q of `linear_mixture`, and

        P(text) = (1 - ε)/m Σ_i Π_t p_i,t + ε Π_t q_t,  ε = 0.001.

    A sum is at least each of its parts. So whatever the text is, the sum of the mixture's losses is at most that of the best
    model plus ln m - ln(1 - ε): per token no more than (ln(m) + 0.0011) / tokens worse than the best of them (Cesa-Bianchi &
    Lugosi 2006, "Prediction, Learning, and Games", section 9.2). And it is at most that of q plus ln 1/ε = 6.9: where the models
    know different things and q is better than each of them, it loses 6.9 nats on the whole text to q. No method that knows the
    past alone can have the first bound with ln m alone and gain from mixing: the models' parts of P take up all of it.

    A token's loss is -log of the ratio of P with and without it, which depends on what came before alone: nothing is chosen with
    knowledge of the text. The weights are those of the models in the prediction after the last token.

    losses: for each model -log p_i,t in nats, arrays of one length. Raises DataError for others, for a NaN or -inf, and for a
    token to which every model gives a probability of 0.
    """
    linear, inside = linear_mixture(losses)
    if not len(linear):
        return linear, inside
    members = len(losses)
    ahead = np.cumsum(linear - np.stack(losses), axis=1)  # log Π p_i / Π q: no number that grows with the text where all are alike
    scores = np.vstack([np.log((1 - LINEAR) / members) + ahead, np.full(linear.shape, math.log(LINEAR))])
    highest = scores.max(axis=0)
    together = highest + np.log(np.exp(scores - highest).sum(axis=0))  # log P / Π q
    shares = np.exp(scores[:, -1] - together[-1])
    return linear - np.diff(together, prepend=0.0), shares[:-1] + shares[-1] * inside


def linear_mixture(losses: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (-log q of each token, the weights after the last token) of a weighted sum of the models' probabilities.

    q_t = Σ_i w_i,t p_i,t,  w_i,t = (1 + Σ_{s<t} w_i,s p_i,s / q_s) / (m + t - 1): a model's weight is
    the part of the text so far that it explained, by an incremental expectation maximisation (Neal &
    Hinton 1998) that begins with equal weights, which count as one token for each of the m models. It approaches the best
    weights, more slowly where these are 0 and 1.

    losses, errors: as of `mix`.
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
