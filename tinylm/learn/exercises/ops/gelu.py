"""GELU, the activation of GPT: y = x Φ(x).

Φ is the probability that a standard normal number is below x, and φ its derivative:
    Φ(x) = (1 + erf(x/√2)) / 2,     φ(x) = exp(-x²/2) / √(2π).
For large x, y is almost x; for very negative x it is almost 0; between them it is smooth, unlike relu.
y is a product of two things that depend on x, so dx = dy ∂y/∂x has two terms (Hendrycks & Gimpel 2016).

xp has erf, exp and the like; for numbers use math.sqrt and math.pi: np.sqrt(2) is a float64 number that would make float64
of a float32 array. One argument: return a tuple of one, (dx,).
"""

import math

import tinylm


@tinylm.op
def gelu(x, /):
    """y = x Φ(x), element by element."""
    xp = tinylm.array_module(x)
    # >>> compute y, define vjp(dy), return y, vjp
    below = 0.5 * (1 + xp.erf(x / math.sqrt(2)))

    def vjp(dy):
        density = xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return (dy * (below + x * density),)

    return x * below, vjp
    # <<<
