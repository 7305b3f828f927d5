"""Bug: "Right in float64, NaN in float32."

A classifier with one score z per text: the probability of class 1 is p = σ(z), and the loss is the mean of
-(label log p + (1 - label) log(1 - p)). Trained in float64 all is well. In float32 the same loop meets a NaN as soon as the
model is sure of itself. How sure? The largest float32 below 1 is 0.99999994.

Find the mistake and repair it, without making the loss less exact: a score of 30 with the label 0 has a loss of 30,
and one of 9.36e-14 with the label 1.
(log p = -softplus(-z) and log(1 - p) = -softplus(z), with softplus(z) = log(1 + exp(z)), which tinylm.softplus computes safely.)
"""

import numpy as np

import tinylm
from tinylm import optim
from tinylm.engine.tensor import Tensor

X = np.linspace(-6, 6, 12)
LABELS = (X > 0).astype(np.float64)


def loss_of(scores, labels):
    """Returns the mean loss.  scores (N,), labels (N,) of 0 and 1, in one dtype."""
    return (labels * tinylm.softplus(-scores) + (1 - labels) * tinylm.softplus(scores)).mean()


def train(dtype, steps=60):
    """Returns the loss of each step, computed in this dtype."""
    x, labels = X.astype(dtype), LABELS.astype(dtype)
    slope = Tensor(np.zeros(1, dtype), requires_grad=True)
    optimizer = optim.AdamW([slope], lr=0.25, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(x * slope, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
