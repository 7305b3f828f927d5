"""Functions without a derivative, which are not recorded: comparisons, constants and positions."""

from tinylm.engine.arrays import array_module, promoted
from tinylm.engine.op import op


@op
def equal(a, b, /):
    """a == b, boolean."""
    a, b = promoted(a, b)
    return array_module(a, b).equal(a, b), None


@op
def not_equal(a, b, /):
    """a != b, boolean."""
    a, b = promoted(a, b)
    return array_module(a, b).not_equal(a, b), None


@op
def less(a, b, /):
    """a < b, boolean."""
    a, b = promoted(a, b)
    return array_module(a, b).less(a, b), None


@op
def less_equal(a, b, /):
    """a <= b, boolean."""
    a, b = promoted(a, b)
    return array_module(a, b).less_equal(a, b), None


@op
def greater(a, b, /):
    """a > b, boolean."""
    a, b = promoted(a, b)
    return array_module(a, b).greater(a, b), None


@op
def greater_equal(a, b, /):
    """a >= b, boolean."""
    a, b = promoted(a, b)
    return array_module(a, b).greater_equal(a, b), None


@op
def zeros_like(x, /):
    """Zeros of x's shape, dtype and device."""
    return array_module(x).zeros_like(x), None


@op
def ones_like(x, /):
    """Ones of x's shape, dtype and device."""
    return array_module(x).ones_like(x), None


@op
def argmax(x, /, axis=None, keepdims=False):
    """The position of the largest element along `axis` (of the flattened array for None), the first of several."""
    return array_module(x).argmax(x, axis=axis, keepdims=keepdims), None


@op
def argmin(x, /, axis=None, keepdims=False):
    """The position of the smallest element along `axis` (of the flattened array for None), the first of several."""
    return array_module(x).argmin(x, axis=axis, keepdims=keepdims), None
