"""The sum y = a + b, where one may be repeated to fit the other.

NumPy repeats ("broadcasts") the smaller array: a (2, 3) + b (3,) adds b to both rows, and a (2, 1) is repeated along its
last axis. Without that, da = dy and db = dy. But an element of b that was used twice moves the loss twice:
its gradient is the sum of the gradients of its copies, and has b's shape, not y's.

    sum_to(x, shape)   sums x over the axes along which an array of `shape` was repeated, and returns an array of `shape`

does that; the next exercise is to write it. Here, use it.
"""

import tinylm
from tinylm.engine.arrays import sum_to


@tinylm.op
def add(a, b, /):
    """y = a + b.  a, b of shapes that broadcast to one shape, that of y."""
    # >>> compute y, define vjp(dy), return y, vjp. Use sum_to.
    y = a + b

    def vjp(dy):
        return sum_to(dy, a.shape), sum_to(dy, b.shape)

    return y, vjp
    # <<<
