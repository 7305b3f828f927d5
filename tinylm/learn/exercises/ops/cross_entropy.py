"""Cross-entropy: the loss of every language model, straight from the scores.

logits (N, V) hold a score for each of V tokens at N positions, targets (N,) the token that really came. With
    p = softmax(logits) along the last axis,     loss = -(1/N) Σ_n log p[n, targets[n]].
The logarithm of a softmax is x - max - log Σ exp(x - max): never take log(softmax), which is log(0) for a small p.

The gradient is famous for its simplicity: dlogits = dy (p - onehot)/N, where onehot is 1 at the targets and 0 elsewhere.
Check it on paper: ∂ log p_t/∂x_j = onehot_j - p_j.
targets are integers: their place in the vjp's tuple holds None. x[rows, targets] picks one element per row. For second derivatives
the vjp runs on tensors, which cannot be written into: make onehot of np.zeros(logits.shape, logits.dtype), of the same number type,
and do not change p at [rows, targets].
"""

import numpy as np

import tinylm


@tinylm.op
def cross_entropy(logits, targets, /):
    """The mean of -log softmax(logits)[target].  logits (N, V), targets (N,) integers -> a scalar."""
    xp = tinylm.array_module(logits)
    rows = np.arange(len(targets))
    # >>> compute the loss, define vjp(dy), return loss, vjp
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))

    def vjp(dy):
        onehot = np.zeros(logits.shape, logits.dtype)
        onehot[rows, targets] = 1
        return dy * (xp.exp(log_p) - onehot) / len(targets), None

    return -xp.mean(log_p[rows, targets]), vjp
    # <<<
