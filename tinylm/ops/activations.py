"""The nonlinear functions of neural layers, element by element."""

import math

from tinylm.checks import check_finite
from tinylm.engine.arrays import all_promoted, array_module, constant
from tinylm.engine.op import op
from tinylm.errors import ConfigError, ShapeError


@op
def identity(x, /):
    """x.  dx = dy.  Gives x a node of its own."""
    return x, lambda dy: (dy,)


@op
def sigmoid(x, /):
    """σ(x) = 1 / (1 + e^-x), without overflow.  dx = dy y (1 - y)."""
    y = array_module(x).sigmoid(x)
    return y, lambda dy: (dy * (y * (1 - y)),)


@op
def relu(x, /):
    """max(x, 0).  dx = dy where x > 0, else 0."""
    xp = array_module(x)
    return xp.maximum(x, 0), lambda dy: (dy * (constant(x) > 0),)


@op
def leaky_relu(x, /, negative_slope=0.01):
    """x where x > 0, else s x with the negative slope s.  dx = dy where x > 0, else s dy.  Maas et al. 2013.

    Raises ConfigError for a slope that is not finite.
    """
    s = check_finite("leaky_relu: negative_slope", negative_slope)
    xp, above = array_module(x), constant(x) > 0
    return xp.where(above, x, s * x), lambda dy: (xp.where(above, dy, s * dy),)


@op
def elu(x, /, alpha=1.0):
    """x where x > 0, else α (eˣ - 1).  dx = dy where x > 0, else dy α eˣ.  Clevert et al. 2015, arXiv:1511.07289.

    Raises ConfigError for an α that is not finite.
    """
    alpha = check_finite("elu: alpha", alpha)
    xp, above = array_module(x), constant(x) > 0
    below = xp.where(above, 0.0, x)  # no overflow where the other branch is taken
    return xp.where(above, x, alpha * xp.expm1(below)), lambda dy: (xp.where(above, dy, dy * (alpha * xp.exp(below))),)


@op
def softplus(x, /):
    """log(1 + eˣ) = max(x, 0) + log(1 + e^-|x|), without overflow.  dx = dy σ(x).  Dugas et al. 2000."""
    xp = array_module(x)
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))), lambda dy: (dy * xp.sigmoid(x),)


_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


@op
def gelu(x, /, approximate="none"):
    """x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    "none": Φ(x) = (1 + erf(x/√2)) / 2 = erfc(-x/√2) / 2, with derivative Φ(x) + x φ(x), φ(x) = e^(-x²/2)/√(2π). With
    erf the values far below 0 would be lost: at -8.5 it is -1 to the last bit.
    "tanh": Φ(x) ≈ (1 + t) / 2, t = tanh(u), u = √(2/π) (x + 0.044715 x³).
    """
    xp = array_module(x)
    if approximate == "tanh":
        square = x * x
        t = xp.tanh(x * (_SQRT_2_OVER_PI * (1 + 0.044715 * square)))

        def vjp_tanh(dy):
            du = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * square)
            return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * du),)

        return 0.5 * x * (1 + t), vjp_tanh
    if approximate != "none":
        raise ConfigError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
    cdf = xp.erfc(x * -_SQRT_HALF)
    cdf *= 0.5

    def vjp(dy):
        slope = xp.exp(x * x * -0.5)
        slope *= x
        slope *= _INV_SQRT_2PI
        slope += cdf
        slope *= dy
        return (slope,)

    return x * cdf, vjp


@op
def silu(x, /):
    """x σ(x), also called swish.  dx = dy σ (1 + x (1 - σ)).  Elfwing et al. 2017, arXiv:1702.03118."""
    s = array_module(x).sigmoid(x)
    return x * s, lambda dy: (dy * (s * (1 + x * (1 - s))),)


@op
def swiglu(a, b, /):
    """silu(a) b: the gate a and the values b that it scales, of one shape.  Shazeer 2020, arXiv:2002.05202, eq. 6.

    With σ = σ(a):  da = dy b σ (1 + a (1 - σ)),  db = dy a σ.
    """
    a, b = all_promoted((a, b))
    if a.shape != b.shape:
        raise ShapeError(f"swiglu: a has shape {a.shape}, b {b.shape}: expected the same")
    s = array_module(a, b).sigmoid(a)
    return a * s * b, lambda dy: (dy * b * (s * (1 + a * (1 - s))), dy * (a * s))


# What `linear` and the layers accept as `activation`.
ACTIVATIONS = {"relu": relu, "gelu": gelu, "silu": silu, "sigmoid": sigmoid}
