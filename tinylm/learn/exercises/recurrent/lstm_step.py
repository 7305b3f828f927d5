"""One step of an LSTM, out of ops that differentiate themselves.

From here on tensors and ops do the work: a @ b, a + b, a * b, tinylm.sigmoid, tinylm.tanh. No vjp is needed.
    z = x W_ihᵀ + h W_hhᵀ + bias            (N, 4H), four blocks of H columns: i, f, g, o, in this order
    c' = σ(f) c + σ(i) tanh(g)              what is forgotten of the old cell, what is written anew
    h' = σ(o) tanh(c')                      what is shown of it       (Hochreiter & Schmidhuber 1997; Gers et al. 2000)
weight_ih is (4H, I), weight_hh (4H, H), like PyTorch's, so both are transposed: weight_ih.T.
tinylm.split(z, 4, axis=-1) cuts z into four. Return (h', c').
"""

import tinylm


def lstm_step(x, h, c, weight_ih, weight_hh, bias):
    """Returns (h', c').  x (N, I); h, c (N, H); bias (4H,)."""
    # >>> z, the four gates, c', h'
    z = x @ weight_ih.T + h @ weight_hh.T + bias
    i, f, g, o = tinylm.split(z, 4, axis=-1)
    new = tinylm.sigmoid(f) * c + tinylm.sigmoid(i) * tinylm.tanh(g)
    return tinylm.sigmoid(o) * tinylm.tanh(new), new
    # <<<
