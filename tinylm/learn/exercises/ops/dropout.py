"""Dropout with a key: random, and yet the same each time it is computed.

    y = x m,    m = 0 with probability p, else 1/(1 - p)        so that y is x on average

Where is the randomness? In `key`, two integers that tinylm draws for each call and hands to the op. random_uint32(key, n)
returns n random integers from 0 to 2³² - 1: the same for the same key, whenever it is called. Element i (of the
flattened x) is kept if the i-th integer is at least p 2³². So a second run of the op, in the backward pass or in a resumed
training, repeats the mask. The vjp must use that same mask: dx = dy m.
Make the mask in x's dtype: mask.astype(x.dtype), or float32 would become float64.
"""

import tinylm
from tinylm.engine.random_keys import random_uint32


@tinylm.op(random=True)
def dropout(x, /, p=0.5, *, key=None):
    """y = x m.  x of any shape, p below 1; key: two integers, never None when the body runs."""
    # >>> make the mask from the key, compute y, define vjp(dy), return y, vjp
    kept = random_uint32(key, x.size) >= p * 2**32
    mask = kept.reshape(x.shape).astype(x.dtype) / (1 - p)
    return x * mask, lambda dy: (dy * mask,)
    # <<<
