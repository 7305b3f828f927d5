"""A bigram model: the simplest language model, by counting.

    p(w | h) = (c(h w) + 1)/(c(h) + V)        c(h w): how often token w follows token h;  c(h) = Σ_w c(h w);  V tokens

The 1 is added so that no pair is impossible: log 0 would make the loss of a whole text infinite. Every row adds up to 1.
ids is the text as integers (T,). It has T - 1 pairs: ids[:-1] are the first tokens, ids[1:] those that follow.
counts[ids[:-1], ids[1:]] += 1 counts a pair that occurs twice only once; np.add.at(counts, (rows, columns), 1) counts both.

Write as well the loss of a text: the mean of -log p(ids[t+1] | ids[t]), in nats.
"""

import numpy as np


def bigram(ids, vocab_size):
    """Returns p (V, V): p[h, w] is the probability that w follows h."""
    # >>> count, add 1, divide
    counts = np.zeros((vocab_size, vocab_size))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    return (counts + 1) / (counts.sum(axis=1, keepdims=True) + vocab_size)
    # <<<


def loss(p, ids):
    """Returns the mean of -log p over the pairs of a text."""
    # >>> one line
    return -np.log(p[ids[:-1], ids[1:]]).mean()
    # <<<
