"""Bug: "The loss is stuck at log V."

A model that knows nothing gives each of V tokens the probability 1/V: a loss of log V. That is where this one begins, which is
right, and where it stays, however long it is trained. No error, no NaN, a healthy gradient.

Find the mistake and repair it. print() what you suspect: the gradients before the update, the weights after it.
"""

import numpy as np

import tinylm
from tinylm import nn, optim

TEXT = "to be, or not to be, that is the question. "
VOCABULARY = sorted(set(TEXT))
IDS = np.array([VOCABULARY.index(c) for c in TEXT])


def train(steps=60):
    """Returns the loss of each step."""
    tinylm.manual_seed(0)
    embedding, head = nn.Embedding(len(VOCABULARY), 16), nn.Linear(16, len(VOCABULARY))
    optimizer = optim.AdamW([*embedding.parameters(), *head.parameters()], lr=0.05)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        logits = head(0.1 * tinylm.tanh(embedding(IDS[:-1])))
        loss = tinylm.cross_entropy(logits, IDS[1:])
        loss.backward()
        optimizer.step(max_norm=1.0)
        losses.append(loss.item())
    return losses
