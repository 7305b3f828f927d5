"""Adam: one step of the optimiser that everyone uses.

    m' = β1 m + (1 - β1) g            a running mean of the gradient
    v' = β2 v + (1 - β2) g²           and of its square, element by element
    w' = w - lr m̂ / (√v̂ + eps),      m̂ = m'/(1 - β1ᵗ),  v̂ = v'/(1 - β2ᵗ)         (Kingma & Ba 2014, algorithm 1)

m and v begin at zero, so the first means are too small: the divisions by 1 - βᵗ repair that. t is 1 in the first step.
After the first step every weight has moved by almost exactly lr, whatever the size of its gradient: do you see why?
"""

import numpy as np


def adam(w, g, m, v, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Returns (w', m', v'), new arrays.  w, g, m, v: arrays of one shape; t: the number of this step, from 1."""
    # >>> m', v', w'
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    mean, square = m / (1 - beta1**t), v / (1 - beta2**t)
    return w - lr * mean / (np.sqrt(square) + eps), m, v
    # <<<
