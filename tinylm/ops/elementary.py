"""More functions element by element, which layers seldom need: bounds, rounding, division with a remainder, sine and cosine.

A floor or a rounded number has the derivative 0 wherever it has one, so nothing is recorded for it.
"""

import math

from tinylm.checks import as_number, shown
from tinylm.engine.arrays import array_module, constant, is_number, promoted, sum_like, sum_to
from tinylm.engine.op import op
from tinylm.errors import ConfigError


@op
def clip(x, a_min=None, a_max=None):
    """min(max(x, a_min), a_max); each bound is a number, an array that broadcasts with x, or None.

    dx = dy where a_min <= x <= a_max, da_min = dy where x < a_min < a_max, da_max = dy where x > a_max or a_max < a_min, else 0.
    Raises ConfigError for a bound that is NaN or no number."""
    for name, bound in (("a_min", a_min), ("a_max", a_max)):
        if is_number(bound) and math.isnan(as_number(bound)):
            raise ConfigError(f"clip: {name} is {shown(bound)}: expected a number, an array or None")
    x, a_min = promoted(x, a_min)
    x, a_max = promoted(x, a_max)
    x, a_min = promoted(x, a_min)
    xp = array_module(x, a_min, a_max)
    raw, least, most = constant(x), constant(a_min), constant(a_max)

    def vjp(dy):
        inside = raw == raw  # NaN passes no gradient
        if least is not None:
            inside = inside & (raw >= least)
        if most is not None:
            inside = inside & (raw <= most)
        da_min = da_max = None
        if least is not None and not is_number(least):
            da_min = sum_to(xp.where((raw < least) & (True if most is None else least < most), dy, 0.0), least.shape)
        if most is not None and not is_number(most):
            da_max = sum_to(xp.where((raw > most) | (False if least is None else most < least), dy, 0.0), most.shape)
        return sum_like(xp.where(inside, dy, 0.0), x), da_min, da_max

    return xp.clip(x, a_min, a_max), vjp


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


@op
def square(x, /):
    """x².  dx = 2 dy x."""
    return x * x, lambda dy: (2 * dy * x,)


@op
def expm1(x, /):
    """eˣ - 1, exact for small x.  dx = dy eˣ."""
    xp = array_module(x)
    return xp.expm1(x), lambda dy: (dy * xp.exp(x),)


@op
def sin(x, /):
    """sin x, x in radians.  dx = dy cos x."""
    xp = array_module(x)
    return xp.sin(x), lambda dy: (dy * xp.cos(x),)


@op
def cos(x, /):
    """cos x, x in radians.  dx = -dy sin x."""
    xp = array_module(x)
    return xp.cos(x), lambda dy: (-dy * xp.sin(x),)
