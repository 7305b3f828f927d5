"""Bug: "NaN at step 300, and only then."

Sequences of different lengths are filled up with padding, which the loss must leave out: -1 among the targets means "no target". It
is the mean over the others. Training runs for 300 steps as it should. Then the loss is NaN, and every loss after it.
A lower learning rate, clipping, another seed: nothing helps, it is always step 300.

Find the mistake and repair it. A batch in which there is nothing to learn has the loss 0, and must change nothing.
"""

import numpy as np

import tinylm
from tinylm import optim
from tinylm.engine.tensor import Tensor

VOCABULARY = 8


def batch(step):
    """Returns (ids, targets) of a step: 6 integers each."""
    rng = np.random.default_rng(step)
    ids = rng.integers(0, VOCABULARY, 6)
    targets = (ids + 1) % VOCABULARY  # what is to be learned: count up
    length = 0 if step == 300 else rng.integers(1, 7)
    return ids, np.where(np.arange(6) < length, targets, -1)


def loss_of(table, ids, targets):
    """Returns the mean of -log p(target) over the positions that have a target; table (V, V) holds the scores."""
    log_p = tinylm.log_softmax(table[ids])
    kept = (targets != -1).astype(np.float32)
    picked = log_p[np.arange(len(ids)), np.maximum(targets, 0)]
    return -(picked * kept).sum() / max(float(kept.sum()), 1.0)


def train(steps=320):
    """Returns (the loss of each step, the scores at the end)."""
    table = Tensor(np.zeros((VOCABULARY, VOCABULARY), np.float32), requires_grad=True)
    optimizer = optim.SGD([table], lr=1.0)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(table, *batch(step))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, table.numpy()
