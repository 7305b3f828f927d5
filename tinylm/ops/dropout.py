"""Dropout with masks that a key determines, so that running the op again repeats them."""

import math
from typing import Any

from tinylm.checks import check_probability
from tinylm.engine.arrays import Array, array_module, raw_module
from tinylm.engine.op import op
from tinylm.engine.random_keys import random_uint32


def keep_mask(x: Array, shape: tuple[int, ...], p: float, key: tuple[int, int]) -> Array:
    """Returns 0 with probability p, else 1/(1 - p), in x's dtype and on its device: element i is kept if the i-th
    32-bit word of the key's Philox stream is at least p 2³². Raises ConfigError for a p outside 0 to 1."""
    p = check_probability(p)
    if p == 1:
        return raw_module(x).zeros(shape, x.dtype)
    words = random_uint32(key, math.prod(shape))
    kept: Any = (words >= min(round(p * 2**32), 2**32 - 1)).reshape(shape)
    return raw_module(x).asarray(kept.astype(x.dtype) * x.dtype.type(1 / (1 - p)))


@op(random=True)
def dropout(x, /, p=0.5, *, key=None):
    """x m with m = 0 with probability p, else 1/(1 - p).  dx = dy m.

    key: (seed, n) of the stream of random numbers; if it is None, the default generator's next one.
    Srivastava et al. 2014, JMLR 15, section 4 (scaled during training, off at test time).
    """
    xp = array_module(x)
    if check_probability(p) == 0:
        return xp.multiply(x, 1), lambda dy: (dy,)
    mask = keep_mask(x, x.shape, p, key)
    return x * mask, lambda dy: (dy * mask,)
