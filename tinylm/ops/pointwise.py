"""Arithmetic and elementary functions, element by element, with NumPy's broadcasting.

Every docstring gives the value and the derivative. The gradient of a broadcast argument is summed by
`sum_to`, the adjoint of broadcasting. Derivatives at kinks follow PyTorch. Floating dtypes promote as in NumPy;
beside floating numbers, integers take their dtype (`promoted`).
"""

import math
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array, array_module, constant, is_number, promoted, raw_module, sum_like, sum_to
from tinylm.engine.op import op


@op
def add(a, b, /):
    """a + b.  da = dy, db = dy."""
    a, b = promoted(a, b)
    return a + b, lambda dy: (sum_like(dy, a), sum_like(dy, b))


@op
def subtract(a, b, /):
    """a - b.  da = dy, db = -dy."""
    a, b = promoted(a, b)
    return a - b, lambda dy: (sum_like(dy, a), sum_like(-dy, b))


@op
def multiply(a, b, /):
    """a b.  da = dy b, db = dy a."""
    a, b = promoted(a, b)

    def vjp(dy):
        return (None if is_number(a) else sum_to(dy * b, a.shape)), (None if is_number(b) else sum_to(dy * a, b.shape))

    return a * b, vjp


@op
def divide(a, b, /):
    """a / b.  da = dy / b, db = -dy a / b²."""
    a, b = promoted(a, b)

    def vjp(dy):
        da = None if is_number(a) else sum_to(dy / b, a.shape)
        return da, (None if is_number(b) else sum_to(-dy * (a / b) / b, b.shape))

    return a / b, vjp


@op
def negative(x, /):
    """-x.  dx = -dy."""
    return -x, lambda dy: (-dy,)


@op
def power(a, b, /):
    """a ** b.  da = dy b a^(b-1), db = dy a^b log a (both 0 where b = 0, db 0 where a = 0 <= b,
    NaN where a < 0)."""
    whole = not is_number(b) and b.dtype.kind != "f"  # integers as exponents have no gradient
    a, b = promoted(a, b)
    xp = array_module(a, b)
    y = a**b

    def vjp(dy):
        da = db = None
        if is_number(b):
            da = dy * (b * a ** (b - 1)) if b != 0 else xp.zeros_like(dy)
        elif not is_number(a):
            infinite = (constant(b) == 0) & ~(raw_module(y).abs(constant(a)) >= np.finfo(y.dtype).tiny)  # then 1/a is, and 0 · 1/a NaN
            da = sum_to(dy * xp.where(infinite, 0.0, b * a ** xp.where(infinite, 1, b - 1)), a.shape)
        if not is_number(b) and not whole:
            flat = (constant(a) == 0) & (constant(b) >= 0)
            base = xp.where(flat, 1.0, a)  # on b's device, also when a is a number
            base = xp.where(constant(base) < 0, math.nan, base)  # NaN, without a warning if db is not wanted
            db = sum_to(dy * xp.where(flat, 0.0, y * xp.log(base)), b.shape)
        return da, db

    return y, vjp


@op
def exp(x, /):
    """eˣ.  dx = dy y."""
    y = array_module(x).exp(x)
    return y, lambda dy: (dy * y,)


@op
def log(x, /):
    """ln x.  dx = dy / x."""
    return array_module(x).log(x), lambda dy: (dy / x,)


@op
def log1p(x, /):
    """ln(1 + x), exact for small x.  dx = dy / (1 + x)."""
    return array_module(x).log1p(x), lambda dy: (dy / (1 + x),)


@op
def sqrt(x, /):
    """√x.  dx = dy / (2 y)."""
    y = array_module(x).sqrt(x)
    return y, lambda dy: (dy / (2 * y),)


@op
def abs(x, /):
    """|x|.  dx = dy sign(x), 0 at 0."""
    xp = array_module(x)
    return xp.abs(x), lambda dy: (dy * xp.sign(x),)


@op
def sign(x, /):
    """-1, 0 or 1; its derivative is 0 wherever it exists, so nothing is recorded."""
    return array_module(x).sign(x), None


def _larger(a: Array, b: Array, y: Array) -> Any:
    """Returns the vjp of maximum and minimum: dy goes to the argument that was chosen, half to each on a tie."""
    xp = array_module(a, b)
    chosen, first, second = constant(y), constant(a), constant(b)

    def vjp(dy):
        half = xp.where(first == second, 0.5 * dy, dy)
        da = None if is_number(a) else sum_to(xp.where(first == chosen, half, 0.0), a.shape)
        return da, (None if is_number(b) else sum_to(xp.where(second == chosen, half, 0.0), b.shape))

    return vjp


@op
def maximum(a, b, /):
    """max(a, b).  dy goes to the larger one, half to each on a tie."""
    a, b = promoted(a, b)
    y = array_module(a, b).maximum(a, b)
    return y, _larger(a, b, y)


@op
def minimum(a, b, /):
    """min(a, b).  dy goes to the smaller one, half to each on a tie."""
    a, b = promoted(a, b)
    y = array_module(a, b).minimum(a, b)
    return y, _larger(a, b, y)


@op
def where(condition, a, b, /):
    """a where the boolean condition holds, else b, all broadcast to one shape.  da = dy there, db = dy elsewhere."""
    a, b = promoted(a, b)
    xp = array_module(condition, a, b)
    chosen = constant(condition)

    def vjp(dy):
        da = None if is_number(a) else sum_to(xp.where(chosen, dy, 0.0), a.shape)
        return None, da, (None if is_number(b) else sum_to(xp.where(chosen, 0.0, dy), b.shape))

    return xp.where(condition, a, b), vjp


@op
def astype(x, /, dtype):
    """x in another dtype.  dx = dy in the old dtype, None for integers."""
    old = x.dtype

    def vjp(dy):
        return ((dy.astype(old)) if old.kind == "f" else None,)

    return x.astype(dtype), vjp if np.dtype(dtype).kind == "f" else None


@op
def tanh(x, /):
    """tanh x.  dx = dy (1 - y²)."""
    y = array_module(x).tanh(x)
    return y, lambda dy: (dy * (1 - y * y),)


@op
def erf(x, /):
    """2/√π ∫₀ˣ e^(-t²) dt.  dx = dy 2/√π e^(-x²)."""
    xp = array_module(x)
    return xp.erf(x), lambda dy: (dy * (1.1283791670955126 * xp.exp(-x * x)),)


@op
def erfc(x, /):
    """1 - erf(x), without the rounding of the difference where erf(x) is nearly 1.  dx = -dy 2/√π e^(-x²)."""
    xp = array_module(x)
    return xp.erfc(x), lambda dy: (dy * (-1.1283791670955126 * xp.exp(-x * x)),)
