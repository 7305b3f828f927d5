"""Bug: "Validation is better than training. Is my model that good?"

The text here is pure chance: each token is drawn from 8, whatever came before. The best that any model can reach on a text
that it has not seen is log 8 = 2.08 nats. This one remembers what followed each three tokens. On validation it reaches
far less than 2.08, and less than it had during training: it must have seen the validation text.

Find the leak and close it. The split must still give about nine tenths of the text to training, all in windows of 8.
"""

import numpy as np

import tinylm
from tinylm import optim
from tinylm.engine.tensor import Tensor

VOCABULARY, LENGTH = 8, 8


def windows(ids):
    """Returns all windows of the text, each LENGTH long and one token further than the one before it: (N, LENGTH)."""
    return np.lib.stride_tricks.sliding_window_view(ids, LENGTH)


def split(ids, rng):
    """Returns (windows for training, windows for validation), shuffled."""
    cut = int(0.9 * len(ids))
    return rng.permutation(windows(ids[:cut])), rng.permutation(windows(ids[cut:]))


def loss_of(table, rows):
    """Returns the loss of windows (N, LENGTH): each token from the three before it; table (V³, V) holds the scores."""
    context = (rows[:, :-3] * VOCABULARY + rows[:, 1:-2]) * VOCABULARY + rows[:, 2:-1]
    return tinylm.cross_entropy(table[context.ravel()], rows[:, 3:].ravel())


def train(steps=60):
    """Returns (mean loss during training, validation loss at the end)."""
    rng = np.random.default_rng(0)
    training, validation = split(rng.integers(0, VOCABULARY, 400), rng)
    table = Tensor(np.zeros((VOCABULARY**3, VOCABULARY), np.float32), requires_grad=True)
    optimizer = optim.AdamW([table], lr=0.1, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(table, rng.choice(training, 32))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / steps, loss_of(table, validation).item()
