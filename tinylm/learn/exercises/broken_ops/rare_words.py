"""Bug: "Rare words get good vectors, frequent ones stay as they were at the start."

An embedding: y[n] = weight[ids[n]]. In small tests with distinct ids everything is right. In a real text, where "the" stands
in every line, the vectors of the frequent words hardly learn: each gets the gradient of only one of its occurrences.

Find the mistake and repair it.
"""

import numpy as np

import tinylm


@tinylm.op
def embedding(ids, weight, /):
    """y = weight[ids].  ids (...) integers, weight (V, C) -> y (..., C)."""

    def vjp(dy):
        onehot = np.zeros((ids.size, len(weight)), weight.dtype)
        onehot[np.arange(ids.size), ids.ravel()] = 1
        xp = tinylm.array_module(dy)
        return None, xp.matmul(onehot.T, xp.reshape(dy, (ids.size, weight.shape[1])))

    return weight[ids], vjp
