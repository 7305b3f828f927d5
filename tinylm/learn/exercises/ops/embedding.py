"""Embedding: one row of a table for each token.

    y[n] = weight[ids[n]]        ids (...) integers from 0 to V-1, weight (V, C) -> y (..., C)

The value is one line. The gradient of weight[v] is the sum of dy over all positions where v stands: a token that occurs
three times gets three contributions, one that does not occur gets zeros. NumPy's dweight[ids] += dy keeps only the last of
several contributions to one row: do not use it.

    xp.scatter_add(values, key, shape)    zeros of `shape`, to which values are added at [key]; what meets at one place adds up
"""

import tinylm


@tinylm.op
def embedding(ids, weight, /):
    """y = weight[ids].  ids (...) integers, weight (V, C) -> y (..., C)."""
    xp = tinylm.array_module(weight)
    # >>> compute y, define vjp(dy), return y, vjp
    return weight[ids], lambda dy: (None, xp.scatter_add(dy, ids, weight.shape))
    # <<<
