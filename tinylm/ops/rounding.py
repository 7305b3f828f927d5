"""Integers out of numbers: rounding, and division with a remainder. A floor or a rounded number has the derivative 0 wherever it has
one, so nothing is recorded for it."""

from tinylm.engine.arrays import array_module, promoted, sum_like
from tinylm.engine.op import op


@op
def floor(x, /):
    """The largest integer that is not above x, in x's dtype."""
    return array_module(x).floor(x), None


@op
def round(x, /):
    """The nearest integer, in x's dtype; of two, the even one: 0.5 gives 0, 1.5 gives 2."""
    return array_module(x).round(x), None


@op
def floor_divide(a, b, /):
    """a // b, the floor of a / b: -7 // 2 is -4."""
    a, b = promoted(a, b)
    return array_module(a, b).floor_divide(a, b), None


@op
def remainder(a, b, /):
    """a % b = a - b (a // b), which has the sign of b: -7 % 2 is 1.  da = dy, db = -dy (a // b)."""
    a, b = promoted(a, b)
    xp = array_module(a, b)
    return xp.remainder(a, b), lambda dy: (sum_like(dy, a), sum_like(-dy * xp.floor_divide(a, b), b))
