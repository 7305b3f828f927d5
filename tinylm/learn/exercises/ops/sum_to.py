"""sum_to: what undoes broadcasting.

An array of `shape` that is repeated to x.shape gets new axes in front and repeats its axes of length 1:
    (3,)   -> (2, 3)      one axis in front
    (2, 1) -> (2, 3)      the axis of length 1 becomes 3
    (1, 3) -> (4, 2, 3)   both
Shapes are lined up at their ends: the last axis of one is the last axis of the other.
Write the function that goes the other way: it sums x over exactly these axes, so that the result has `shape`.
x.sum(axis=(0, 2), keepdims=True) sums over several axes and keeps them with length 1; x.reshape(shape) can drop them.
If x has the shape already, nothing is summed.
"""


def sum_to(x, shape):
    """Returns x summed down to `shape`.  x: an array of a shape to which `shape` broadcasts."""
    # >>> find the axes, sum over them, return an array of `shape`
    front = x.ndim - len(shape)
    axes = [*range(front), *(front + i for i, n in enumerate(shape) if n == 1 and x.shape[front + i] != 1)]
    return x.sum(axis=tuple(axes), keepdims=True).reshape(shape)
    # <<<
