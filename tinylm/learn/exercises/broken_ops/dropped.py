"""Bug: "With dropout the model learns worse than without any, at every rate."

Dropout: y = x m, where m is 0 or 1/(1 - p), chosen by the key. An element that was dropped had no influence on the loss, so its
gradient must be 0. Here some of the dropped elements get a gradient, and some of the kept ones get none: half of what the
model learns is noise.

Find the mistake and repair it.
"""

import tinylm
from tinylm.engine.random_keys import random_uint32


@tinylm.op(random=True)
def dropout(x, /, p=0.5, *, key=None):
    """y = x m.  x of any shape; key: two integers."""

    def mask():
        kept = random_uint32(key, x.size) >= p * 2**32
        return kept.reshape(x.shape).astype(x.dtype) / (1 - p)

    return x * mask(), lambda dy: (dy * mask(),)
